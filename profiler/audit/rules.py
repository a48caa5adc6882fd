"""The walkthrough's rules that are no figure, each checked against what PyTorch really computes.

A check answers whether the rule holds, with what was seen. Gradients come from autograd, in float64, on made data;
the rule is computed beside them, as the document writes it, from the same tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's own name for it

from .runs import Observed


class Finding(NamedTuple):
    """Whether a rule holds in the run, and what was seen."""

    holds: bool
    seen: str = ""


def _made(*shape: int, needs_grad: bool = True, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(needs_grad)


def _gradients(output: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    """The output's gradient that was used, and the gradients of `of`."""
    upstream = _made(*output.shape, needs_grad=False, seed=1)
    return (upstream, *torch.autograd.grad(output, of, upstream))


def _same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and torch.allclose(left, right, rtol=1e-9, atol=1e-9)


# Linear: x (32, 128), weight (10, 128) as torch.nn.Linear keeps it
# -------------------------------------------------------


def _linear() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, weight, bias = _made(32, 128), _made(10, 128), _made(10)
    return x, weight, bias, F.linear(x, weight, bias)


def _input_times_weight(_: Observed) -> Finding:
    x, weight, bias, y = _linear()
    fits = x.shape[1] == weight.shape[0]
    return Finding(
        fits and _same(y, x @ weight + bias),
        f"PyTorch keeps W as {tuple(weight.shape)}, (out, in), and computes y = x W^T + b; the document itself writes "
        "y = Wx + b in its backward part",
    )


def _weight_times_input(_: Observed) -> Finding:
    x, weight, bias, y = _linear()
    columns = torch.stack([weight @ row + bias for row in x])
    return Finding(_same(y, columns), "sample by sample, with W laid out (out, in)")


def _linear_weight_gradient(_: Observed) -> Finding:
    x, weight, _bias, y = _linear()
    upstream, gradient = _gradients(y, weight)
    written = x.T @ upstream
    return Finding(
        _same(gradient, written),
        f"x^T dy is {tuple(written.shape)}; the run's gradient is {tuple(gradient.shape)}, "
        f"{'its transpose' if _same(gradient, written.T) else 'another matrix'}, as PyTorch keeps W (out, in)",
    )


def _linear_weight_gradient_shape(_: Observed) -> Finding:
    _x, weight, _bias, y = _linear()
    return Finding(_gradients(y, weight)[1].shape == weight.shape, "the gradient is shaped as W is, (10, 128)")


def _linear_bias_gradient(_: Observed) -> Finding:
    _x, _weight, bias, y = _linear()
    upstream, gradient = _gradients(y, bias)
    return Finding(_same(gradient, upstream.sum(dim=0)))


def _linear_bias_gradient_shape(_: Observed) -> Finding:
    _x, _weight, bias, y = _linear()
    return Finding(_gradients(y, bias)[1].shape == bias.shape)


def _linear_input_gradient(_: Observed) -> Finding:
    x, weight, _bias, y = _linear()
    upstream, gradient = _gradients(y, x)
    fits = upstream.shape[1] == weight.T.shape[0]
    found = "dy W" if _same(gradient, upstream @ weight) else "neither dy W^T nor dy W"
    return Finding(
        fits and _same(gradient, upstream @ weight.T),
        f"with W as PyTorch keeps it, (out, in), it is {found}; dy W^T holds for W laid out (in, out)",
    )


def _linear_input_gradient_shape(_: Observed) -> Finding:
    x, *_rest, y = _linear()
    return Finding(_gradients(y, x)[1].shape == x.shape)


# Pooling, activation, normalization -----------------------------------------------------------------------------------


def _gap_forward(_: Observed) -> Finding:
    x = _made(2, 3, 4, 4, needs_grad=False)
    return Finding(_same(x.mean(dim=(2, 3)), x.sum(dim=3).sum(dim=2) / 16))


def _gap_input_gradient(_: Observed) -> Finding:
    x = _made(2, 3, 4, 4)
    upstream, gradient = _gradients(x.mean(dim=(2, 3)), x)
    return Finding(_same(gradient, (upstream / 16)[:, :, None, None].expand_as(x)))


