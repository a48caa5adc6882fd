"""Finding the tensors in what modules take and give, and describing one without touching its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...theory.tensor import ITEMSIZE, TensorSpec

_DEEPEST = 16  # nesting beyond this is no model's signature, but a cycle


def _dtype_name(dtype: torch.dtype) -> str:
    """The name theory knows, or for an exotic type (quantized, packed) the unsigned integer of its width."""
    name = str(dtype).removeprefix("torch.")
    return name if name in ITEMSIZE else f"uint{8 * dtype.itemsize}"


# What a tensor looks like: cheap to take, cheap to compare, and torch's own objects.
Look = tuple[torch.Size, torch.dtype]


def look(tensor: Tensor) -> Look:
    """Shape and dtype."""
    return tensor.shape, tensor.dtype


class SpecTable:
    """Look -> TensorSpec, one object per distinct look."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Look, TensorSpec] = {}

    def one(self, seen: Look) -> TensorSpec:
        spec = self._known.get(seen)
        if spec is None:
            spec = TensorSpec(tuple(int(size) for size in seen[0]), _dtype_name(seen[1]))
            self._known[seen] = spec
        return spec

    def all(self, seen: Iterable[Look]) -> tuple[TensorSpec, ...]:
        return tuple(self.one(each) for each in seen)

    def of(self, tensor: Tensor) -> TensorSpec:
        return self.one(look(tensor))


def tensors_in(value: Any) -> Sequence[Tensor]:
    """All tensors in nested tuples, lists, dicts and dataclasses, in order, each object once.

    Nested tensors are left out: they have no shape that a record could hold. The operators on them say that they are
    there.
    """
    if type(value) is tuple and len(value) == 1:
        value = value[0]
    if isinstance(value, Tensor):
        return () if value.is_nested else (value,)
    found: list[Tensor] = []
    _collect(value, found, set(), 0)
    return found


def _collect(value: Any, found: list[Tensor], seen: set[int], depth: int) -> None:
    if isinstance(value, Tensor):
        if id(value) not in seen and not value.is_nested:
            seen.add(id(value))
            found.append(value)
    elif depth > _DEEPEST or value is None or isinstance(value, (str, int, float)):
        return
    elif isinstance(value, (tuple, list)):
        for item in value:
            _collect(item, found, seen, depth + 1)
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, found, seen, depth + 1)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for entry in dataclasses.fields(value):
            _collect(getattr(value, entry.name, None), found, seen, depth + 1)
