"""Which gradients really arrive in backward, and that without a hook on any tensor or node.

A module's input or output gets its gradient at the node that made it. A call notes that place; the walk over the
graph, as a backward pass begins, says at which places a gradient will arrive and which nodes give it; and when the
pass has ended, they have. Autograd itself holds a gradient to the shape and dtype of the tensor that it is of.

Places and recipients are plain integers: thousands of small tuples, kept alive over a step, would make Python's garbage
collector run through everything in the middle of it.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Literal

from torch import Tensor

PLACES = 2**10  # of gradients at one node; a node with more outputs is only told apart up to here
_POSITIONS = 2**12  # of tensors in one call's inputs or outputs

# Places kept. Graphs that never run backward leave theirs behind: the oldest half is then forgotten.
LIMIT = 2**16

Arrivals = dict[int, int | list[int]]
"""Place -> the number of the node that gives the gradient there, or of several."""

Kind = Literal[1, 2, 3]
OUTPUT: Kind = 1
INPUT: Kind = 2
PASSED: Kind = 3  # an input that is handed on as an output, untouched

_LAST = _POSITIONS - 1
_FIRST_OUTPUT, _FIRST_INPUT = OUTPUT * _POSITIONS, INPUT * _POSITIONS  # of a call

# Several recipients that wait at one place are one integer too, of so many bits each. None is 0.
_BITS = 64
_ONE = 2**_BITS - 1


def place(number: int, position: int) -> int:
    """Where a gradient arrives: at the node of that number, as its gradient of that position."""
    return number * PLACES + min(position, PLACES - 1)


def leaf_place(leaf: Tensor) -> int:
    """The same for a leaf, whose node has no number."""
    return -id(leaf)


def note(arrivals: Arrivals, where: int, giver: int) -> None:
    """A gradient will arrive there from that node; one that gives two there is one giver."""
    others = arrivals.setdefault(where, giver)
    if others != giver:
        arrivals[where] = [*others, giver] if isinstance(others, list) else [others, giver]


def of_recipient(recipient: int) -> tuple[int, int, int]:
    """The call, the kind, and the position, that are one integer."""
    rest, position = divmod(recipient, _POSITIONS)
    call, kind = divmod(rest, 4)
    return call, kind, position


class ExpectedGradients:
    """Places where gradients are expected, by recipient, and the tally of those that arrived.

    Calls only list what they expect. Most of it arrives in the next pass; what does not is then sorted by place.
    """

    def __init__(self) -> None:
        self.arrived: dict[int, int] = {}  # recipient -> times
        self._listed = array("q")  # place, recipient, place, recipient ...
        self._waiting: dict[int, int] = {}  # place -> who waits there, in `_BITS` each
        self._served: set[int] = set()  # arrived, and kept for another backward over the same graph
        self._leaves: dict[int, weakref.ref[Tensor]] = {}

    def place_of(self, tensor: Tensor) -> int:
        """Where the gradient of a tensor that needs one will arrive."""
        node = tensor.grad_fn
        if node is not None:
            return node._sequence_nr() * PLACES + tensor.output_nr
        where = leaf_place(tensor)
        known = self._leaves.get(where)
        if known is None or known() is not tensor:  # an identity is used again after its tensor has died
            self._sort()
            self._waiting.pop(where, None)
            if len(self._leaves) >= LIMIT:
                self._leaves = {where: leaf for where, leaf in self._leaves.items() if leaf() is not None}
            self._leaves[where] = weakref.ref(tensor)
        return where

    def add(self, where: int, call: int, position: int, kind: Kind) -> None:
        """Expect a gradient there, for a call's input or output of that position."""
        self._listed.append(where)
        self._listed.append((call * 4 + kind) * _POSITIONS + min(position, _LAST))

    def add_call(self, call: int, inputs: dict[int, int] | None, outputs: Iterable[tuple[int, int]]) -> None:
        """The same for the outputs of a call (position and place) and its inputs (place and position), those first
        that it handed on as outputs."""
        for position, where in outputs:
            if inputs and where in inputs:
                self.add(where, call, inputs.pop(where), PASSED)
            self.add(where, call, position, OUTPUT)
        for where, position in (inputs or {}).items():
            self.add(where, call, position, INPUT)
        if len(self._listed) >= 2 * LIMIT:
            self._sort()

    def add_one(self, call: int, inputs: dict[int, int] | None, output: int) -> None:
        """The same for a call that gave one tensor."""
        if inputs and (output in inputs or len(inputs) > 1):
            self.add_call(call, inputs, ((0, output),))
            return
        listed, first = self._listed, call * (4 * _POSITIONS)
        listed.append(output)
        listed.append(first + _FIRST_OUTPUT)
        if inputs:
            ((where, position),) = inputs.items()
            listed.append(where)
            listed.append(first + _FIRST_INPUT + position)
        if len(listed) >= 2 * LIMIT:
            self._sort()

    def expected_at(self, where: int) -> Iterator[int]:
        """The recipients that wait there."""
        self._sort()
        return _each(self._waiting.get(where, 0))

    def arrive(
        self,
        arrivals: Arrivals,
        owners_of_nodes: Mapping[int, int],
        owner_of_call: Callable[[int], int],
        *,
        kept: bool,
    ) -> None:
        """Gradients have arrived at these places, each from the nodes of these numbers.

        An output has its gradient whoever gave it; an input only where the very module that took it gave one. `kept` is
        said of a graph that is kept, so that more may arrive.
        """
        arrived = self.arrived
        for recipient, givers in self._due(arrivals, kept):
            if recipient // _POSITIONS & 3 == INPUT:
                owner = owner_of_call(recipient // (4 * _POSITIONS))
                if isinstance(givers, int):
                    gave = owners_of_nodes[givers] == owner
                else:
                    gave = any(owners_of_nodes[giver] == owner for giver in givers)
                if not gave:
                    continue
            arrived[recipient] = arrived.get(recipient, 0) + 1

    def _due(self, arrivals: Arrivals, kept: bool) -> Iterator[tuple[int, int | list[int]]]:
        """Who has waited for these arrivals, and the givers of each; they no longer wait, unless the graph is kept."""
        if kept or self._served:
            self._sort()
        for where in self._waiting.keys() & arrivals.keys():
            for recipient in _each(self._waiting[where] if kept else self._waiting.pop(where)):
                yield recipient, arrivals[where]
            if kept:
                self._served.add(where)
            else:
                self._served.discard(where)
        listed, self._listed = self._listed, array("q")
        for where, recipient in _pairs(listed):
            givers = arrivals.get(where)
            if givers is None:
                self._wait(where, recipient)
            else:
                yield recipient, givers

    def _sort(self) -> None:
        """Sort by place all that is listed."""
        for where, recipient in _pairs(self._listed):
            self._wait(where, recipient)
        self._listed = array("q")

    def _wait(self, where: int, recipient: int) -> None:
        waiting = self._waiting
        others = waiting.get(where)
        if others is None:
            if len(waiting) >= LIMIT:
                self._forget_oldest()
            waiting[where] = recipient
        elif where < 0 and where in self._served:  # a leaf, used in a new graph
            self._served.discard(where)
            waiting[where] = recipient
        else:
            waiting[where] = others << _BITS | recipient

    def _forget_oldest(self) -> None:
        for where in list(islice(self._waiting, LIMIT // 2)):
            del self._waiting[where]
            self._served.discard(where)


def _each(waiting: int) -> Iterator[int]:
    while waiting:
        yield waiting & _ONE
        waiting >>= _BITS


def _pairs(listed: array[int]) -> Iterator[tuple[int, int]]:
    each = iter(listed)
    return zip(each, each, strict=True)
