"""Whose work is it? The stack of open module calls, and the table from autograd sequence numbers to owners.

The table is a step function: an owner holds all numbers from the entry it pushed up to the next entry. Entering or
leaving a module pushes one entry; where no node was made in between, the later entry replaces the earlier. A look-up is
a bisection. Owners are small integers: a module's index, or one of the two below.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

NOBODY: Final = -1  # inside the block, but in no module of the model: the loss, or other work
BEFORE: Final = -2  # a node made before the block was entered, or forgotten (see `LIMIT`)

# Entries kept. At 16 bytes each this bounds the table at 16 MiB however many steps a block runs; a graph from more
# than half a million calls ago is no longer looked up.
LIMIT: Final = 2**20


class SequenceTable:
    """Sequence number -> owner of the call in which the node was made."""

    __slots__ = ("_owners", "_starts")

    def __init__(self) -> None:
        self._starts = array("q")
        self._owners = array("q")

    def push(self, number: int, owner: int) -> None:
        """From `number` on, nodes belong to `owner`. Numbers must not decrease."""
        starts = self._starts
        if starts and starts[-1] == number:
            self._owners[-1] = owner
            return
        if len(starts) >= LIMIT:
            del starts[: LIMIT // 2]
            del self._owners[: LIMIT // 2]
        starts.append(number)
        self._owners.append(owner)

    def owner(self, number: int) -> int:
        """The owner of the node with this number; BEFORE where the table does not reach back to it."""
        at = bisect_right(self._starts, number) - 1
        return self._owners[at] if at >= 0 else BEFORE

    @property
    def last(self) -> int:
        """The number at which the latest entry begins; 0 where there is none."""
        return self._starts[-1] if self._starts else 0

    def __len__(self) -> int:
        return len(self._starts)
