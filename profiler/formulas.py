"""What an operator costs, from its signature alone. Written from PyTorch's operator schemas and the stated convention;
shares nothing with the closed forms for layers, against which it is checked.

A formula sees shapes and integer settings, never data. Argument positions are those of the operator's schema.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from .records import Signature


class Price(NamedTuple):
    """FLOPs of one dispatch. `matmul_flops` is the part of `flops` that is products; `bias_flops` is in neither."""

    flops: int = 0
    matmul_flops: int = 0
    bias_flops: int = 0


Formula = Callable[[Signature], Price]

_FLOATING = ("float", "bfloat", "complex")


def is_floating(tensor: Any) -> bool:
    """Whether arithmetic on this tensor is floating-point. Counters and masks of integers are not FLOPs."""
    return hasattr(tensor, "dtype") and tensor.dtype.startswith(_FLOATING)


def argument(signature: Signature, position: int, keyword: str = "", default: Any = None) -> Any:
    """A positional argument, or the keyword of that name, or the default."""
    if position < len(signature.arguments):
        return signature.arguments[position]
    return signature.keywords.get(keyword, default)


def _product(multiply_adds: int) -> Price:
    return Price(2 * multiply_adds, 2 * multiply_adds)


# Products ---------------------------------------------------------------------------------------------------------


def mm(signature: Signature) -> Price:
    """(M, K) @ (K, N); also mv: (M, K) @ (K,), and dot: (K,) @ (K,)."""
    left, right = signature.arguments[:2]
    return _product(left.elements * prod(right.shape[1:]))  # type: ignore[union-attr]


def addmm(signature: Signature) -> Price:
    """bias + (M, K) @ (K, N); the addition is left out by the convention."""
    left, right = signature.arguments[1:3]
    return _product(left.elements * prod(right.shape[1:]))  # type: ignore[union-attr]


def bmm(signature: Signature) -> Price:
    """(B, M, K) @ (B, K, N)."""
    left, right = signature.arguments[:2]
    return _product(left.elements * right.shape[-1])  # type: ignore[union-attr]


def baddbmm(signature: Signature) -> Price:
    """bias + (B, M, K) @ (B, K, N); the addition is left out."""
    left, right = signature.arguments[1:3]
    return _product(left.elements * right.shape[-1])  # type: ignore[union-attr]


def outer(signature: Signature) -> Price:
    """addr: bias + (M,) (N,)^T."""
    left, right = signature.arguments[1:3]
    return _product(left.elements * right.elements)  # type: ignore[union-attr]


def linear(signature: Signature) -> Price:
    """(..., K) by a weight (N, K), where the operator is not taken apart (inference mode, fused kernels)."""
    x, weight = signature.arguments[:2]
    return _product(x.elements * weight.shape[0])  # type: ignore[union-attr]


def linear_backward(signature: Signature) -> Price:
    """input, grad_output, weight, output_mask."""
    x, _, weight, mask = signature.arguments[:4]
    products = int(bool(mask[0])) + int(bool(mask[1]))  # type: ignore[index]
    return _product(x.elements * weight.shape[0] * products)  # type: ignore[union-attr]


def convolution(signature: Signature) -> Price:
    """input, weight, bias, stride, padding, dilation, transposed, output_padding, groups.

    A weight is (C_out, C_in/groups, *kernel), or transposed (C_in, C_out/groups, *kernel): each element of the output,
    or transposed of the input, meets all of the weight behind its first dimension.
    """
    x, weight = signature.arguments[:2]
    spread = x if argument(signature, 6, "transposed", False) else signature.outputs[0]
    return _product(spread.elements * prod(weight.shape[1:]))  # type: ignore[union-attr]


def convolution_without_transpose(signature: Signature) -> Price:
    """Backends' own entry points (mkldnn, cudnn, depthwise): input, weight, ...; never transposed."""
    return _product(signature.outputs[0].elements * prod(signature.arguments[1].shape[1:]))  # type: ignore[union-attr]