def _max_pool_input_gradient(_: Observed) -> Finding:
    """As written: every element that equals its window's maximum gets the gradient. After a ReLU, windows of zeros
    tie."""
    x = F.relu(_made(2, 3, 8, 8, needs_grad=False)).requires_grad_()
    output, places = F.max_pool2d(x, 2, return_indices=True)
    upstream, gradient = _gradients(output, x)
    written = torch.where(x == _spread(output), _spread(upstream), torch.zeros_like(x))
    ties = int((_windows(x) == output.flatten(2).unsqueeze(-1)).sum() - places.numel())
    return Finding(
        _same(gradient, written),
        f"PyTorch gives it to one element of a tie; {ties} further elements of {places.numel()} windows were "
        f"equal to the "
        "maximum, as zeros after a ReLU are, and got none",
    )


def _spread(small: Tensor) -> Tensor:
    return small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def _windows(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, windows, 4)."""
    unfolded: Tensor = F.unfold(x.flatten(0, 1).unsqueeze(1), 2, stride=2).transpose(1, 2)
    return unfolded.reshape(*x.shape[:2], *unfolded.shape[1:])


def _relu_forward(_: Observed) -> Finding:
    x = _made(4, 5, needs_grad=False)
    return Finding(_same(torch.relu(x), torch.maximum(x, torch.zeros_like(x))))


def _relu_input_gradient(_: Observed) -> Finding:
    """Zero included, where the indicator is 0."""
    x = _made(4, 5, needs_grad=False)
    x[0, 0] = 0.0
    x.requires_grad_()
    upstream, gradient = _gradients(torch.relu(x), x)
    return Finding(_same(gradient, upstream * (x > 0)))


def _batch_norm() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, weight, bias = _made(6, 3, 4, 4), _made(3), _made(3)
    y = F.batch_norm(x, None, None, weight, bias, training=True, eps=1e-5)
    mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), unbiased=False, keepdim=True)
    return x, weight, bias, y, (x - mean) / (variance + 1e-5).sqrt()


def _batch_norm_forward(_: Observed) -> Finding:
    _x, weight, bias, y, normalized = _batch_norm()
    return Finding(_same(y, weight[:, None, None] * normalized + bias[:, None, None]))


def _batch_norm_weight_gradient(_: Observed) -> Finding:
    _x, weight, _bias, y, normalized = _batch_norm()
    upstream, gradient = _gradients(y, weight)
    return Finding(_same(gradient, (upstream * normalized).sum(dim=(0, 2, 3))))


def _batch_norm_bias_gradient(_: Observed) -> Finding:
    _x, _weight, bias, y, _normalized = _batch_norm()
    upstream, gradient = _gradients(y, bias)
    return Finding(_same(gradient, upstream.sum(dim=(0, 2, 3))))


def _batch_norm_input_gradient(_: Observed) -> Finding:
    """If mean and variance were constants, the gradient would be dy * gamma / sqrt(variance + eps)."""
    x, weight, _bias, y, normalized = _batch_norm()
    upstream, gradient = _gradients(y, x)
    deviation = (x.var(dim=(0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    scale = weight[:, None, None] / deviation
    mean = upstream.mean(dim=(0, 2, 3), keepdim=True)
    through = (upstream * normalized).mean(dim=(0, 2, 3), keepdim=True)
    chained = _same(gradient, scale * (upstream - mean - normalized * through))
    return Finding(chained and not _same(gradient, scale * upstream), "they do enter it")


def _running_statistics(_: Observed) -> Finding:
    layer = torch.nn.BatchNorm2d(3).double()
    before = layer.running_mean.clone() if layer.running_mean is not None else torch.zeros(0)
    layer(_made(6, 3, 4, 4))
    moved = layer.running_mean is not None and not _same(layer.running_mean, before)
    learned = {name for name, _ in layer.named_parameters()}
    return Finding(moved and learned == {"weight", "bias"})


# Convolution and loss -------------------------------------------------------------------------------------------------


def _convolution() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, weight, bias = _made(2, 3, 6, 6), _made(4, 3, 3, 3), _made(4)
    return x, weight, bias, F.conv2d(x, weight, bias, padding=1)


def _convolution_output_size(_: Observed) -> Finding:
    """Over kernels, strides and paddings, on real convolutions."""
    for k in (1, 2, 3, 5):
        for s in (1, 2, 3):
            for p in (0, 1, 2):
                y = F.conv2d(torch.ones(1, 1, 9, 8), torch.ones(1, 1, k, k), stride=s, padding=p)
                if tuple(y.shape[2:]) != ((9 + 2 * p - k) // s + 1, (8 + 2 * p - k) // s + 1):
                    return Finding(False, f"k={k}, s={s}, p={p} gives {tuple(y.shape[2:])}")
    return Finding(True)


def _convolution_flops(_: Observed) -> Finding:
    """Convolving ones adds up ones: the sum of the outputs is the number of multiply-adds."""
    y = F.conv2d(torch.ones(2, 3, 7, 6), torch.ones(4, 3, 3, 2))
    written = 2 * y.shape[2] * y.shape[3] * 4 * (3 * 3 * 2 * 2)
    return Finding(2 * int(y.sum()) == written)


def _convolution_weight_gradient(_: Observed) -> Finding:
    """Images as channels: the input convolved with the output's gradient."""
    x, weight, _bias, y = _convolution()
    upstream, gradient = _gradients(y, weight)
    written = F.conv2d(x.transpose(0, 1), upstream.transpose(0, 1), padding=1).transpose(0, 1)
    return Finding(_same(gradient, written))


