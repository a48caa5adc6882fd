"""Where a run took place: everything that could explain a difference between two of them."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from .precision import tf32


def environment(device: torch.device | str | None = None) -> dict[str, Any]:
    """Library versions, machine and device, as plain values for JSON."""
    chosen = torch.device(device) if device is not None else torch.device("cpu")
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": chosen.type,
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
    }
    if chosen.type == "cpu":
        facts["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    elif chosen.type == "cuda":
        facts["device_name"] = torch.cuda.get_device_name(chosen)
        facts["compute_capability"] = ".".join(map(str, torch.cuda.get_device_capability(chosen)))
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()
        facts |= {f"tf32_{name}": allowed for name, allowed in tf32().items()}
    return facts
