"""What an operator was called with, as far as memory can depend on it: hashable, and the same after a trip through
JSON, so that another process can make the call again.

Tensors become dtype, shape, strides and device; their values are dropped. Plain values are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_map_only

from .tensors import tensors_in

Form: TypeAlias = tuple[Any, ...]
"""("call", operator, arguments, keywords, whether gradients are recorded), and inside it one tuple per value, headed by
its kind."""

Layout: TypeAlias = tuple[str, tuple[int, ...], tuple[int, ...]]
"""Dtype, shape and strides of a tensor; of one without strides, the name of its kind alone."""

_NAMES = {
    torch.dtype: "dtype",
    torch.layout: "layout",
    torch.memory_format: "memory_format",
}
_PLAIN = {bool: "bool", int: "int", float: "float", str: "str"}


def call_form(name: str, args: Any, kwargs: Any, result_of: Callable[[Tensor], Form | None]) -> Form:
    """The form of a call. `result_of` says of a tensor of bytes which call made it: its content may matter to the
    operator that reads it, such as the reserve of a recurrent layer. None where that is not known."""
    keywords = tuple([("keyword", key, value_form(value, result_of)) for key, value in kwargs.items()])
    values = tuple([value_form(value, result_of) for value in args])
    return "call", name, values, keywords, torch.is_grad_enabled()


def value_form(value: Any, result_of: Callable[[Tensor], Form | None]) -> Any:
    """The form of one argument; ("other", its type's name) for what no other process can make again."""
    if isinstance(value, Tensor):
        return (result_of(value) if value.dtype is torch.uint8 else None) or tensor_form(value)
    kind = type(value)
    if kind in _PLAIN:
        return _PLAIN[kind], value
    if value is None:
        return ("none",)
    if isinstance(value, (list, tuple)):
        return "list", *[value_form(item, result_of) for item in value]
    if kind in _NAMES:
        return _NAMES[kind], str(value).removeprefix("torch.")
    if kind is torch.device:
        return "device", str(value)
    if isinstance(value, torch.Generator):
        return "generator", str(value.device)
    return "other", kind.__name__


def tensor_form(tensor: Tensor) -> Form:
    """("tensor", dtype, shape, strides, device). Tensors without strides are "other"."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        return "other", str(tensor.layout)
    device = tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device
    return "tensor", *layout_of(tensor), str(device)


def layout_of(tensor: Tensor) -> Layout:
    """What a tensor looks like."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        return str(tensor.layout), (), ()
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.stride()


def laid_out(result: Any, layouts: Iterable[Layout], known: Callable[[Tensor], object]) -> Any:
    """A result on fake tensors as real calls of its form give it: strides, dtypes and sizes differ at times. What is
    `known` was there before, and stays."""
    wanted = {id(tensor): layout for tensor, layout in zip(tensors_in(result), layouts, strict=False)}

    def as_real(tensor: Tensor) -> Tensor:
        layout = wanted.get(id(tensor))
        if layout is None or layout == layout_of(tensor) or known(tensor) is not None:
            return tensor
        dtype, shape, strides = layout
        return tensor.new_empty_strided(shape, strides, dtype=getattr(torch, dtype))

    return tree_map_only(Tensor, as_real, result)


def from_json(value: Any) -> Any:
    """A form that was read from JSON, where tuples have become lists."""
    return tuple([from_json(item) for item in value]) if isinstance(value, list) else value


def can_be_repeated(form: Any) -> bool:
    """Whether another process can make the call."""
    if not isinstance(form, tuple):
        return True
    return form[:1] != ("other",) and all(can_be_repeated(part) for part in form)
