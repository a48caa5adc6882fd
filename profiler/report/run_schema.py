"""How a run is kept as JSON, version 1.

    {"torchtally": "run", "schema": 1, "version": "0.1.0",
     "environment": {"torch": "2.11.0", ...}, "second_order": false, "notes": [],
     "tensors": [["float32", 32, 3, 224, 224], ...],        a dtype and a shape
     "places": [["layer1.0.conv1", "forward"], ...],        a module path and a phase
     "modules": {"columns": ["path", "type", ...], "rows": [["", "ResNet", ...], ...]}, ...}

Rows name tensors, places, signatures and blocks by their positions. The facts are kept, not their prices: a file is
priced when it is read, by the table of whoever reads it. `prices` has figures only for signatures that the table did
not price so: formulas are code, which no file carries. `layers` are the closed forms, by kind and settings. `memory`
and `timing` are null where they were not measured.

The version is raised when an older reader would misread; readers keep reading all versions before their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ... import theory

KIND = "run"
SCHEMA = 1

SECTIONS = (
    "torchtally",
    "schema",
    "version",
    "environment",
    "second_order",
    "notes",
    "tensors",
    "places",
    "modules",
    "calls",
    "signatures",
    "operators",
    "gradients",
    "saved",
    "saved_unknown",
    "prices",
    "layers",
    "memory",
    "timing",
)

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "modules": ("path", "type", "training", "parameters", "buffers"),
    "calls": ("place", "inputs", "inputs_need_grad", "outputs", "own_outputs", "times"),
    "signatures": ("operator", "arguments", "keywords", "outputs"),
    "operators": ("place", "signature", "times"),
    "gradients": ("path", "of", "name", "tensor", "times"),
    "saved": ("place", "role", "tensor", "bytes", "times"),
    "prices": ("signature", "flops", "matmul_flops", "bias_flops"),
    "layers": ("path", "kind", "settings"),
    "blocks": ("bytes", "category", "place", "operator"),
    "events": ("block", "opens", "place"),
    "observed": ("path", "what", "nanoseconds"),
}
"""Of each table. A module's parameters and buffers are lists of [name, tensor, identity, trainable]."""

TIMING = ("device", "predicted", "notes", "steps", "bare", "observed")
"""`observed` has a row per place, with a figure per step: null in a step that was not there."""

MEMORY = ("device", "reserved", "notes", "blocks", "before", "events")


def layer_kinds() -> dict[str, Any]:
    """Name -> closed form: all kinds of layer that theory has. A file names one of these, never code."""
    public = (getattr(theory, name) for name in theory.__all__)
    return {
        kind.__name__: kind
        for kind in public
        if isinstance(kind, type)
        and dataclasses.is_dataclass(kind)
        and hasattr(kind, "saved")
        and hasattr(kind, "buffers")
    }
