"""The values of small tensors, while a step is replayed on fake ones: whoever builds a model reads some of them, such
as the widths of its layers or the rates of its dropouts.

A value is known where all that it was made from is: constants, ranges, and what is computed from them. Random numbers,
and whatever comes from large tensors, are not.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only

from .tensors import tensors_in
from .whose import Work

UNTOLD: Final = "untold"  # where a value is read that is not worth telling

_ITEM = torch.ops.aten._local_scalar_dense.default
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


class Values:
    """Runs operators on fake tensors and keeps up with values. `assumed` has those that were asked for and that nobody
    computed: where, None for where the workload was built, and what was taken instead -> how often."""

    def __init__(self) -> None:
        self.assumed: dict[tuple[Work | None, str], int] = {}

    def run(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], where: Work | str | None) -> Any:
        """The operator's result. A value that is asked for is computed where that can be done, else assumed."""
        try:
            result = func(*args, **kwargs)
        except DataDependentOutputException:
            try:
                return computed(func, args, kwargs)
            except UnknownValueError:
                if func is not _ITEM:
                    raise
            return self._assume(args[0].dtype, where)
        follow(func, name, args, kwargs, result)
        return result

    def _assume(self, dtype: torch.dtype, where: Work | str | None) -> bool | int | float:
        value = False if dtype is torch.bool else 0.0 if dtype.is_floating_point else 1
        if not isinstance(where, str):
            key = where, str(value)  # 0.0 and False are equal
            self.assumed[key] = self.assumed.get(key, 0) + 1
        return value


def _on_cpu(tensor: Tensor) -> bool:
    return not isinstance(tensor, FakeTensor) or tensor.fake_device.type == "cpu"
