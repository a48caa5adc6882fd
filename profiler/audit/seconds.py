"""The claims of computing work, asked of a clock: FLOPs and seconds are different claims, and both are given.

A reading is a list of numbers, one for each turn in which the steps were timed; its median is what was measured, and
half of all turns lie within its spread. What calibration foresees is read alike, from one turn that was never taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from ...models.cnn import CNNConfig
from ...theory.claims.arithmetic import in_words
from ...theory.claims.records import Claim
from ..compare import ComparisonRow
from ..seconds.timing import NOISY, Place, Sample, Timing
from ..verdict import Verdict
from .claim_row import ClaimRow
from .kinds import kind_of, leaves_of
from .variants import Variant, checkpointed, enlarged, separable, widened

Turn = Mapping[Place, int]
"""Nanoseconds of one observed step, by module path and phase."""

TimingOf = Callable[[Variant], Timing]

_Reading = Callable[[Claim, Variant, TimingOf], list[float]]

TURNS = 15
"""In which each step is taken once as it is, and once observed."""

_FORWARD = ("forward",)
_BACKWARD = ("backward", "accumulation")
_PHASES = {"forward": _FORWARD, "backward": _BACKWARD}
_BOTH = (*_FORWARD, *_BACKWARD)


def _spent(turn: Turn, layer: str = "", phases: Collection[str] = _BOTH) -> int:
    """Of a layer, block or kind; of all modules, for ""."""
    paths = {path for path, _ in turn}
    inside = paths if not layer else set(leaves_of(layer, paths))
    return sum(spent for (path, phase), spent in turn.items() if path in inside and phase in phases)


# What the step is compared with -----------------------------------------------------------------------------------


def _with(change: Callable[[CNNConfig], CNNConfig]) -> Callable[[Variant], Variant]:
    return lambda step: replace(step, config=change(step.config))


def _mixed(step: Variant) -> Variant:
    return replace(step, autocast="bfloat16")


_separable, _enlarged, _widened, _checkpointed = map(_with, (separable, enlarged, widened, checkpointed))
_COMPARED = (_separable, _mixed, _enlarged, _widened, _checkpointed)


def variants_of(step: Variant) -> tuple[Variant, ...]:
    """The step and those that claims set beside it; each must be timed, in as many turns."""
    return (step, *(change(step) for change in _COMPARED))


# Figures ----------------------------------------------------------------------------------------------------------


def _share(claim: Claim, step: Variant, timing_of: TimingOf) -> list[float]:
    """Per cent: of a kind, of its pass; of a pass, of both."""
    phases = _PHASES[claim.phase]
    whole = phases if claim.layer else _BOTH
    turns = timing_of(step).observed
    return [100 * _spent(turn, claim.layer, phases) / _spent(turn, phases=whole) for turn in turns]


def _backward_to_forward(claim: Claim, step: Variant, timing_of: TimingOf) -> list[float]:
    turns = timing_of(step).observed
    return [_spent(turn, claim.layer, _BACKWARD) / _spent(turn, claim.layer, _FORWARD) for turn in turns]


def _reduction(claim: Claim, step: Variant, timing_of: TimingOf) -> list[float]:
    """Forward of all convolutions, as it is over depthwise-separable."""
    dense, separable = (timing_of(each).observed for each in (step, _separable(step)))
    return [
        _spent(one, claim.layer, _FORWARD) / _spent(other, claim.layer, _FORWARD)
        for one, other in zip(dense, separable, strict=True)
    ]


def _over(above: Variant, below: Variant, timing_of: TimingOf) -> list[float]:
    """Of whole steps that nobody looked at."""
    return [one / other for one, other in zip(timing_of(above).bare, timing_of(below).bare, strict=True)]


def _growth(change: Callable[[Variant], Variant]) -> _Reading:
    return lambda _, step, timing_of: _over(change(step), step, timing_of)


def _saved(change: Callable[[Variant], Variant]) -> _Reading:
    return lambda _, step, timing_of: _over(step, change(step), timing_of)


# The claimed quantity -> what it is called of seconds, and how it is read.
_FIGURES: Mapping[str, tuple[str, _Reading]] = {
    "flops_share": ("seconds_share", _share),
    "backward_to_forward_flops": ("backward_to_forward_seconds", _backward_to_forward),
    "depthwise_separable_flops_reduction": ("depthwise_separable_seconds_reduction", _reduction),
    "half_precision_memory_reduction": ("half_precision_seconds_reduction", _saved(_mixed)),
    "resolution_doubled_flops_ratio": ("resolution_doubled_seconds_ratio", _growth(_enlarged)),
    "channels_doubled_flops_ratio": ("channels_doubled_seconds_ratio", _growth(_widened)),
}


# Rules ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Margin:
    """A rule as a number that is above 1 where it holds, and what that number is."""

    over_one: Callable[[Variant, TimingOf], list[float]]
    meaning: str


def _of_each_turn(margin: Callable[[Turn], float]) -> Callable[[Variant, TimingOf], list[float]]:
    return lambda step, timing_of: [margin(turn) for turn in timing_of(step).observed]


def _dominance(turn: Turn) -> float:
    convolutions = _spent(turn, "kind:convolution")
    return convolutions / (_spent(turn) - convolutions)


def _bottleneck(turn: Turn) -> float:
    """The lesser of Conv2 and Conv3 over the dearest of all other layers."""
    two, three = (_spent(turn, f"block{n}.conv") for n in (2, 3))
    others = {path for path, _ in turn if kind_of(path)} - {"block2.conv", "block3.conv"}
    return min(two, three) / max(_spent(turn, path) for path in others)


def _middle_to_early(turn: Turn) -> float:
    first, *others = (_spent(turn, f"block{n}") for n in (1, 2, 3))
    return min(others) / first


_MIDDLE = _Margin(_of_each_turn(_middle_to_early), "the cheaper of blocks 2 and 3 takes {} of block 1's seconds")

_RULES: Mapping[str, _Margin] = {
    "convolution.dominates": _Margin(_of_each_turn(_dominance), "convolutions take {} of all other layers' seconds"),
    "convolution.bottlenecks": _Margin(
        _of_each_turn(_bottleneck), "the cheaper of Conv2 and Conv3 takes {} of the dearest other layer's seconds"
    ),
    "convolution.early_layers": _MIDDLE,
    "convolution.middle_layers": _MIDDLE,
    "checkpointing.trades_computation_for_memory": _Margin(
        lambda step, timing_of: _over(_checkpointed(step), step, timing_of),
        "a step with each block recomputed takes {} of the plain step's seconds",
    ),
}


# Rows -------------------------------------------------------------------------------------------------------------


def seconds_rows(
    entries: Iterable[ClaimRow], step: Variant, timing_of: TimingOf, foreseen: TimingOf | None = None
) -> list[ClaimRow]:
    """Of the judged claims those that speak of computing, asked of the clock. `foreseen` is what calibration makes of
    the same steps, where this machine was calibrated.

    A claim holds where it admits all that lies within the spread, and is `within` where it admits a part. What spreads
    too far is not measured. Where a claim of FLOPs does not hold in seconds the document did not say that it would: it
    is contradicted as a claim of seconds.
    """
    return [row for entry in entries for row in _rows_of(entry, step, timing_of, foreseen)]


def _rows_of(entry: ClaimRow, step: Variant, timing_of: TimingOf, foreseen: TimingOf | None) -> Iterable[ClaimRow]:
    claim = entry.claim
    if claim.quantity in _FIGURES and claim.phase != "training":
        quantity, read = _FIGURES[claim.quantity]
        found = Sample(tuple(read(claim, step, timing_of)))
        expected = None if foreseen is None else read(claim, step, foreseen)[0]
        seen = in_words(Fraction(found.median), claim.unit)
        yield _row(entry, quantity, found.median, expected, _judged(claim, found), f"{seen}, {_around(found)}")
    elif claim.quantity == "rule" and claim.value in _RULES:
        rule = _RULES[str(claim.value)]
        found = Sample(tuple(rule.over_one(step, timing_of)))
        holds = None if foreseen is None else _holds(rule.over_one(step, foreseen)[0] > 1)
        seen = rule.meaning.format(f"{found.median:.3g}x")
        yield _row(
            entry, "rule_of_seconds", _holds(found.median > 1), holds, _above_one(found), f"{seen}, {_around(found)}"
        )


_OF_MEMORY = ("half_precision_memory_reduction", "checkpointing.trades_computation_for_memory")


def _judged(claim: Claim, found: Sample) -> Verdict:
    whole = 100 if claim.unit == "percent" else found.median
    if found.spread > NOISY * whole:
        return "not measured"
    low, high = found.median - found.spread, found.median + found.spread
    admitted = [claim.agrees(Fraction(each)) for each in (low, found.median, high)]
    return "agrees" if all(admitted) else "within" if any(admitted) else "contradicted"


def _above_one(found: Sample) -> Verdict:
    if found.spread > NOISY * found.median or abs(found.median - 1) <= found.spread:
        return "not measured"
    return "agrees" if found.median > 1 else "contradicted"


def _holds(answer: bool) -> str:
    return "holds" if answer else "does not hold"


def _around(found: Sample) -> str:
    return f"give or take {found.spread:.2g} over {len(found.seconds)} turns"


def _row(
    entry: ClaimRow, quantity: str, measured: float | str, theory: float | str | None, verdict: Verdict, seen: str
) -> ClaimRow:
    claim, exact = entry.claim, entry.row
    itself = in_words(exact.count if exact.count is not None else exact.measured, claim.unit)  # type: ignore[arg-type]
    of = "memory" if claim.quantity in _OF_MEMORY or claim.value in _OF_MEMORY else "FLOPs"
    row = ComparisonRow(
        path=claim.layer,
        phase=claim.phase,
        quantity=quantity,
        claim=claim.printed,
        theory=theory,
        measured=measured,
        verdict=verdict,
        wrong="claim" if verdict == "contradicted" else None,
        reason=f"of {of}: {itself}; of seconds: {seen}",
    )
    return ClaimRow(claim=claim, row=row, cause="")
