"""Which gradients really arrive in backward, and that without a hook on any tensor or node.

A module's input or output gets its gradient at the node that made it. A call notes that place; the walk over the
graph, as a backward pass begins, says at which places a gradient will arrive and which nodes give it; and when the
pass has ended, they have. Autograd itself holds a gradient to the shape and dtype of the tensor that it is of.

Places and recipients are plain integers: thousands of small tuples, kept alive over a step, would make Python's garbage
collector run through everything in the middle of it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import islice
from typing import Literal

from torch import Tensor

PLACES = 2**10  # of gradients at one node; a node with more outputs is only told apart up to here
_POSITIONS = 2**12  # of tensors in one call's inputs or outputs

# Places kept. Graphs that never run backward leave theirs behind: the oldest half is then forgotten.
LIMIT = 2**16

Arrivals = dict[int, int | list[int]]
"""Place -> the number of the node that gives the gradient there, or of several."""

Kind = Literal[0, 1, 2]
OUTPUT: Kind = 0
INPUT: Kind = 1
PASSED: Kind = 2  # an input that is handed on as an output, untouched


def place(number: int, position: int) -> int:
    """Where a gradient arrives: at the node of that number, as its gradient of that position."""
    return number * PLACES + min(position, PLACES - 1)


def leaf_place(leaf: Tensor) -> int:
    """The same for a leaf, whose node has no number."""
    return -id(leaf)


def recipient(call: int, position: int, kind: Kind) -> int:
    """A call's input or output, by position, as one integer."""
    return (call * 3 + kind) * _POSITIONS + min(position, _POSITIONS - 1)


def of_recipient(recipient: int) -> tuple[int, int, int]:
    """The call, the kind, and the position."""
    rest, position = divmod(recipient, _POSITIONS)
    call, kind = divmod(rest, 3)
    return call, kind, position


class ExpectedGradients:
    """Places where gradients are expected, by recipient, and the tally of those that arrived."""

    def __init__(self) -> None:
        self.arrived: dict[int, int] = {}  # recipient -> times
        self._waiting: dict[int, int | list[int]] = {}
        self._served: set[int] = set()  # arrived, and kept for another backward over the same graph
        self._leaves: dict[int, weakref.ref[Tensor]] = {}

    def place_of(self, tensor: Tensor) -> int:
        """Where the gradient of a tensor that needs one will arrive."""
        node = tensor.grad_fn
        if node is not None:
            return node._sequence_nr() * PLACES + tensor.output_nr
        where = -id(tensor)
        known = self._leaves.get(where)
        if known is None or known() is not tensor:  # an identity is used again after its tensor has died
            self._waiting.pop(where, None)
            if len(self._leaves) >= LIMIT:
                self._leaves = {where: leaf for where, leaf in self._leaves.items() if leaf() is not None}
            self._leaves[where] = weakref.ref(tensor)
        return where

    def add(self, where: int, recipient: int) -> None:
        """Expect a gradient there."""
        waiting = self._waiting
        others = waiting.get(where)
        if others is None:
            if len(waiting) >= LIMIT:
                self._forget_oldest()
            waiting[where] = recipient
        elif where in self._served:  # a leaf, used in a new graph
            self._served.discard(where)
            waiting[where] = recipient
        elif isinstance(others, list):
            others.append(recipient)
        else:
            waiting[where] = [others, recipient]

    def expected_at(self, where: int) -> list[int]:
        """The recipients that wait there."""
        found = self._waiting.get(where, [])
        return found if isinstance(found, list) else [found]

    def arrive(
        self,
        arrivals: Arrivals,
        owner_of_node: Callable[[int], int],
        owner_of_call: Callable[[int], int],
        *,
        kept: bool,
    ) -> None:
        """Gradients have arrived at these places, each from the nodes of these numbers.

        An output has its gradient whoever gave it; an input only where the very module that took it gave one. `kept` is
        said of a graph that is kept, so that more may arrive.
        """
        waiting, arrived = self._waiting, self.arrived
        take = waiting.get if kept else waiting.pop
        for where, givers in arrivals.items():
            found = take(where, None)
            if found is None:
                continue
            if kept:
                self._served.add(where)
            elif self._served:
                self._served.discard(where)
            for each in found if isinstance(found, list) else (found,):
                call, kind, _ = of_recipient(each)
                if kind == INPUT:
                    owner = owner_of_call(call)
                    numbers = givers if isinstance(givers, list) else (givers,)
                    if all(owner_of_node(number) != owner for number in numbers):
                        continue
                arrived[each] = arrived.get(each, 0) + 1

    def _forget_oldest(self) -> None:
        for where in list(islice(self._waiting, LIMIT // 2)):
            del self._waiting[where]
            self._served.discard(where)
