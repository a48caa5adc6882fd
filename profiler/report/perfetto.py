"""A step's memory as a trace for Perfetto and chrome://tracing: phases, modules, and bytes by category.

The format is Chrome's Trace Event Format (JSON). It wants times, and a stream of allocations has only an order: event
number n stands at n microseconds, and the file says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from ...theory.stream import Stream
from ..memory import Memory

Record = dict[str, Any]

CLOCK = "no clock: 1 us is one allocation or free, in order"

_PROCESS, _PHASES, _MODULES = 1, 1, 2


def perfetto_json(memory: Memory) -> str:
    """Two tracks of slices, phases and modules, each module inside the one it is in; a counter of live bytes, and one
    for each category."""
    records = [*_names(memory), *_phases(memory.stream), *_modules(memory.stream), *_counters(memory.stream)]
    content = {
        "traceEvents": records,
        "otherData": {"clock": CLOCK, "device": memory.device, "peak_bytes": memory.peak_bytes},
    }
    return json.dumps(content, separators=(",", ":")) + "\n"


def _names(memory: Memory) -> Iterator[Record]:
    yield _metadata("process_name", 0, f"torchtally: one step on {memory.device}; {CLOCK}")
    yield _metadata("thread_name", _PHASES, "phases")
    yield _metadata("thread_name", _MODULES, "modules")


def _metadata(what: str, thread: int, name: str) -> Record:
    return {"ph": "M", "name": what, "pid": _PROCESS, "tid": thread, "args": {"name": name}}


def _phases(stream: Stream) -> Iterator[Record]:
    for phase, found in groupby(enumerate(stream.events), key=lambda pair: pair[1].phase):
        times = [time for time, _ in found]
        yield _slice(_PHASES, phase, times[0], times[-1] + 1, {})


def _modules(stream: Stream) -> Iterator[Record]:
    """A module's slice lasts as long as events are in it, or in modules inside it, in one phase."""
    started: list[tuple[str, int]] = []  # (path, time) of the slices that are open, outermost first
    phase = ""
    for time, event in enumerate(stream.events):
        now = _path_and_parents(event.path)
        kept = _common([path for path, _ in started], now) if event.phase == phase else 0
        yield from _closed(started, kept, time, phase)
        started += [(path, time) for path in now[kept:]]
        phase = event.phase
    yield from _closed(started, 0, len(stream.events), phase)


def _closed(started: list[tuple[str, int]], kept: int, time: int, phase: str) -> Iterator[Record]:
    while len(started) > kept:
        path, since = started.pop()
        yield _slice(_MODULES, path.rpartition(".")[2], since, time, {"path": path, "phase": phase})


def _path_and_parents(path: str) -> list[str]:
    """`a.b` -> `a`, `a.b`. What the model does itself is in no slice but the phase's."""
    steps = path.split(".") if path else []
    return [".".join(steps[: count + 1]) for count in range(len(steps))]


def _common(before: Sequence[str], now: Sequence[str]) -> int:
    """How many leading paths are the same."""
    return sum(1 for old, new in zip(before, now, strict=False) if old == new)


def _slice(thread: int, name: str, start: int, end: int, args: Record) -> Record:
    return {"ph": "X", "name": name, "pid": _PROCESS, "tid": thread, "ts": start, "dur": end - start, "args": args}


def _counters(stream: Stream) -> Iterator[Record]:
    held: dict[str, int] = {}
    for place in stream.before:
        block = stream.blocks[place]
        held[block.category] = held.get(block.category, 0) + block.bytes
    yield from _counted(0, {**held, "live": stream.live_bytes[0]})
    for time, (event, live) in enumerate(zip(stream.events, stream.live_bytes[1:], strict=True)):
        category = stream.blocks[event.block].category
        held[category] = held.get(category, 0) + stream.signed(event)
        yield from _counted(time, {category: held[category], "live": live})


def _counted(time: int, figures: dict[str, int]) -> Iterable[Record]:
    return (
        {"ph": "C", "name": f"{name} bytes", "pid": _PROCESS, "ts": time, "args": {"bytes": size}}
        for name, size in figures.items()
    )
