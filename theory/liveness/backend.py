"""What a backend can be asked: what operators need for themselves, on some device in some build."""

from __future__ import annotations

from typing import Protocol

from ..optimizers import Operation
from .calls import Call
from .script import Script


class Backend(Protocol):
    """A script for an operator, or None: no scratch memory, and the results in the order in which aten returns them."""

    def forward(self, call: Call) -> Script | None:
        """A layer's forward. Results: "output", and what its rule gives `also`."""
        ...

    def backward(self, call: Call, *, flows: bool) -> Script | None:
        """Its node in backward. Results: "input" (where the gradient `flows` on), "weight", "bias"."""
        ...

    def update(self, operation: Operation) -> Script | None:
        """One operator of an optimizer. Result: the operation's `result`, if it has one."""
        ...
