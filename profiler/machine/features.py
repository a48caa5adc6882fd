"""What an operator's seconds depend on, from its signature alone: its kind, the work it does, and its sizes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log, prod
from typing import Any

from ...theory.tensor import TensorSpec
from ..pricing import PRICES, Prices
from ..records import Signature
from ..seconds.traffic import moved

_CONVOLUTIONS = ("aten.convolution", "aten.convolution_backward")


@dataclass(frozen=True, slots=True)
class Features:
    """Operators of one `kind` are alike, those of one `family` nearly so. `sizes` are logarithms: equal factors are
    equal distances. They are as many in a family.

    `work` is what seconds are proportional to, in the large: FLOPs of a product, else bytes moved, or 1 for what does
    neither.
    """

    kind: str
    family: str
    work: int
    sizes: tuple[float, ...]


def features(signature: Signature, prices: Prices = PRICES) -> Features:
    """Of one call of an operator."""
    name = undispatched(signature.operator)
    tensors = list(tensors_of(signature.arguments))
    dtype = tensors[0].dtype if tensors else ""
    if prices.is_free(signature.operator):
        return Features(name, "free", 1, ())
    price = prices.price(signature)
    if price is not None and price.matmul_flops:
        if name in _CONVOLUTIONS:
            return _convolution(name, signature, dtype, price.matmul_flops)
        if len(tensors) >= 2 and "attention" not in name:
            return Features(f"{name} {dtype}", f"product {dtype}", price.matmul_flops, _product(tensors))
    work = max(moved(signature), 1)
    return Features(f"{name} {dtype}{_window(signature)}", "moved", work, (log(work), 0.3 * log(_plane(tensors))))


def undispatched(operator: str) -> str:
    """`aten.add_.Tensor` -> `aten.add_`, as the clock names it. In place is another kind: no memory is made."""
    return ".".join(operator.split(".")[:2])


def tensors_of(value: Any) -> Iterable[TensorSpec]:
    """Every tensor in it, in order."""
    if isinstance(value, TensorSpec):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors_of(item)


def _convolution(name: str, signature: Signature, dtype: str, flops: int) -> Features:
    arguments: Any = signature.arguments
    which = ""
    if name.endswith("backward"):  # grad_output, input, weight, bias_sizes, stride, ..., groups, output_mask
        output, weight, settings = arguments[0], arguments[2], arguments[4:]
        which = "".join(part for part, wanted in zip("xw", settings[-1], strict=False) if wanted)
    else:  # input, weight, bias, stride, padding, dilation, transposed, output_padding, groups
        output, weight, settings = signature.outputs[0], arguments[1], arguments[3:]
    stride, transposed, groups = settings[0], settings[3], settings[5]
    inside = weight.shape[1], weight.shape[0] // groups
    form = "transposed" if transposed else "dense" if groups == 1 else "depthwise" if inside[0] == 1 else "grouped"
    sizes = (
        log(max(output.shape[0] * prod(output.shape[2:]), 1)),
        log(groups),
        *map(log, inside),
        log(prod(weight.shape[2:])),
        log(prod(stride)),
        0.5 * log(max(output.shape[-1], 1)),  # kernels work on pieces of a row
    )
    family = f"{name} {dtype}"
    return Features(f"{family} {form} {which}".rstrip(), family, flops, sizes)


def _product(inputs: list[TensorSpec]) -> tuple[float, ...]:
    """Of the last two operands: how many matrices, and M, K, N."""
    left, right = inputs[-2].shape, inputs[-1].shape
    rows = left[-2] if len(left) > 1 else 1
    columns = right[-1] if len(right) > 1 else 1
    return tuple(log(max(size, 1)) for size in (prod(left[:-2]), rows, left[-1] if left else 1, columns))


def _plane(inputs: list[TensorSpec]) -> int:
    """Elements that one channel of one sample has, in the first operand: norms and poolings go from plane to plane."""
    return max(prod(inputs[0].shape[2:]), 1) if inputs else 1


def _window(signature: Signature) -> str:
    """Of a pooling: what is moved says nothing of how often it is looked at."""
    if "pool" not in signature.operator:
        return ""
    sizes = (each for each in signature.arguments if isinstance(each, tuple) and each and type(each[0]) is int)
    return f" {next(sizes, '')}"
