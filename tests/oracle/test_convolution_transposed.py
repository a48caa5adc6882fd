"""Transposed convolutions, any number of dimensions, against loops and against real ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given
from torch import nn

from torchtally.theory import convolution as theory
from torchtally.theory.layer import ShapeError
from torchtally.theory.tensor import TensorSpec

from . import brute
from .brute import Grid, Result, Tally
from .cases import MEDIUM, Convolution, convolutions, examples
from .holding import Truth, hold
from .real import filled, grid, numbers, observe, observed, same_computation, spec
from .test_convolution import batched, truth_of

CLOSED = (theory.ConvTranspose1d, theory.ConvTranspose2d, theory.ConvTranspose3d)
MODULES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def closed_form(case: Convolution) -> Any:
    return CLOSED[case.dimensions - 1](
        in_channels=case.in_channels,
        out_channels=case.out_channels,
        dtype=case.dtype,
        **case.settings(transposed=True),
    )


def module(case: Convolution, **changed: Any) -> nn.Module:
    settings = {"dtype": getattr(torch, case.dtype)} | case.settings(transposed=True) | changed
    return filled(MODULES[case.dimensions - 1](case.in_channels, case.out_channels, **settings))


def counted(case: Convolution, layer: nn.Module, x: torch.Tensor, upstream: torch.Tensor) -> Result:
    """The same layer on the same numbers, in plain Python."""
    return brute.transposed_convolution(
        grid(x.reshape(batched(case).shape)),
        grid(layer.weight),
        grid(layer.bias) if case.bias else None,
        upstream.flatten().tolist(),
        out_channels=case.out_channels,
        groups=case.groups,
        padding=case.padding,
        output_padding=case.output_padding,
        stride=case.stride,
        dilation=case.dilation,
    )


def leaves_something(case: Convolution) -> bool:
    """Whether cropping leaves any output: seen by spreading one channel's worth of zeros."""
    found = brute.transposed_convolution(
        Grid.zeros((0, 1, *case.sizes)),
        Grid.zeros((1, 1, *case.kernel)),
        None,
        [],
        out_channels=1,
        groups=1,
        padding=case.padding,
        output_padding=case.output_padding,
        stride=case.stride,
        dilation=case.dilation,
    )
    return all(found.output.shape[2:])


@examples(120)
@given(convolutions(transposed=True))
def test_loops(case: Convolution) -> None:
    assume(leaves_something(case))
    layer = module(case)
    x = numbers(*case.shape, dtype=getattr(torch, case.dtype)).requires_grad_()
    seen = observe(layer, x)
    result = counted(case, layer, x, seen.upstream)
    assert same_computation(result, seen)
    hold(closed_form(case), [spec(x)], truth_of(case, result))


@examples(120)
@given(convolutions(transposed=True, limits=MEDIUM, width=4))
def test_spreading_ones(case: Convolution) -> None:
    """All ones, nothing cropped: a multiply-add brings 1 to the sum of the output, and of both gradients."""
    assume(leaves_something(case))
    layer = module(case, dtype=torch.float64, padding=0, output_padding=0, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.ones(case.shape, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None and layer.weight.grad is not None
    cropped = module(case)
    z = cropped(torch.zeros(case.shape, dtype=getattr(torch, case.dtype)))
    z.sum().backward()
    truth = Truth(
        output=tuple(z.shape),
        parameters={name: tuple(parameter.shape) for name, parameter in cropped.named_parameters()},
        input_gradients=[case.shape],
        dtype=case.dtype,
        forward=Tally(products=int(y.sum())),
        input=Tally(products=int(x.grad.sum())),
        weight=Tally(products=int(layer.weight.grad.sum())),
        bias=Tally(bias_additions=int(cropped.bias.grad.sum()) if case.bias else 0),
    )
    hold(closed_form(case), [TensorSpec(case.shape, case.dtype)], truth)


@examples(120)
@given(convolutions(transposed=True, limits=MEDIUM, width=4))
def test_a_real_layer(case: Convolution) -> None:
    assume(leaves_something(case))
    x = numbers(*case.shape, dtype=getattr(torch, case.dtype)).requires_grad_()
    seen = observe(module(case), x)
    hold(closed_form(case), [spec(x)], observed(seen, x))


@examples(120)
@given(convolutions(transposed=True))
def test_nothing_left_after_cropping(case: Convolution) -> None:
    form, given_to_it = closed_form(case), TensorSpec(case.shape, case.dtype)
    if leaves_something(case):
        form.output(given_to_it)
        return
    with pytest.raises(ShapeError):
        form.output(given_to_it)
    # Of exactly nothing, torch makes an error or, in one dimension, an empty tensor, as its kernel chooses.
    try:
        empty = module(case)(torch.zeros(case.shape, dtype=getattr(torch, case.dtype)))
    except RuntimeError:
        return
    assert empty.numel() == 0
