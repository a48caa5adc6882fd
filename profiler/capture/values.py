"""The values of small tensors, while a step is replayed on fake ones: whoever builds a model reads some of them, such
as the widths of its layers or the rates of its dropouts.

A value is known where all that it was made from is: constants, ranges, and what is computed from them. Random numbers,
and whatever comes from large tensors, are not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only

from .tensors import tensors_in

_LARGEST = 1024  # elements
_ATTRIBUTE = "_torchtally_value"
_UNKNOWN = ("aten.empty", "aten.new_empty")  # made without a value


class UnknownValueError(LookupError):
    """A value that nobody computed."""


def value_of(tensor: Tensor) -> Tensor:
    """A real tensor with the fake one's values. Raises UnknownValueError."""
    if not isinstance(tensor, FakeTensor):
        return tensor
    value: Tensor | None = getattr(tensor, _ATTRIBUTE, None)
    if value is None:
        raise UnknownValueError
    return value


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """The operator's result on real values. Raises UnknownValueError where there are none, or it cannot be had."""
    if torch.Tag.nondeterministic_seeded in func.tags:
        raise UnknownValueError
    real_args, real_kwargs = tree_map_only(Tensor, value_of, (args, kwargs))
    try:
        with _disable_current_modes():
            return func(*real_args, **real_kwargs)
    except Exception as error:  # of whatever kind: then there is no value
        raise UnknownValueError from error


def follow(func: Any, name: str, args: Any, kwargs: Any, result: Any) -> None:
    """Give the result its values where they are known; take them away where something unknown was written."""
    tensors = tensors_in(result)
    if not tensors:
        return
    small = all(tensor.numel() <= _LARGEST and _on_cpu(tensor) for tensor in tensors)
    try:
        if not small or name.startswith(_UNKNOWN):
            raise UnknownValueError
        values = tensors_in(computed(func, args, kwargs))
    except UnknownValueError:
        values = ()
    for position, tensor in enumerate(tensors):
        if len(values) == len(tensors):
            setattr(tensor, _ATTRIBUTE, values[position])
        elif hasattr(tensor, _ATTRIBUTE):
            delattr(tensor, _ATTRIBUTE)


def _on_cpu(tensor: Tensor) -> bool:
    return not isinstance(tensor, FakeTensor) or tensor.fake_device.type == "cpu"
