"""A step's memory as moments to draw: what was live by category, and the event that led there.

Moment n is the state after n events. A long step is thinned to the highest and lowest moment of each stretch, so that
no peak is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ....theory.stream import CATEGORIES, Stream
from ...memory import Memory
from .alignment import positions
from .columns import Json, words
from .tables import bill_table

MOST = 1_600
"""Moments in a picture: one for each of its pixels is enough."""


def memory_view(memory: Memory, beside: Memory | None = None) -> Json:
    """The stacked areas of one memory, and the outline of another, laid over it layer by layer."""
    stream = memory.stream
    chosen = thinned(stream.live_bytes, MOST)
    before = [stream.events[moment - 1] if moment else None for moment in chosen]
    blocks = [None if event is None else stream.blocks[event.block] for event in before]
    return {
        "device": memory.device,
        "events": len(stream.events),
        "moments": chosen,
        "live": _by_category(stream, chosen),
        "paths": words("path", (None if event is None else event.path for event in before)),
        "phases": words("phase", (None if event is None else event.phase for event in before)),
        "operators": words("operator", (None if block is None else block.operator for block in blocks)),
        "changed": words("category", (None if block is None else block.category for block in blocks)),
        "changes": [0 if event is None else stream.signed(event) for event in before],
        "peak": _peak(memory),
        "reserved": [list(each) for each in memory.reserved],
        "notes": list(memory.notes),
        "bill": bill_table(memory),
        "beside": None if beside is None else _outline(memory, beside),
    }


def thinned(live: Sequence[int], most: int) -> list[int]:
    """At most about that many places of a curve, in order: its ends, its peak, and each stretch's extremes."""
    if len(live) <= most:
        return list(range(len(live)))
    stretches = most // 2
    edges = [number * len(live) // stretches for number in range(stretches + 1)]
    kept = {0, len(live) - 1, live.index(max(live))}
    for start, end in pairwise(edges):
        places = range(start, end)
        kept |= {max(places, key=live.__getitem__), min(places, key=live.__getitem__)}
    return sorted(kept)


def _by_category(stream: Stream, chosen: Sequence[int]) -> dict[str, list[int]]:
    """Live bytes at those moments, of each category that the stream has, in the order of `CATEGORIES`."""
    wanted = set(chosen)
    found = [state for moment, state in enumerate(_states(stream)) if moment in wanted]
    return {name: [state.get(name, 0) for state in found] for name in CATEGORIES if any(name in each for each in found)}


def _states(stream: Stream) -> Iterator[dict[str, int]]:
    """Live bytes by category, before the first event and after each."""
    held: dict[str, int] = {}
    for place in stream.before:
        block = stream.blocks[place]
        held[block.category] = held.get(block.category, 0) + block.bytes
    yield dict(held)
    for event in stream.events:
        category = stream.blocks[event.block].category
        held[category] = held.get(category, 0) + stream.signed(event)
        yield dict(held)


def _peak(memory: Memory) -> Json:
    """`framework_bytes` is the most without workspaces, which may be at another moment: what two runs on different
    backends, or a closed form, can be held against."""
    peak = memory.peak
    by_category: dict[str, int] = {}
    for (_, category), size in memory.stream.bill().items():
        by_category[category] = by_category.get(category, 0) + size
    return {
        "bytes": peak.bytes,
        "framework_bytes": memory.stream.without("workspace").peak_bytes,
        "moment": peak.index,
        "path": peak.path,
        "phase": peak.phase,
        "operator": peak.operator,
        "categories": by_category,
    }


def _outline(memory: Memory, beside: Memory) -> Json:
    """The other's live bytes at moments of this one."""
    live = beside.stream.live_bytes
    chosen = thinned(live, MOST)
    places = positions(beside.stream.events, memory.stream.events)
    return {
        "moments": [places[moment] for moment in chosen],
        "live": [live[moment] for moment in chosen],
        "peak": {**_peak(beside), "moment": places[beside.peak.index]},
    }
