"""The bytes of a step, as an ordered stream of allocations and frees. Theory writes one, a run shows one, a prediction
replays one: all in these words.

    parameters, input ...     in place before the step: `Stream.before`
    + 524,288 conv output     an Event that opens a Block
    - 131,072 pooled          an Event that closes one

A block is one request to the allocator, with the bytes that were asked for: no rounding, no cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal, get_args

from .phase import Phase

Category = Literal[
    "parameters",
    "buffers",
    "input",
    "activations",
    "saved",
    "activation gradients",
    "parameter gradients",
    "optimizer state",
    "temporaries",
    "workspace",
    "unattributed",
]
"""What a block is for.

parameters            learnable tensors of the model
buffers               its other tensors: running statistics, counters
input                 tensors that the step was given: images, labels
activations           results of forward that autograd does not keep
saved                 kept by autograd for backward: inputs, outputs, indices, masks, statistics
activation gradients  gradients of anything but parameters
parameter gradients   what ends as, or is added to, a parameter's `.grad`
optimizer state       kept between steps by the optimizer: momentum, moments, step counts
temporaries           none of the above, and live from one operator to a later one: an optimizer's intermediate results
workspace             opened and closed inside one operator: scratch memory, which belongs to a backend
unattributed          seen, and not explained
"""

CATEGORIES: tuple[Category, ...] = get_args(Category)


@dataclass(frozen=True, slots=True)
class Block:
    """One request to the allocator. `path` and `phase` are of the module and phase that asked; `operator` is the
    operator it was asked in ("aten.convolution"), "" outside any or where the witness does not say."""

    bytes: int
    category: Category
    path: str
    phase: Phase
    operator: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """A block is opened or closed, while the module at `path` was in `phase`. `block` is a place in `Stream.blocks`."""

    block: int
    opens: bool
    path: str
    phase: Phase


@dataclass(frozen=True)
class Stream:
    """Blocks, those that were there `before` (places in `blocks`), and what happened to them, in order.

    Raises ValueError where a block is opened twice, closed before it is open, or not there at all.
    """

    blocks: tuple[Block, ...]
    before: tuple[int, ...]
    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        ever, live = set(self.before), set(self.before)
        for number, event in enumerate(self.events):
            if not 0 <= event.block < len(self.blocks):
                raise ValueError(f"event {number} is of block {event.block}, and there are {len(self.blocks)} blocks")
            if event.opens and event.block in ever:
                raise ValueError(f"event {number} opens a block for the second time: {self.blocks[event.block]}")
            if not event.opens and event.block not in live:
                raise ValueError(f"event {number} closes a block that is not open: {self.blocks[event.block]}")
            ever.add(event.block)
            (live.add if event.opens else live.discard)(event.block)

    @cached_property
    def live_bytes(self) -> tuple[int, ...]:
        """Bytes open before the first event, and after each: one figure more than there are events."""
        first = sum(self.blocks[place].bytes for place in self.before)
        return tuple(accumulate((self.signed(event) for event in self.events), initial=first))

    def signed(self, event: Event) -> int:
        """The event's bytes: negative where a block is closed."""
        size = self.blocks[event.block].bytes
        return size if event.opens else -size

    @property
    def peak_bytes(self) -> int:
        """The most bytes that were open together."""
        return max(self.live_bytes)

    @property
    def peak_index(self) -> int:
        """How many events had happened when the peak was first reached."""
        return self.live_bytes.index(self.peak_bytes)

    def live(self, index: int | None = None) -> tuple[Block, ...]:
        """The blocks open after the first `index` events: at the peak, unless told. In the order they were opened."""
        open_now = dict.fromkeys(self.before)
        for event in self.events[: self.peak_index if index is None else index]:
            if event.opens:
                open_now[event.block] = None
            else:
                del open_now[event.block]
        return tuple(self.blocks[place] for place in open_now)

    def bill(self, index: int | None = None) -> dict[tuple[str, Category], int]:
        """Bytes open after `index` events (at the peak, unless told) by module path and category. They add up to
        `live_bytes` there, exactly."""
        bytes_of: dict[tuple[str, Category], int] = {}
        for block in self.live(index):
            key = block.path, block.category
            bytes_of[key] = bytes_of.get(key, 0) + block.bytes
        return bytes_of

    def without(self, *categories: Category) -> Stream:
        """The stream without the blocks of these categories: `without("workspace")` is the framework's part."""
        kept = {place for place, block in enumerate(self.blocks) if block.category not in categories}
        return Stream(
            blocks=self.blocks,
            before=tuple(place for place in self.before if place in kept),
            events=tuple(event for event in self.events if event.block in kept),
        )
