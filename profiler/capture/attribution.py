"""Whose work is it? Who works in which phase, and the table from autograd sequence numbers to owners.

The table is a step function: an owner holds all numbers from the entry it pushed up to the next entry. Entering or
leaving a module pushes one entry; where no node was made in between, the later entry replaces the earlier. A look-up is
a bisection. Owners are small integers: a module's index, or one of the two below.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..records import Phase

NOBODY: Final = -1  # inside the block, but in no module of the model: the loss, or other work
BEFORE: Final = -2  # a node made before the block was entered, or forgotten (see `LIMIT`)

# Entries kept. At 16 bytes each this bounds the table at 16 MiB however many steps a block runs; a graph from more
# than half a million calls ago is no longer looked up.
LIMIT: Final = 2**20

_NO_END: Final = 2**64  # above all sequence numbers


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """Whose work, and in which phase; `index` is its place among the slots."""

    owner: int
    phase: Phase
    index: int


class Slots:
    """The slots there are, one object each: found by identity, where a tuple would be hashed at every operator."""

    __slots__ = ("_known", "all")

    def __init__(self) -> None:
        self.all: list[Slot] = []
        self._known: dict[tuple[int, Phase], Slot] = {}

    def of(self, owner: int, phase: Phase) -> Slot:
        """The one slot of that owner and phase."""
        slot = self._known.get((owner, phase))
        if slot is None:
            slot = self._known[owner, phase] = Slot(owner, phase, len(self.all))
            self.all.append(slot)
        return slot


class SequenceTable:
    """Sequence number -> owner of the call in which the node was made."""

    __slots__ = ("_owners", "_starts", "last")

    def __init__(self) -> None:
        self.last = -1  # the number at which the latest entry begins
        self._starts = array("q")
        self._owners = array("q")

    def push(self, number: int, owner: int) -> None:
        """From `number` on, nodes belong to `owner`. Numbers must not decrease."""
        if number == self.last:
            self._owners[-1] = owner
            return
        starts = self._starts
        if len(starts) >= LIMIT:
            del starts[: LIMIT // 2]
            del self._owners[: LIMIT // 2]
        self.last = number
        starts.append(number)
        self._owners.append(owner)

    def owner(self, number: int) -> int:
        """The owner of the node with this number; BEFORE where the table does not reach back to it."""
        at = bisect_right(self._starts, number) - 1
        return self._owners[at] if at >= 0 else BEFORE

    def owners(self, numbers: Iterable[int]) -> dict[int, int]:
        """The same for many numbers, which must ascend: one bisection where the owner changes."""
        starts, found = self._starts, {}
        at, end, owner = 0, -1, BEFORE
        for number in numbers:
            if number >= end:
                at = bisect_right(starts, number, at)
                owner = self._owners[at - 1] if at else BEFORE
                end = starts[at] if at < len(starts) else _NO_END
            found[number] = owner
        return found

    def __len__(self) -> int:
        return len(self._starts)
