"""The roofline: no step is faster than its arithmetic, its memory traffic, or its number of operators allow.

S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52(4), 2009: attainable FLOP/s = min(peak FLOP/s, peak bytes/s x FLOPs per byte). Here the
bandwidth depends on how many bytes are worked on, for caches are faster than memory, and starting an operator takes
time of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Bound = Literal["compute", "memory", "overhead"]


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What a machine can do at most.

    `flops` has floating-point operations per second in products, by dtype. `bandwidth` has (bytes, bytes per second):
    for work on so many bytes, ascending. `overhead` is the least seconds that an operator takes, however small.
    Raises ValueError where there is no bandwidth, or a figure is not positive.
    """

    flops: Mapping[str, float]
    bandwidth: tuple[tuple[int, float], ...]
    overhead: float

    def __post_init__(self) -> None:
        if not self.bandwidth or list(self.bandwidth) != sorted(self.bandwidth):
            raise ValueError("bandwidth needs at least one (bytes, bytes per second), ascending")
        if min(self.overhead, *self.flops.values(), *(rate for _, rate in self.bandwidth)) <= 0:
            raise ValueError("a machine's ceilings are positive")

    def seconds_of_bytes(self, count: int) -> float:
        """The least time in which `count` bytes can be moved.

        At the best rate that was seen for as many bytes or more: what is done on a larger piece can be done on a
        smaller one. Beyond the largest size, at the rate of the largest.
        """
        sizes = [size for size, _ in self.bandwidth]
        first = min(bisect_left(sizes, count), len(sizes) - 1)
        # Between two sizes the truth is between their rates; a bound takes the better one, that of the smaller size.
        first = max(first - 1, 0) if first and count < sizes[first] else first
        return count / max(rate for _, rate in self.bandwidth[first:])


@dataclass(frozen=True, slots=True)
class Work:
    """What one operator does, `times` over: FLOPs of products in `dtype`, bytes of operands read and results
    written."""

    flops: int
    bytes: int
    dtype: str = "float32"
    times: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Roof:
    """Several operators against the ceilings.

    `compute`, `memory` and `overhead` are what each alone would take, in seconds; `seconds` is the lower bound: the sum
    over operators of the largest of the three. `unknown` has the dtypes of products that have no ceiling: those are
    taken for free, and the bound is still a bound.
    """

    flops: int
    bytes: int
    compute: float
    memory: float
    overhead: float
    seconds: float
    unknown: tuple[str, ...] = ()

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte moved; None where nothing is moved."""
        return self.flops / self.bytes if self.bytes else None

    @property
    def bound(self) -> Bound:
        """What takes longest."""
        if self.compute >= max(self.memory, self.overhead):
            return "compute"
        return "memory" if self.memory >= self.overhead else "overhead"

    def share(self, measured: float) -> float:
        """How much of what the machine allows was achieved: the bound over the measured seconds. Above 1 the bound was
        beaten: theory or calibration is wrong."""
        return self.seconds / measured


def roof(work: Iterable[Work], ceilings: Ceilings) -> Roof:
    """The lower bound of operators that run one after the other."""
    flops = moved = 0
    compute = memory = overhead = seconds = 0.0
    unknown: set[str] = set()
    for each in work:
        peak = ceilings.flops.get(each.dtype)
        if each.flops and peak is None:
            unknown.add(each.dtype)
        parts = (
            each.flops / peak if peak else 0.0,
            ceilings.seconds_of_bytes(each.bytes),
            ceilings.overhead,
        )
        flops, moved = flops + each.times * each.flops, moved + each.times * each.bytes
        compute, memory = compute + each.times * parts[0], memory + each.times * parts[1]
        overhead, seconds = overhead + each.times * parts[2], seconds + each.times * max(parts)
    return Roof(
        flops=flops,
        bytes=moved,
        compute=compute,
        memory=memory,
        overhead=overhead,
        seconds=seconds,
        unknown=tuple(sorted(unknown)),
    )


def utilization(matmul_flops: int, seconds: float, peak: float) -> float:
    """Model FLOP utilization: the products that the model needs, recomputation not counted, over what the machine could
    have done in the step's time.

    A. Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022, appendix B.
    """
    return matmul_flops / seconds / peak
