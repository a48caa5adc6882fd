"""What operators take inside a training step, and what the step takes besides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from torch import nn

from ..capture.clock import Clock
from ..profile import profile
from ..records import OperatorFacts, Phase, Trace
from .curves import Sample
from .features import features, undispatched

Place = tuple[str, Phase, str]

_NANOSECOND = 1e-9


@dataclass
class Learnt:
    """Gathered over networks. `rests` has seconds by the name of an overhead (see `Machine`)."""

    samples: list[Sample] = field(default_factory=list)
    rests: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def overheads(self) -> dict[str, float]:
        return {name: median(found) for name, found in self.rests.items()}

    def learn(self, model: nn.Module, step: Callable[[], Any], *, repeats: int, clock: Clock | None = None) -> None:
        """Count a step of the model, and take the time of some more."""
        clock = clock or Clock(model)
        step()
        with profile(model) as counted:
            step()
        step()  # memory is again as a step leaves it
        for _ in range(repeats):
            clock.observe(step)
        self.take(counted.trace, clock)

    def take(self, trace: Trace, clock: Clock) -> None:
        """What was counted, and what the clock saw of the same step."""
        seconds = _medians(clock.operators())
        facts = _by_place(trace.operators)
        for place, found in facts.items():
            self.samples += _samples(found, seconds.get(place, []))
        self._rests(trace, facts, seconds)
        spent = clock.spent()
        operators = sum(len(found) for (_, phase, _), found in facts.items() if phase == "backward")
        autograd = median(step.get(("", "autograd"), 0) for step in spent)
        self.rests["autograd"].append(autograd * _NANOSECOND / max(operators, 1))
        self.rests["python"].append(median(step.get(("", "python"), 0) for step in spent) * _NANOSECOND)

    def _rests(
        self, trace: Trace, facts: Mapping[Place, list[OperatorFacts]], seconds: Mapping[Place, list[float]]
    ) -> None:
        """Time in a module or node, and in none of its operators."""
        operators: dict[tuple[str, Phase], int] = defaultdict(int)
        for (path, phase, _), found in facts.items():
            operators[path, phase] += sum(each.times for each in found)
        calls: dict[tuple[str, Phase], int] = defaultdict(int)
        for call in trace.calls:
            calls[call.path, call.phase] += call.times
        gradients: dict[str, int] = defaultdict(int)
        for gradient in trace.gradients:
            gradients[gradient.path] += gradient.of == "parameter"
        for (path, phase, name), (*_, rest) in seconds.items():
            if name:
                continue
            if phase == "accumulation":
                if gradients[path]:
                    self.rests["gradient"].append(rest / gradients[path])
            elif operators[path, phase]:
                self.rests[f"operator {phase}"].append(rest / operators[path, phase])
            elif calls[path, phase]:
                self.rests["call"].append(rest / calls[path, phase])


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
