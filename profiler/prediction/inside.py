"""What one call of an operator does with memory while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..capture.forms import Layout, from_json


@dataclass(frozen=True, slots=True)
class Inside:
    """Blocks by their `sizes`, and in `events` what happened to them in order: n + 1 where block n is opened, -1 - n
    where it is closed.

    `results` has, for every tensor that the call returned, the block of its memory; None where that was there before.
    `layouts` has what those tensors look like.
    `numbers` are the blocks that were opened before the operator began: Python's numbers, made into tensors.
    """

    sizes: tuple[int, ...]
    events: tuple[int, ...]
    results: tuple[int | None, ...]
    numbers: tuple[int, ...] = ()
    layouts: tuple[Layout, ...] = ()

    def __post_init__(self) -> None:
        opened = [event - 1 for event in self.events if event > 0]
        closed = [-1 - event for event in self.events if event < 0]
        blocks = range(len(self.sizes))
        named = [*(result for result in self.results if result is not None), *self.numbers, *closed]
        if sorted(opened) != [*blocks] or len(set(closed)) != len(closed) or not set(named) <= set(blocks):
            raise ValueError(f"these are not the events of a call: {self.events}")

    @classmethod
    def read(cls, content: Any) -> Inside:
        """From what `dataclasses.asdict` and JSON made of one. Raises ValueError, TypeError or KeyError for others."""
        return cls(
            sizes=tuple(map(int, content["sizes"])),
            events=tuple(map(int, content["events"])),
            results=tuple(None if block is None else int(block) for block in content["results"]),
            numbers=tuple(map(int, content["numbers"])),
            layouts=from_json(content["layouts"]),
        )
