"""What benchmarks share: a device or a clear line, and results written whole."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import torch

from torchtally.profiler.environment import environment
from torchtally.profiler.report.files import write_atomically

DEVICE = click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
THREADS = click.option("--threads", type=click.IntRange(min=1), help="Of torch; its own choice if left out.")
KEEP_MEMORY = click.option(
    "--keep-memory", is_flag=True, help="glibc gives no memory back to the system, here and in every process."
)
FOLDER = Path(__file__).parent / "results"


def device_or_exit(device: str) -> None:
    """End with one clear line where the device is not there."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        print(f"no device {device!r} here: nothing was measured")
        sys.exit(0)


def settle(threads: int | None, keep_memory: bool) -> None:
    """How this process and those that it starts run; results name it.

    glibc reads its thresholds when a process begins. By default it returns the heap's end to the system now and then,
    and a step that gets it back pays a fault a page: often more than its arithmetic, and differently in each process.
    """
    if threads:
        torch.set_num_threads(threads)
    if keep_memory:
        os.environ.update({"MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_MMAP_THRESHOLD_": str(2**36)})


def where(device: str) -> dict[str, Any]:
    """Device, driver and versions: all that figures depend on."""
    facts = environment(device)
    for package in ("torchvision", "transformers"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**facts, "driver": driver()} if facts["device"] == "cuda" else facts


def driver(run: Callable[..., Any] = subprocess.run) -> str:
    """The version of NVIDIA's driver, as its own tool has it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):
        said = []
    return said[0] if said else "not known: nvidia-smi does not say"


def write_results(name: str, table: str, content: dict[str, Any], device: str) -> None:
    """benchmarks/results/NAME.md and, with the raw samples, NAME.json; both name device, versions, command."""
    facts = {**where(device), "date": datetime.now(UTC).date().isoformat()}
    command = "python benchmarks/" + shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    heading = ", ".join(f"{key} {value}" for key, value in facts.items())
    write_atomically(FOLDER / f"{name}.md", f"# {name}\n\n{heading}\n\n    {command}\n\n{table}\n")
    write_atomically(
        FOLDER / f"{name}.json", json.dumps({"environment": facts, "command": command, **content}, indent=1)
    )
