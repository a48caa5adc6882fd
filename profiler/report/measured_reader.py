"""What was measured of a step, out of a file: its memory and its seconds. Everything is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ...theory.phase import GAPS, PHASES, Phase
from ...theory.stream import CATEGORIES, Block, Event, Stream
from ..memory import Memory
from ..seconds.timing import Place, Timing
from .checked import At
from .run_schema import COLUMNS, MEMORY, TIMING

MOST_STEPS = 100_000

AtPlace: TypeAlias = Callable[[At, Any], tuple[str, Phase]]


def read_memory(at: At, content: Any, place: AtPlace) -> Memory | None:
    """A step's memory, if it was measured. `place` looks a module and phase up."""
    if content is None:
        return None
    found = at.fields(content, MEMORY)
    reserved = at["reserved"]
    pairs = [(reserved[n], reserved[n].items(row, 2)) for n, row in enumerate(reserved.items(found["reserved"]))]
    return Memory(
        stream=_stream(at, found, place),
        device=at["device"].text(found["device"]),
        reserved=tuple((at.text(name), at.integer(size)) for at, (name, size) in pairs),
        notes=at["notes"].texts(found["notes"]),
    )


def read_timing(at: At, content: Any) -> Timing | None:
    """A step's seconds, if they were measured."""
    if content is None:
        return None
    found = at.fields(content, TIMING)
    steps = at["steps"].integer(found["steps"], 1, MOST_STEPS)
    bare = at["bare"].items(found["bare"]) or at["bare"].fail("no step was timed")
    return Timing(
        bare=tuple(at["bare"][n].integer(time, 1) for n, time in enumerate(bare)),
        observed=_observed(at["observed"], found["observed"], steps),
        device=at["device"].text(found["device"]),
        predicted=at["predicted"].flag(found["predicted"]),
        notes=at["notes"].texts(found["notes"]),
    )


def _observed(at: At, table: Any, steps: int) -> tuple[Mapping[Place, int], ...]:
    found: tuple[dict[Place, int], ...] = tuple({} for _ in range(steps))
    for n, (path, what, times) in enumerate(at.rows(table, COLUMNS["observed"])):
        place: Place = at[n]["path"].text(path), at[n]["what"].one_of(what, (*PHASES, *GAPS))
        for step, time in zip(found, at[n]["nanoseconds"].items(times, steps), strict=True):
            if time is not None:
                step[place] = at[n]["nanoseconds"].integer(time)
    if not all(sum(step.values()) for step in found):
        at.fail("a step took no time")
    return found


def _stream(at: At, found: dict[str, Any], place: AtPlace) -> Stream:
    blocks = enumerate(at["blocks"].rows(found["blocks"], COLUMNS["blocks"]))
    events = enumerate(at["events"].rows(found["events"], COLUMNS["events"]))
    made = tuple(_block(at["blocks"][n], row, place) for n, row in blocks)
    listed = enumerate(at["before"].items(found["before"]))
    before = tuple(at["before"][n].integer(block, 0, len(made) - 1) for n, block in listed)
    happened = tuple(_event(at["events"][n], row, len(made), place) for n, row in events)
    try:
        return Stream(blocks=made, before=before, events=happened)
    except ValueError as error:
        at["events"].fail(str(error))


def _block(at: At, row: list[Any], place: AtPlace) -> Block:
    size, category, position, operator = row
    path, phase = place(at["place"], position)
    kind = at["category"].one_of(category, CATEGORIES)
    return Block(at["bytes"].integer(size), kind, path, phase, at["operator"].text(operator))


def _event(at: At, row: list[Any], blocks: int, place: AtPlace) -> Event:
    block, opens, position = row
    path, phase = place(at["place"], position)
    opened = bool(at["opens"].integer(opens, 0, 1))
    return Event(at["block"].integer(block, 0, blocks - 1), opened, path, phase)
