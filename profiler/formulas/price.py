"""What a formula gives, and how it reads a signature.

A formula sees shapes and integer settings, never data. It must not fail on any call that PyTorch accepts, so
arguments are looked up by position and by name, with the schema's default. Where shapes do not say what an operator
costs (ragged sequences, regions whose sizes are data), a formula gives None: unpriced, and named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..records import Signature


class Price(NamedTuple):
    """FLOPs of one dispatch. `matmul_flops` is the part of `flops` that is products; `bias_flops` is in neither."""

    flops: int = 0
    matmul_flops: int = 0
    bias_flops: int = 0

    def plus(self, flops: int) -> Price:
        """With that many more FLOPs that are no products."""
        return self._replace(flops=self.flops + flops)


Formula = Callable[[Signature], Price | None]

_FLOATING = ("float", "bfloat", "complex")


def argument(signature: Signature, position: int, keyword: str = "", default: Any = None) -> Any:
    """A positional argument, or the keyword of that name, or the default."""
    if position < len(signature.arguments):
        return signature.arguments[position]
    return signature.keywords.get(keyword, default)


def is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def is_floating(tensor: Any) -> bool:
    """Whether arithmetic on this tensor is floating-point. Counters and masks of integers are not FLOPs."""
    return is_tensor(tensor) and tensor.dtype.startswith(_FLOATING)


def is_complex(tensor: Any) -> bool:
    return is_tensor(tensor) and tensor.dtype.startswith("complex")


def numbers(tensor: Any) -> int:
    """Real numbers in a tensor: an element of a complex one is two."""
    return int(tensor.elements) * (2 if is_complex(tensor) else 1)


def tensors(value: Any) -> list[Any]:
    """The tensors in an argument: itself, or those in a list."""
    if isinstance(value, tuple):
        return [tensor for item in value for tensor in tensors(item)]
    return [value] if is_tensor(value) else []


def product(multiply_adds: int, *factors: Any) -> Price:
    """Two FLOPs for a multiply-add; of complex factors, four real multiply-adds for one."""
    real = 4 if factors and all(map(is_complex, factors)) else 1
    return Price(2 * real * multiply_adds, 2 * real * multiply_adds)


def flags(mask: Any, count: int) -> tuple[bool, ...]:
    """An output mask; without one, everything is computed."""
    return tuple(bool(flag) for flag in mask) if isinstance(mask, tuple) else (True,) * count
