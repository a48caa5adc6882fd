"""Convolutions, any number of dimensions, against loops and against real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from torch import nn
from torch.nn import functional as F  # noqa: N812

from torchtally.theory import convolution as theory
from torchtally.theory.layer import ShapeError
from torchtally.theory.tensor import TensorSpec

from . import brute
from .brute import Result, Tally
from .cases import MEDIUM, Convolution, convolutions, examples
from .holding import Truth, hold
from .real import filled, grid, numbers, observe, observed, same_computation, spec

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

CLOSED = (theory.Conv1d, theory.Conv2d, theory.Conv3d)
MODULES = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def closed_form(case: Convolution, kinds: Sequence[type] = CLOSED) -> Any:
    return kinds[case.dimensions - 1](
        in_channels=case.in_channels, out_channels=case.out_channels, dtype=case.dtype, **case.settings()
    )


def module(case: Convolution) -> nn.Module:
    dtype = getattr(torch, case.dtype)
    kind = MODULES[case.dimensions - 1]
    return filled(kind(case.in_channels, case.out_channels, dtype=dtype, **case.settings()))


def amounts(case: Convolution) -> list[tuple[int, int]]:
    """Padding before and after, dimension by dimension."""
    if case.padding == "valid":
        return [(0, 0)] * case.dimensions
    if case.padding == "same":
        return [
            brute.same_padding(size, k, d) for size, k, d in zip(case.sizes, case.kernel, case.dilation, strict=True)
        ]
    return [(int(p), int(p)) for p in case.padding]


def fits(case: Convolution) -> bool:
    return all(
        brute.slide(size, before, after, k, s, d)
        for size, (before, after), k, s, d in zip(
            case.sizes, amounts(case), case.kernel, case.stride, case.dilation, strict=True
        )
    )


def batched(case: Convolution) -> Convolution:
    return dataclasses.replace(case, batch=1) if case.batch is None else case


def counted(case: Convolution, layer: nn.Module, x: torch.Tensor, upstream: torch.Tensor) -> Result:
    """The same layer on the same numbers, in plain Python."""
    weight, bias = layer.weight, layer.bias
    return brute.convolution(
        grid(x.reshape(batched(case).shape)),
        grid(weight),
        None if bias is None else grid(bias),
        upstream.flatten().tolist(),
        out_channels=case.out_channels,
        groups=case.groups,
        padding=amounts(case),
        stride=case.stride,
        dilation=case.dilation,
    )


def truth_of(case: Convolution, result: Result) -> Truth:
    truth = Truth.counted(result, dtype=case.dtype, buffers={})
    if case.batch is None:
        truth.output = truth.output[1:]
        truth.input_gradients = [case.shape]
    return truth


@examples(120)
@given(convolutions())
def test_loops(case: Convolution) -> None:
    """Shapes, parameters, FLOPs of forward and of each gradient, as counted in computing what torch does."""
    assume(fits(case))
    layer = module(case)
    x = numbers(*case.shape, dtype=getattr(torch, case.dtype)).requires_grad_()
    seen = observe(layer, x)
    result = counted(case, layer, x, seen.upstream)
    assert same_computation(result, seen)
    hold(closed_form(case), [spec(x)], truth_of(case, result))


@examples(120)
@given(convolutions(limits=MEDIUM, width=4))
def test_convolving_ones(case: Convolution) -> None:
    """All ones, padding too: every multiply-add brings 1 to the sum of the output, and of both gradients."""
    assume(fits(case))
    truth = convolved_ones(case)
    hold(closed_form(case), [TensorSpec(case.shape, case.dtype)], truth)


def convolved_ones(case: Convolution) -> Truth:
    ends = [end for pair in reversed(amounts(case)) for end in pair]
    x = F.pad(torch.ones(case.shape, dtype=torch.float64), ends, value=1.0).requires_grad_()
    settings = case.settings() | {"padding": 0}
    layer = MODULES[case.dimensions - 1](case.in_channels, case.out_channels, dtype=torch.float64, **settings)
    nn.init.ones_(layer.weight)
    if case.bias:
        nn.init.zeros_(layer.bias)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None and layer.weight.grad is not None
    return Truth(
        output=tuple(y.shape),
        parameters={name: tuple(parameter.shape) for name, parameter in layer.named_parameters()},
        input_gradients=[case.shape],
        dtype=case.dtype,
        forward=Tally(products=int(y.sum())),
        input=Tally(products=int(x.grad.sum())),
        weight=Tally(products=int(layer.weight.grad.sum())),
        bias=Tally(bias_additions=int(layer.bias.grad.sum()) if case.bias else 0),
    )


@examples(150)
@given(convolutions(limits=MEDIUM, width=4))
def test_a_real_layer(case: Convolution) -> None:
    """Shapes, parameters, gradients, and what autograd keeps, of the real layer with its own padding."""
    assume(fits(case))
    x = numbers(*case.shape, dtype=getattr(torch, case.dtype)).requires_grad_()
    seen = observe(module(case), x)
    hold(closed_form(case), [spec(x)], observed(seen, x))


@examples(150)
@given(convolutions())
def test_a_kernel_that_does_not_fit(case: Convolution) -> None:
    """Theory refuses exactly the inputs that leave no place for the window, as the real layer does."""
    form, given_to_it = closed_form(case), TensorSpec(case.shape, case.dtype)
    if fits(case):
        form.output(given_to_it)
        return
    with pytest.raises(ShapeError):
        form.output(given_to_it)
    with pytest.raises(RuntimeError):
        module(case)(torch.zeros(case.shape, dtype=getattr(torch, case.dtype)))
