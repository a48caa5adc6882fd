"""What operators take inside a training step, and what the step takes besides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from torch import nn

from ..capture.clock import Clock
from ..capture.spent import Spent
from ..profile import profile
from ..records import OperatorFacts, Phase, Trace
from .curves import Sample
from .features import features, undispatched
from .overheads import Overheads, kind_of_rest, spread_over

Place = tuple[str, Phase, str]

_NANOSECOND = 1e-9


@dataclass
class Learnt:
    """Gathered over networks. `rests` are named as the overheads of a `Machine`."""

    samples: list[Sample] = field(default_factory=list)
    rests: Overheads = field(default_factory=Overheads)

    @property
    def overheads(self) -> dict[str, float]:
        """By the names of a `Machine`. Observing was part of all that was timed, and is taken back."""
        return {
            name: -seconds if name.endswith("observing") else seconds for name, seconds in self.rests.lines().items()
        }

    def learn(self, model: nn.Module, step: Callable[[], Any], *, repeats: int, clock: Clock | None = None) -> None:
        """Count a step of the model, and take the time of some more; on the CPU, where no clock is given."""
        clock = clock or Clock(model)
        step()
        with profile(model) as counted:
            step()
        step()  # memory is again as a step leaves it
        bare = []
        for _ in range(repeats):
            bare.append(clock.bare(step))
            clock.observe(step)
        self.take(counted.trace, clock, bare)

    def take(self, trace: Trace, clock: Clock, bare: Sequence[int]) -> None:
        """What was counted, and what the clock saw of the same step; `bare` are the nanoseconds of it when nobody
        looked. Of a CUDA device operators alone: what a step takes besides is the host's, and see `launching.py` for
        that."""
        seconds = _medians(clock.operators())
        facts = _by_place(trace.operators)
        for place, found in facts.items():
            self.samples += _samples(found, seconds.get(place, []))
        if clock.device == "cuda":
            return
        self._rests(trace, clock.spent(), seconds, median(bare))

    def _rests(self, trace: Trace, steps: Sequence[Spent], seconds: Mapping[Place, list[float]], bare: float) -> None:
        """Time in a module or node, and in none of its operators; and between them all."""
        counts: dict[str, int] = defaultdict(int)
        for name, _, times in spread_over(trace):
            counts[name] += times
        rests: dict[str, float] = defaultdict(float)
        working = {(facts.path, facts.phase) for facts in trace.operators}
        for (path, phase, name), (*_, rest) in seconds.items():
            if not name:
                rests[kind_of_rest(path, phase, working)] += rest
        for gap in ("autograd", "python"):
            rests[gap] = median(step.get(("", gap), 0) for step in steps) * _NANOSECOND
        rests["observing"] = (median(sum(step.values()) for step in steps) - bare) * _NANOSECOND
        for name, rest in rests.items():
            self.rests.add(name, counts.get(name, 0), rest)


def _medians(steps: Iterable[Mapping[Place, list[int]]]) -> dict[Place, list[float]]:
    """Seconds of each call over the steps; of places that each step came by equally often."""
    found: dict[Place, list[list[int]]] = defaultdict(list)
    for step in steps:
        for place, calls in step.items():
            found[place].append(calls)
    return {
        place: [median(each) * _NANOSECOND for each in zip(*calls, strict=True)]
        for place, calls in found.items()
        if len({len(each) for each in calls}) == 1
    }


def _by_place(operators: Iterable[OperatorFacts]) -> dict[Place, list[OperatorFacts]]:
    found: dict[Place, list[OperatorFacts]] = defaultdict(list)
    for facts in operators:
        found[facts.path, facts.phase, undispatched(facts.signature.operator)].append(facts)
    return found


def _samples(facts: list[OperatorFacts], seconds: list[float]) -> Iterable[Sample]:
    """Where it is known which call was which: all of one signature, or each signature called once, in order."""
    if len(seconds) != sum(each.times for each in facts):
        return
    if len(facts) == 1:
        yield Sample(features(facts[0].signature), median(seconds))
    elif all(each.times == 1 for each in facts):
        yield from (Sample(features(each.signature), took) for each, took in zip(facts, seconds, strict=True))