def convolution_backward(signature: Signature) -> Price:
    """grad_output, input, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, mask.

    The gradients of input and weight are products over the same triples as the forward one, groups and all.
    """
    gradient, x, weight = signature.arguments[:3]
    transposed, mask = signature.arguments[7], argument(signature, 10, "output_mask")
    spread = x if transposed else gradient
    once = 2 * spread.elements * prod(weight.shape[1:])  # type: ignore[union-attr]
    products = int(bool(mask[0])) + int(bool(mask[1]))
    bias = gradient.elements if mask[2] else 0  # type: ignore[union-attr]
    return Price(once * products, once * products, bias)


# Per element ------------------------------------------------------------------------------------------------------


def per_output(flops: int) -> Formula:
    """`flops` for each element of the first output, where floating-point numbers are involved."""

    def formula(signature: Signature) -> Price:
        tensors = [*signature.outputs, *(a for a in signature.arguments if hasattr(a, "dtype"))]
        if not signature.outputs or not any(map(is_floating, tensors)):
            return Price()
        return Price(flops * signature.outputs[0].elements)

    return formula


def per_input(flops: int, position: int = 0) -> Formula:
    """`flops` for each element of one argument, where that is floating-point."""

    def formula(signature: Signature) -> Price:
        tensor = signature.arguments[position]
        return Price(flops * tensor.elements) if is_floating(tensor) else Price()  # type: ignore[union-attr]

    return formula


def per_listed(flops: int) -> Formula:
    """`flops` for each element of each tensor in the first argument, a list (`_foreach_*`, fused optimizers)."""

    def formula(signature: Signature) -> Price:
        tensors: Any = signature.arguments[0]
        return Price(flops * sum(tensor.elements for tensor in tensors if is_floating(tensor)))

    return formula


def nothing(signature: Signature) -> Price:
    """Data is moved or made, and no floating-point arithmetic done: copies, gathers, sorting by comparison aside."""
    return Price()


# Windows ----------------------------------------------------------------------------------------------------------


def pooling(dimensions: int) -> Formula:
    """input, kernel_size, ...: one FLOP per element of each window."""

    def formula(signature: Signature) -> Price:
        return Price(signature.outputs[0].elements * _window(signature.arguments[1], dimensions))

    return formula


def pooling_backward(dimensions: int) -> Formula:
    """grad_output, input, kernel_size, ...: one FLOP per element of each window again."""

    def formula(signature: Signature) -> Price:
        gradient, _, kernel = signature.arguments[:3]
        return Price(gradient.elements * _window(kernel, dimensions))  # type: ignore[union-attr]

    return formula


def _window(kernel: Any, dimensions: int) -> int:
    sizes = kernel if isinstance(kernel, tuple) else (kernel,)
    return int(prod(sizes * dimensions if len(sizes) == 1 else sizes))


def adaptive_pooling(dimensions: int) -> Formula:
    """input, output_size: the windows' sizes differ by position and are added up."""

    def formula(signature: Signature) -> Price:
        return _adaptive(signature.arguments[0], signature.outputs[0], dimensions)

    return formula


def adaptive_pooling_backward(dimensions: int) -> Formula:
    """grad_output, input, ...: as many as forward."""

    def formula(signature: Signature) -> Price:
        return _adaptive(signature.arguments[1], signature.arguments[0], dimensions)

    return formula


def _adaptive(large: Any, small: Any, dimensions: int) -> Price:
    """Window i of n over a side of length L runs from floor(i*L/n) to ceil((i+1)*L/n)."""
    elements = prod(small.shape[:-dimensions])
    for length, windows in zip(large.shape[-dimensions:], small.shape[-dimensions:], strict=True):
        elements *= sum(-(-(i + 1) * length // windows) - i * length // windows for i in range(windows))
    return Price(elements)


# Losses -----------------------------------------------------------------------------------------------------------


def nll_loss(signature: Signature) -> Price:
    """input, target, ...: one addition per target."""
    return Price(signature.arguments[1].elements)  # type: ignore[union-attr]


def nll_loss_backward(signature: Signature) -> Price:
    """grad_output, input, target, ...: one multiplication per target."""
    return Price(signature.arguments[2].elements)  # type: ignore[union-attr]
