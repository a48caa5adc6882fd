"""A machine as it was found by calibration: a value, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...theory.roofline import Ceilings
from .curves import Curves, Sample
from .features import Features

FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one machine does, with these libraries and settings.

    `ceilings` are the best that was seen; `samples` what operators took inside training steps; `overheads` what a step
    takes besides, in seconds: `operator forward` for each operator of a phase, outside its own work; `call` for each
    call of a module that has no operators; `gradient` for each parameter whose gradient arrives; the gaps `autograd`
    for each operator of backward and `python` for each such parameter; `observing`, below 0, for each operator: what
    the clock took itself, which is in all the others. With `once` before it, what a step with any of them takes
    whatever their number. Of a CUDA device, samples are of kernels, and overheads what the host takes to
    launch them: `launch forward` and `launch backward` for each operator, `launch optimizer` for each parameter.
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
