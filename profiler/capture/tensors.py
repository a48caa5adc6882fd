"""Finding the tensors in what modules take and give, and describing one without touching its data."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ...theory.tensor import ITEMSIZE, TensorSpec

_DEEPEST = 16  # nesting beyond this is no model's signature, but a cycle


def _dtype_name(dtype: torch.dtype) -> str:
    """The name theory knows, or for an exotic type (quantized, packed) the unsigned integer of its width."""
    name = str(dtype).removeprefix("torch.")
    return name if name in ITEMSIZE else f"uint{8 * dtype.itemsize}"


class SpecTable:
    """Tensor -> TensorSpec, one object per distinct (shape, dtype)."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[torch.Size, torch.dtype], TensorSpec] = {}

    def of(self, tensor: Tensor) -> TensorSpec:
        key = (tensor.shape, tensor.dtype)
        spec = self._known.get(key)
        if spec is None:
            spec = TensorSpec(tuple(int(size) for size in key[0]), _dtype_name(key[1]))
            self._known[key] = spec
        return spec


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists, dicts and dataclasses, in order, each object once."""
    if type(value) is tuple and len(value) == 1 and isinstance(value[0], Tensor):
        return [value[0]]
    found: list[Tensor] = []
    _collect(value, found, set(), 0)
    return found


def _collect(value: Any, found: list[Tensor], seen: set[int], depth: int) -> None:
    if isinstance(value, Tensor):
        if id(value) not in seen:
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
