"""Machines kept: a file for each machine, library version and setting, in the user's cache folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..cache import cache_path, processor
from ..environment import environment
from ..errors import MachineError
from .record import FORMAT, Machine, from_json, to_json


def this_machine(device: str = "cpu") -> dict[str, Any]:
    """All that could change how fast it is, as far as it can be told."""
    facts = {"format": FORMAT, **environment(device), "processor": processor()}
    if device == "cpu":
        facts["mkldnn"] = torch.backends.mkldnn.enabled
    elif device == "cuda":
        facts |= {f"cudnn_{name}": getattr(torch.backends.cudnn, name) for name in ("benchmark", "deterministic")}
    return facts


def path_of(about: dict[str, Any]) -> Path:
    """Where the calibration of that machine is kept."""
    return cache_path("machine", about)


def load(about: dict[str, Any]) -> Machine:
    """The calibration of that machine. Raises MachineError where there is none, or it cannot be read: with the file's
    name and what to do."""
    path = path_of(about)
    again = f"torchtally.calibrate({'' if about['device'] == 'cpu' else repr(about['device'])})"
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise MachineError(
            f"this machine was not calibrated for torch {about['torch']} on {about['device']} with {about['threads']} "
            f"threads: run {again}, which takes a few minutes"
        ) from None
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise MachineError(f"{path} is no calibration ({error}): run {again} again") from error


def save(machine: Machine) -> Path:
    """Keep it, whole or not at all; where. Raises MachineError where that fails."""
    from ..report.files import write_atomically

    path = path_of(dict(machine.environment))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(to_json(machine)) + "\n")
    except (OSError, ValueError) as error:
        raise MachineError(f"the calibration could not be kept: {error}") from error
    return path
