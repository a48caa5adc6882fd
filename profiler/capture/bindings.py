"""The quickest way to run an operator from Python.

An `OpOverload` matches its arguments to its schema at run time, boxes them and calls the dispatcher; PyTorch's own
bindings of the functions that users call have a parser for each, and call it directly: a third less, at every operator.
Both arrive at the same operator with the same arguments. That is so for those listed here, called with positional
arguments, and tested for each of them; a binding of another name may resolve to another overload (`torch.mul(x, 2)` is
not `aten.mul.Scalar`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch._ops import OpOverload

_FUNCTIONS = torch._C._VariableFunctions  # what torch.mm and others are
_METHODS = torch._C.TensorBase

BINDINGS: Final[dict[str, Callable[..., Any]]] = {
    # Views
    "aten.detach.default": _FUNCTIONS.detach,
    "aten.expand.default": _METHODS.expand,
    "aten.permute.default": _FUNCTIONS.permute,
    "aten.select.int": _FUNCTIONS.select,
    "aten.squeeze.dim": _FUNCTIONS.squeeze,
    "aten.t.default": _FUNCTIONS.t,
    "aten.transpose.int": _FUNCTIONS.transpose,
    "aten.unsqueeze.default": _FUNCTIONS.unsqueeze,
    "aten.view.default": _METHODS.view,
    # Products
    "aten.addmm.default": _FUNCTIONS.addmm,
    "aten.baddbmm.default": _FUNCTIONS.baddbmm,
    "aten.bmm.default": _FUNCTIONS.bmm,
    "aten.convolution.default": _FUNCTIONS.convolution,
    "aten.mm.default": _FUNCTIONS.mm,
    # Normalization, activation
    "aten._log_softmax.default": _FUNCTIONS._log_softmax,
    "aten._softmax.default": _FUNCTIONS._softmax,
    "aten.native_batch_norm.default": _FUNCTIONS.native_batch_norm,
    "aten.native_layer_norm.default": _FUNCTIONS.native_layer_norm,
    "aten.relu.default": _FUNCTIONS.relu,
    "aten.relu_.default": _FUNCTIONS.relu_,
    "aten.sigmoid.default": _FUNCTIONS.sigmoid,
    "aten.tanh.default": _FUNCTIONS.tanh,
    # Elementwise, reductions, copies
    "aten.add.Tensor": _FUNCTIONS.add,
    "aten.cat.default": _FUNCTIONS.cat,
    "aten.clone.default": _FUNCTIONS.clone,
    "aten.div.Tensor": _FUNCTIONS.div,
    "aten.embedding.default": _FUNCTIONS.embedding,
    "aten.mul.Tensor": _FUNCTIONS.mul,
    "aten.rsqrt.default": _FUNCTIONS.rsqrt,
    "aten.sub.Tensor": _FUNCTIONS.sub,
    "aten.sum.default": _FUNCTIONS.sum,
    "aten.sum.dim_IntList": _FUNCTIONS.sum,
}


def quickest(func: Any, name: str) -> Callable[..., Any]:
    """What runs the operator `func` of that name, given positional arguments alone."""
    if not isinstance(func, OpOverload) or func.namespace != "aten":
        return func  # type: ignore[no-any-return]
    # PyTorch's own operators have nothing between `__call__` and the dispatcher: a call in Python less.
    return BINDINGS.get(name, func._op)
