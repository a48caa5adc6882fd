"""Which gradients really arrive in backward, and that without a hook on any tensor or node.

A module's input or output gets its gradient at the node that made it. A call notes that place, and when a backward pass
begins, the walk over its graph says at which places a gradient will arrive. Autograd itself holds a gradient to the
shape and dtype of the tensor that it is of.

Places and recipients are plain integers: thousands of small tuples, kept alive over a step, would make Python's garbage
collector run through everything in the middle of it.
"""

from __future__ import annotations

from itertools import islice

from torch import Tensor

PLACES = 2**10  # of gradients at one node; a node with more outputs is only told apart up to here
_POSITIONS = 2**12  # of tensors in one call's inputs or outputs

# Places kept. Graphs that never run backward leave theirs behind: the oldest half is then forgotten.
LIMIT = 2**16


def place(number: int, position: int) -> int:
    """Where a gradient arrives: at the node of that number, as its gradient of that position."""
    return number * PLACES + min(position, PLACES - 1)


def leaf_place(leaf: Tensor) -> int:
    """The same for a leaf, whose node has no number."""
    return -id(leaf)


def place_of(tensor: Tensor) -> int:
    """Where the gradient of a tensor that needs one will arrive."""
    node = tensor.grad_fn
    return -id(tensor) if node is None else node._sequence_nr() * PLACES + tensor.output_nr


def recipient(call: int, position: int, *, is_input: bool) -> int:
    """A call's input or output, by position, as one integer."""
    return (call * 2 + is_input) * _POSITIONS + min(position, _POSITIONS - 1)


def of_recipient(recipient: int) -> tuple[int, bool, int]:
    """The call, whether it is an input, and the position."""
    rest, position = divmod(recipient, _POSITIONS)
    call, is_input = divmod(rest, 2)
    return call, bool(is_input), position


class ExpectedGradients:
    """Places where gradients are expected, by recipient, and the tally of those that arrived."""

    def __init__(self) -> None:
        self.arrived: dict[int, int] = {}  # recipient -> times
        self._waiting: dict[int, int | tuple[int, ...]] = {}
        self._served: set[int] = set()  # arrived, and kept for another backward over the same graph

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
        else:
            waiting[where] = (*others, recipient) if isinstance(others, tuple) else (others, recipient)

    def arrive(self, where: int, *, kept: bool) -> None:
        """A gradient arrives there; `kept` where the graph is kept, so that another may."""
        found = self._waiting.get(where) if kept else self._waiting.pop(where, None)
        if found is None:
            return
        if kept:
            self._served.add(where)
        elif self._served:
            self._served.discard(where)
        arrived = self.arrived
        for recipient in found if isinstance(found, tuple) else (found,):
            arrived[recipient] = arrived.get(recipient, 0) + 1

    def _forget_oldest(self) -> None:
        for where in list(islice(self._waiting, LIMIT // 2)):
            del self._waiting[where]
            self._served.discard(where)
