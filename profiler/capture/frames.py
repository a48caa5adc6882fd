"""Open module calls, and what calls inside them have returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from .attribution import Slot
from .calls import Own, Seen

# Knows a tensor without keeping it alive: no other gets its address meanwhile. Unlike Python's own weak references, it
# is nothing for the garbage collector to look at.
held: Callable[[Tensor], Any] = torch._C._WeakTensorRef  # type: ignore[attr-defined]

_ROOM = 64


class Given:
    """What calls inside a call returned: recent ones by weak references, few at a time; older ones, that lived on,
    by address, each `held`. No tensor lives longer than it would.
    """

    __slots__ = ("_older", "_recent", "_room")

    def __init__(self) -> None:
        self._recent: list[ref[Tensor]] = []
        self._older: dict[int, Any] = {}
        self._room = _ROOM

    def add(self, reference: ref[Tensor]) -> None:
        """A call inside has returned that tensor."""
        recent = self._recent
        recent.append(reference)
        if len(recent) >= _ROOM:
            self._settle()

    def _settle(self) -> None:
        """Forget those that have died, so that a long call has no more references than tensors live."""
        older = self._older
        for reference in self._recent:
            tensor = reference()
            if tensor is not None:
                older[tensor._cdata] = held(tensor)
        self._recent.clear()
        if len(older) >= self._room:
            self._older = {address: tensor for address, tensor in older.items() if not tensor.expired()}
            self._room = 2 * len(self._older) + _ROOM

    def lacks(self, tensors: Sequence[Tensor]) -> Own:
        """Which of them no inner call returned: the very tensors, whatever was written into them since."""
        recent, older = {id(reference()) for reference in self._recent}, self._older
        return tuple([id(tensor) not in recent and not (older and tensor._cdata in older) for tensor in tensors])


class Frame:
    """One open module call. It is filled in where it is made: an `__init__` would be one more call for each."""

    __slots__ = ("expected", "given", "inputs", "module", "slot", "task")

    module: nn.Module
    slot: Slot
    task: int  # the backward pass inside which the call started, if any
    inputs: Seen
    # Where the inputs' gradients will arrive, and each one's position. An inner call that is given the same tensor
    # takes the entry over: the gradient is then its, not ours.
    expected: dict[int, int] | None
    given: Given | None  # None before there was an inner call that ended
