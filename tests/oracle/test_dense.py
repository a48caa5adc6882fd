"""Linear layers against triple loops, products of ones, and real ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchtally.theory.dense import Linear
from torchtally.theory.layer import ShapeError
from torchtally.theory.tensor import TensorSpec

from . import brute
from .brute import Tally
from .cases import examples
from .holding import Truth, hold
from .real import filled, grid, numbers, observe, observed, same_computation, spec

ROWS = st.lists(st.integers(0, 3), max_size=3).map(tuple)
DTYPES = st.sampled_from(["float32", "float64"])


@examples(100)
@given(ROWS, st.integers(1, 5), st.integers(1, 5), st.booleans(), DTYPES)
def test_loops(rows: tuple[int, ...], features: int, out: int, bias: bool, dtype: str) -> None:
    layer = filled(nn.Linear(features, out, bias=bias, dtype=getattr(torch, dtype)))
    x = numbers(*rows, features, dtype=getattr(torch, dtype)).requires_grad_()
    seen = observe(layer, x)
    result = brute.linear(
        grid(x), grid(layer.weight), grid(layer.bias) if bias else None, seen.upstream.flatten().tolist()
    )
    assert same_computation(result, seen)
    form = Linear(in_features=features, out_features=out, bias=bias, dtype=dtype)
    hold(form, [spec(x)], Truth.counted(result, dtype=dtype, buffers={}))
    hold(form, [spec(x)], observed(seen, x))


@examples(60)
@given(ROWS, st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_a_product_of_ones(rows: tuple[int, ...], features: int, out: int, bias: bool) -> None:
    layer = nn.Linear(features, out, bias=bias, dtype=torch.float64)
    nn.init.ones_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    x = torch.ones(*rows, features, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None and layer.weight.grad is not None
    truth = Truth(
        output=tuple(y.shape),
        parameters={name: tuple(parameter.shape) for name, parameter in layer.named_parameters()},
        input_gradients=[tuple(x.shape)],
        dtype="float64",
        forward=Tally(products=int(y.sum())),
        input=Tally(products=int(x.grad.sum())),
        weight=Tally(products=int(layer.weight.grad.sum())),
        bias=Tally(operations=int(layer.bias.grad.sum()) if bias else 0),
    )
    hold(Linear(in_features=features, out_features=out, bias=bias, dtype="float64"), [spec(x)], truth)


@pytest.mark.parametrize("shape", [(), (3,), (4, 3), (4, 5, 3)])
def test_another_number_of_features(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        Linear(in_features=4, out_features=2).output(TensorSpec(shape))
    with pytest.raises(RuntimeError):
        nn.Linear(4, 2)(torch.zeros(shape))
