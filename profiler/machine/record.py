"""A machine as it was found by calibration: a value, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...theory.roofline import Ceilings
from .curves import Curves, Sample
from .features import Features

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one machine does, with these libraries and settings.

    `ceilings` are the best that was seen; `samples` what operators took inside training steps; `overheads` what a step
    takes besides, in seconds: `call` for each module call, `operator` for each operator outside its own work, by phase
    (`operator forward`), `gradient` for each parameter whose gradient arrives, `autograd` for each operator of
    backward, `python` for a step.
    """

    environment: Mapping[str, Any]
    ceilings: Ceilings
    samples: tuple[Sample, ...]
    overheads: Mapping[str, float]

    @cached_property
    def curves(self) -> Curves:
        """Of the samples."""
        return Curves(self.samples)


def to_json(machine: Machine) -> dict[str, Any]:
    """Plain values."""
    ceilings = machine.ceilings
    return {
        "format": FORMAT,
        "environment": dict(machine.environment),
        "ceilings": {
            "flops": dict(ceilings.flops),
            "bandwidth": [list(point) for point in ceilings.bandwidth],
            "overhead": ceilings.overhead,
        },
        "overheads": dict(machine.overheads),
        "samples": [
            [each.features.kind, each.features.family, each.features.work, list(each.features.sizes), each.seconds]
            for each in machine.samples
        ],
    }


def from_json(content: Any) -> Machine:
    """What `to_json` wrote. Raises ValueError, TypeError or LookupError for anything else."""
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, not {FORMAT}")
    ceilings = content["ceilings"]
    return Machine(
        environment=dict(content["environment"]),
        ceilings=Ceilings(
            flops={str(dtype): float(rate) for dtype, rate in ceilings["flops"].items()},
            bandwidth=tuple((int(size), float(rate)) for size, rate in ceilings["bandwidth"]),
            overhead=float(ceilings["overhead"]),
        ),
        overheads={str(name): float(seconds) for name, seconds in content["overheads"].items()},
        samples=tuple(
            Sample(Features(kind, family, int(work), tuple(map(float, sizes))), float(seconds))
            for kind, family, work, sizes, seconds in content["samples"]
        ),
    )