def _convolution_bias_gradient(_: Observed) -> Finding:
    _x, _weight, bias, y = _convolution()
    upstream, gradient = _gradients(y, bias)
    return Finding(_same(gradient, upstream.sum(dim=(0, 2, 3))))


def _convolution_input_gradient(_: Observed) -> Finding:
    """The "full" convolution of the output's gradient with the filters, turned and with channels swapped."""
    x, weight, _bias, y = _convolution()
    upstream, gradient = _gradients(y, x)
    return Finding(_same(gradient, F.conv2d(upstream, weight.flip(2, 3).transpose(0, 1), padding=1)))


def _softmax(_: Observed) -> Finding:
    z = _made(5, 10, needs_grad=False)
    return Finding(_same(torch.softmax(z, dim=1), z.exp() / z.exp().sum(dim=1, keepdim=True)))


def _cross_entropy(_: Observed) -> Finding:
    z, labels = _made(5, 10, needs_grad=False), torch.tensor([1, 0, 9, 4, 4])
    written = -torch.softmax(z, dim=1)[torch.arange(5), labels].log().sum() / 5
    return Finding(_same(F.cross_entropy(z, labels), written))


def _weight_updates(observed: Observed) -> Finding:
    """Backward computes gradients; the optimizer's step comes after it, in a phase of its own.

    An update adds to a parameter in place; none of that shape and kind is among backward's operators.
    """
    shapes = {held.tensor.shape for facts in observed.trace.modules for held in facts.parameters}
    updates = [
        facts
        for facts in observed.trace.operators
        if facts.phase == "backward"
        and facts.signature.operator.split(".")[1].endswith("_")
        and any(output.shape in shapes for output in facts.signature.outputs)
    ]
    updated = observed.ledger.totals.get("optimizer_flops", 0)
    return Finding(
        bool(updates),
        f"no weight is updated in backward; the optimizer's step does that afterwards, {updated:,} FLOPs for "
        f"plain SGD, which "
        "are in neither figure",
    )


# What only PyTorch itself can answer.
CHECKS: dict[str, Callable[[Observed], Finding]] = {
    "backward.weight_updates": _weight_updates,
    "batchnorm.bias_gradient": _batch_norm_bias_gradient,
    "batchnorm.forward": _batch_norm_forward,
    "batchnorm.input_gradient": _batch_norm_input_gradient,
    "batchnorm.running_statistics": _running_statistics,
    "batchnorm.weight_gradient": _batch_norm_weight_gradient,
    "convolution.bias_gradient": _convolution_bias_gradient,
    "convolution.flops": _convolution_flops,
    "convolution.input_gradient": _convolution_input_gradient,
    "convolution.output_size": _convolution_output_size,
    "convolution.weight_gradient": _convolution_weight_gradient,
    "gap.forward": _gap_forward,
    "gap.input_gradient": _gap_input_gradient,
    "linear.bias_gradient": _linear_bias_gradient,
    "linear.bias_gradient_shape": _linear_bias_gradient_shape,
    "linear.input_gradient": _linear_input_gradient,
    "linear.input_gradient_shape": _linear_input_gradient_shape,
    "linear.input_times_weight": _input_times_weight,
    "linear.weight_gradient": _linear_weight_gradient,
    "linear.weight_gradient_shape": _linear_weight_gradient_shape,
    "linear.weight_times_input": _weight_times_input,
    "loss.cross_entropy": _cross_entropy,
    "loss.softmax": _softmax,
    "maxpool.input_gradient": _max_pool_input_gradient,
    "relu.forward": _relu_forward,
    "relu.input_gradient": _relu_input_gradient,
}
