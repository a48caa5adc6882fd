"""Elementwise layers against a visit to each element, and against real layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchtally.theory import pointwise as theory
from torchtally.theory.layer import ShapeError
from torchtally.theory.tensor import TensorSpec

from .brute import Tally, indices
from .cases import examples
from .holding import Truth, hold
from .real import numbers, observe, observed, spec

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
DTYPES = st.sampled_from(["float32", "float64"])


def visits(shape: tuple[int, ...]) -> Tally:
    tally = Tally()
    for _ in indices(shape):
        tally.operations += 1
    return tally


def elementwise(shape: tuple[int, ...], dtype: str, *, work: bool = True) -> Truth:
    once = visits(shape) if work else Tally()
    return Truth(
        output=shape,
        parameters={},
        buffers={},
        dtype=dtype,
        input_gradients=[shape],
        forward=once,
        input=once,
        weight=Tally(),
        bias=Tally(),
    )


@examples(40)
@given(SHAPES, DTYPES, st.booleans())
def test_relu(shape: tuple[int, ...], dtype: str, in_place: bool) -> None:
    form = theory.ReLU(in_place=in_place)
    x = numbers(*shape, dtype=getattr(torch, dtype)).requires_grad_()
    # In place it needs an input that something else computed; that copy's storage is then the output's.
    seen = observe(nn.ReLU(), x, call=lambda x: nn.ReLU(inplace=in_place)(x.clone() if in_place else x))
    hold(form, [spec(x)], elementwise(shape, dtype))
    hold(form, [spec(x)], observed(seen, x))


@examples(20)
@given(SHAPES, DTYPES)
def test_identity(shape: tuple[int, ...], dtype: str) -> None:
    x = numbers(*shape, dtype=getattr(torch, dtype)).requires_grad_()
    seen = observe(nn.Identity(), x)
    hold(theory.Identity(), [spec(x)], elementwise(shape, dtype, work=False))
    hold(theory.Identity(), [spec(x)], observed(seen, x))


@examples(60)
@given(SHAPES, st.integers(-5, 5), st.integers(-5, 5))
def test_flatten(shape: tuple[int, ...], start: int, end: int) -> None:
    form, x = theory.Flatten(start_dim=start, end_dim=end), torch.zeros(shape, requires_grad=True)
    try:
        seen = observe(nn.Flatten(start, end), x)
    except (IndexError, RuntimeError):
        with pytest.raises(ShapeError):
            form.output(TensorSpec(shape))
        return
    hold(form, [spec(x)], observed(seen, x, forward=Tally(), input=Tally(), weight=Tally(), bias=Tally()))
