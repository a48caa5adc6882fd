"""Which results a real step writes into its first argument, though the replayed step makes them anew.

While a dispatch mode is active, tensors may be of any kind, and PyTorch's composite operators and its autograd engine
do not write into those. Else they do, wherever nobody but themselves holds the tensor: a bias is added into a product,
a gradient into the one it meets, and zeros that were made for it are filled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from .autograd import current_node
from .followed import Call, Followed

SUM = "aten.add.Tensor"

_FILLS = frozenset(
    f"aten.{name}"
    for name in ("index_put.default", "index_add.default", "scatter.src", "scatter.value", "scatter_add.default")
)
_STEPS = ("aten.sub.Tensor", "aten.mul.Tensor", "aten.div.Tensor")  # of the backward of the loss below
_LOSS_WITH_LOGITS = "BinaryCrossEntropyWithLogitsBackward0"
_ZEROS = ("aten.new_zeros", "aten.zeros")
_PRODUCTS = ("aten.mm", "aten.bmm", "aten.mv", "aten._unsafe_view")

# The operator that a real step calls instead.
WRITTEN = {name: "{}.{}_.{}".format(*name.split(".")) for name in (SUM, *_STEPS, *_FILLS)}


class InPlace:
    """Tells them by who holds the tensor. `block_of` gives a tensor's block."""

    def __init__(self, block_of: Callable[[Tensor], Followed | None]) -> None:
        self._block_of = block_of
        self._alone: set[tuple[int, int, int]] = set()  # references to a tensor that only such code holds
        self.counting = False

    def count_references(self) -> None:
        """Find out, inside the modes, how many references a tensor has that nobody else holds: in autograd's engine,
        and in a composite operator."""
        self.counting = True
        try:
            x = torch.zeros(2, requires_grad=True)
            y = x.exp()
            (y.exp() + y.sin()).sum().backward()
            nn.functional.linear(torch.zeros(2, 2, 2).transpose(0, 1), torch.zeros(2, 2, requires_grad=True), x)
        finally:
            self.counting = False

    def note(self, name: str, args: Any) -> None:
        """One operator of those that `count_references` runs."""
        if name == SUM and (current_node() is not None or self._made_by(args[0]) in _PRODUCTS):
            self._alone.add(_references(args))

    def would_write(self, name: str, node: Any, args: Any, last: Call | None) -> bool:
        """Whether a real step would write the result of this call into its first argument. `node` is the one autograd
        is running, `last` the call before."""
        if not isinstance(args[0], Tensor):
            return False
        if name in _FILLS:
            made = self._block_of(args[0])
            return node is not None and made is not None and made.made_by is last and made.operator in _ZEROS
        if _references(args) not in self._alone:
            return False
        if node is None:  # a bias or a mask, added to a product
            return name == SUM and self._made_by(args[0]) in _PRODUCTS
        if torch.is_grad_enabled() or isinstance(node, BackwardCFunction):
            return False
        if node.name() == _LOSS_WITH_LOGITS:
            return name != SUM
        return name == SUM and _same_shape(args) and _is_dense(args[0])  # gradients that meet

    def _made_by(self, tensor: Tensor) -> str:
        block = self._block_of(tensor)
        return "" if block is None else block.operator


def _references(args: Any) -> tuple[int, int, int]:
    """Of the first argument, in one place, so that the figures can be compared: of C++, of Python, of its storage."""
    first = args[0]
    storage = torch._C._storage_Use_Count(first.untyped_storage()._cdata)
    return first._use_count(), sys.getrefcount(first), storage


def _same_shape(args: Any) -> bool:
    return isinstance(args[1], Tensor) and args[0].shape == args[1].shape


def _is_dense(tensor: Tensor) -> bool:
    """Whether its elements lie side by side, in whatever order of dimensions, none of them twice."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
