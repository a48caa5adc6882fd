"""One step's events laid along another's: where both come to the same layer in the same phase, they stand together."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from ....theory.stream import Event

Visit = tuple[str, str, int]
"""A path, a phase, and how often both had been there before."""


def positions(events: Sequence[Event], along: Sequence[Event]) -> list[float]:
    """For each moment of `events`, before the first and after each, the moment of `along` at which it belongs.

    Visits that both have are anchors, as many as keep their order; between them moments are spread evenly.
    """
    ours, theirs = visits(events), visits(along)
    common = [(start, theirs[visit]) for visit, start in ours.items() if visit in theirs]
    anchors = [(0, 0), *_rising(common), (len(events), len(along))]
    starts = [start for start, _ in anchors]
    return [_between(anchors, bisect_right(starts, moment), moment) for moment in range(len(events) + 1)]


def visits(events: Sequence[Event]) -> dict[Visit, int]:
    """Where the step comes to a layer in a phase, and how many events were before that."""
    found: dict[Visit, int] = {}
    times: dict[tuple[str, str], int] = {}
    last = None
    for number, event in enumerate(events):
        here = (event.path, event.phase)
        if here != last:
            found[*here, times.get(here, 0)] = number
            times[here] = times.get(here, 0) + 1
        last = here
    return found


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most pairs whose second parts rise as their first ones do: a longest increasing subsequence."""
    tails: list[int] = []  # of the best chain of each length, where it ends
    ends: list[int] = []  # the same, as places in `pairs`
    before: list[int | None] = []
    for number, (_, value) in enumerate(pairs):
        length = bisect_left(tails, value)
        before.append(ends[length - 1] if length else None)
        tails[length : length + 1], ends[length : length + 1] = [value], [number]
    chain, place = list[tuple[int, int]](), ends[-1] if ends else None
    while place is not None:
        chain.append(pairs[place])
        place = before[place]
    return chain[::-1]


def _between(anchors: Sequence[tuple[int, int]], after: int, moment: int) -> float:
    """Evenly between the anchor before and the one after."""
    (start, low), (end, high) = anchors[after - 1], anchors[min(after, len(anchors) - 1)]
    return float(low) if end <= start else round(low + (high - low) * (moment - start) / (end - start), 3)
