"""What benchmarks share: a device or a clear line, and results written whole."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from torchtally.profiler.environment import environment
from torchtally.profiler.report.files import write_atomically

FOLDER = Path(__file__).parent / "results"


def device_or_exit(device: str) -> None:
    """End with one clear line where the device is not there."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        print(f"no device {device!r} here: nothing was measured")
        sys.exit(0)


def write_results(name: str, table: str, content: dict[str, Any], device: str) -> None:
    """benchmarks/results/NAME.md and, with the raw samples, NAME.json; both name device, versions, command."""
    facts = {**environment(device), "date": datetime.now(UTC).date().isoformat()}
    command = "python benchmarks/" + shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    heading = ", ".join(f"{key} {value}" for key, value in facts.items())
    write_atomically(FOLDER / f"{name}.md", f"# {name}\n\n{heading}\n\n    {command}\n\n{table}\n")
    write_atomically(
        FOLDER / f"{name}.json", json.dumps({"environment": facts, "command": command, **content}, indent=1)
    )
