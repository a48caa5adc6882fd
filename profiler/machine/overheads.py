"""What a step takes besides its operators' own work: so much for each of something, and so much at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from itertools import combinations
from statistics import median

from ..records import Phase, Trace
from ..seconds.timing import Place


def spread_over(trace: Trace) -> Iterator[tuple[str, Place, int]]:
    """What a step spends time on besides: the name of the overhead (see `Machine`), where, and how often."""
    working = {(facts.path, facts.phase) for facts in trace.operators}
    for facts in trace.operators:
        yield f"operator {facts.phase}", (facts.path, facts.phase), facts.times
        yield "observing", (facts.path, facts.phase), facts.times
        if facts.phase == "backward":
            yield "autograd", ("", "autograd"), facts.times
    for call in trace.calls:
        if (call.path, call.phase) not in working:
            yield "call", (call.path, call.phase), call.times
    for gradient in trace.gradients:
        if gradient.of == "parameter":
            yield "gradient", (gradient.path, "accumulation"), gradient.times
            yield "python", ("", "python"), gradient.times


def kind_of_rest(path: str, phase: Phase, working: Collection[tuple[str, Phase]]) -> str:
    """The name of the overhead that time in a module and phase, and in no operator, is of. `working` are those with
    operators."""
    if phase == "accumulation":
        return "gradient"
    return f"operator {phase}" if (path, phase) in working else "call"


class Overheads:
    """Seconds beside how many there were of something, in steps of many networks.

    A line through them has what each takes, and what is taken at all: code that runs the first time in a step is not in
    the caches any more. The line is Theil's and Sen's, which some steps that were disturbed do not move.
    """

    def __init__(self) -> None:
        self._points: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def add(self, name: str, count: int, seconds: float) -> None:
        """In one network's step, for `count` of them. Of none nothing is learnt."""
        if count:
            self._points[name].append((count, seconds))

    def lines(self) -> dict[str, float]:
        """`name` has the seconds of each, `once NAME` those that a step with any of them takes besides."""
        found = {}
        for name, points in self._points.items():
            found[name], found[f"once {name}"] = _line(points)
        return found


def _line(points: list[tuple[int, float]]) -> tuple[float, float]:
    """Slope, and height at 0; neither below 0."""
    slopes = [(late - early) / (many - few) for (few, early), (many, late) in combinations(points, 2) if many != few]
    if not slopes:  # all of one size: nothing tells them apart
        return median(seconds / count for count, seconds in points), 0.0
    slope = max(median(slopes), 0.0)
    return slope, max(median(seconds - slope * count for count, seconds in points), 0.0)
