"""Bytes that an operator cannot but move: what it reads of its operands, and its results, each once.

A lower bound, so that a roofline made of it is one: what is looked at in part counts in part. Operands that lie in
memory once and are read as if larger (`expand`) cannot be told from shapes, and count as they look.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import prod
from typing import Any

from ...theory.tensor import TensorSpec
from ..records import Signature

# The first operand is where the result goes, and is not read.
_OVERWRITTEN = frozenset(
    "aten.zero_ aten.fill_ aten.copy_ aten.bernoulli_ aten.normal_ aten.uniform_ aten.random_ aten.exponential_".split()
)

# Of the first operand, as much is read as comes out.
_LOOKED_UP = frozenset(
    """
    aten.embedding aten.index aten._unsafe_index aten.index_select aten.gather aten.take aten.masked_select
    aten.select_copy aten.slice_copy aten.narrow_copy aten.nll_loss_forward
    """.split()
)

# Whose input is skipped over where the kernel is smaller than the stride: where it, kernel and stride are.
_CONVOLUTIONS = {"aten.convolution": (0, 1, 3), "aten.convolution_backward": (1, 2, 4)}


def moved(signature: Signature) -> int:
    """Bytes read and written by one call."""
    name = ".".join(signature.operator.split(".")[:2])
    operands = list(_tensors(signature.arguments))
    results = sum(spec.nbytes for spec in _tensors(signature.outputs))
    if name in _OVERWRITTEN:
        return sum(spec.nbytes for spec in operands[1:]) + results
    if name in _LOOKED_UP:
        return sum(spec.nbytes for spec in operands[1:]) + 2 * results
    if name in _CONVOLUTIONS:
        return sum(spec.nbytes for spec in operands) - _skipped(signature, *_CONVOLUTIONS[name]) + results
    return sum(spec.nbytes for spec in operands) + results


def _skipped(signature: Signature, input: int, weight: int, stride: int) -> int:
    """Of a strided 1 x 1 convolution, the positions between."""
    arguments: Any = signature.arguments
    kernel = arguments[weight].shape[2:]
    read = prod(min(Fraction(size, step), Fraction(1)) for size, step in zip(kernel, arguments[stride], strict=False))
    return int(arguments[input].nbytes * (1 - read))


def _tensors(value: Any) -> Iterable[TensorSpec]:
    if isinstance(value, TensorSpec):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)
