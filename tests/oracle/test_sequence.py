"""The loops of `sequence` compute what torch computes, so that what they count is the right thing."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from . import sequence
from .cases import examples
from .real import agree, filled, grid, numbers
from .tape import Scalar, Scalars, Tape


def learned(layer: nn.Module) -> dict[str, Scalars]:
    return {
        name: Scalars.of(grid(parameter), needs=parameter.requires_grad, learned=True)
        for name, parameter in layer.named_parameters()
    }


def rows(x: Scalars, *lead: int) -> list[list[Scalar]]:
    return [x.row(*lead, t) for t in range(x.shape[len(lead)])]


def gradients_agree(layer: nn.Module, weights: dict[str, Scalars]) -> bool:
    return all(agree(weights[name].gradient(), parameter.grad) for name, parameter in layer.named_parameters())


def joined(results: list[list[list[Scalar]]]) -> list[Scalar]:
    return [scalar for sample in results for row in sample for scalar in row]


def dispatched(layer: Any, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """Output, upstream gradient, and the dispatcher's FLOPs, forward and backward.

    In float64, where no fused CPU kernel hides the products.
    """
    with FlopCounterMode(display=False) as forward:
        y = layer(*inputs)
    upstream = numbers(*y.shape, seed=99)
    with FlopCounterMode(display=False) as backward:
        y.backward(upstream)
    return y, upstream, forward.get_total_flops(), backward.get_total_flops()


@examples(40)
@given(
    st.sampled_from(["tanh", "relu", "GRU", "LSTM", "LSTM"]),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_recurrent(
    kind: str,
    batch: int,
    length: int,
    features: int,
    hidden: int,
    layers: int,
    directions: int,
    bias: bool,
    projected: bool,
    needs: bool,
) -> None:
    settings: dict[str, Any] = {"num_layers": layers, "bias": bias, "bidirectional": directions == 2}
    if kind in ("tanh", "relu"):
        layer: nn.Module = nn.RNN(features, hidden, nonlinearity=kind, dtype=torch.float64, **settings)
    elif kind == "GRU":
        layer = nn.GRU(features, hidden, dtype=torch.float64, **settings)
    else:
        settings["proj_size"] = 1 if projected and hidden > 1 else 0
        layer = nn.LSTM(features, hidden, dtype=torch.float64, **settings)
    filled(layer)
    x = numbers(length, batch, features).requires_grad_(needs)
    tape, weights, values = Tape(), learned(layer), Scalars.of(grid(x), needs=needs)
    sizes = [settings.get("proj_size") or hidden] + ([hidden] if kind == "LSTM" else [])
    results = []
    for n in range(batch):
        state = [tuple([Scalar(0.0) for _ in range(size)] for size in sizes) for _ in range(layers * directions)]
        sample = [values.row(t, n) for t in range(length)]
        results.append(
            sequence.recurrent(tape, kind, weights, sample, layers=layers, directions=directions, state=state)
        )
    y, upstream, forward, backward = dispatched(lambda x: layer(x)[0], x)
    outputs = joined(results)
    tape.backward(outputs, upstream.transpose(0, 1).flatten().tolist())
    said = torch.tensor([scalar.value for scalar in outputs], dtype=torch.float64)
    assert torch.allclose(said, y.transpose(0, 1).flatten())
    assert gradients_agree(layer, weights)
    assert not needs or agree(values.gradient(), x.grad)
    assert tape.forward.products * 2 == forward
    assert (tape.input.products + tape.weight.products) * 2 == backward


@examples(40)
@given(
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.booleans(),
    st.sampled_from([(None, None), (3, 2)]),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_multi_head_attention(
    batch: int,
    targets: int,
    sources: int,
    heads: int,
    size: int,
    bias: bool,
    other: tuple[int | None, int | None],
    needs: tuple[bool, bool, bool],
) -> None:
    embedding = heads * size
    layer = filled(
        nn.MultiheadAttention(
            embedding, heads, bias=bias, kdim=other[0], vdim=other[1], batch_first=True, dtype=torch.float64
        )
    )
    shapes = ((targets, embedding), (sources, other[0] or embedding), (sources, other[1] or embedding))
    inputs = [
        numbers(batch, *shape, seed=10 + i).requires_grad_(flag)
        for i, (shape, flag) in enumerate(zip(shapes, needs, strict=True))
    ]
    tape, weights = Tape(), learned(layer)
    values = [Scalars.of(grid(x), needs=flag) for x, flag in zip(inputs, needs, strict=True)]
    results = [
        sequence.multi_head_attention(tape, heads, weights, *(rows(each, n) for each in values)) for n in range(batch)
    ]
    y, upstream, forward, backward = dispatched(lambda *inputs: layer(*inputs)[0], *inputs)
    outputs = joined(results)
    tape.backward(outputs, upstream.flatten().tolist())
    assert torch.allclose(torch.tensor([scalar.value for scalar in outputs], dtype=torch.float64), y.flatten())
    assert gradients_agree(layer, weights)
    for each, x in zip(values, inputs, strict=True):
        assert x.grad is None or agree(each.gradient(), x.grad)
    assert tape.forward.products * 2 == forward
    assert (tape.input.products + tape.weight.products) * 2 == backward


@examples(30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.booleans())
def test_scaled_dot_product_attention(targets: int, sources: int, size: int, values: int, causal: bool) -> None:
    sources = targets if causal else sources
    shapes = ((targets, size), (sources, size), (sources, values))
    q, k, v = (numbers(2, *shape, seed=i).requires_grad_() for i, shape in enumerate(shapes))
    tape, scalars = Tape(), [Scalars.of(grid(x), needs=True) for x in (q, k, v)]
    results = [sequence.attention(tape, *(rows(each, n) for each in scalars), causal=causal) for n in range(2)]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        y, upstream, forward, backward = dispatched(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal), q, k, v
        )
    outputs = joined(results)
    tape.backward(outputs, upstream.flatten().tolist())
    assert torch.allclose(torch.tensor([scalar.value for scalar in outputs], dtype=torch.float64), y.flatten())
    for each, x in zip(scalars, (q, k, v), strict=True):
        assert agree(each.gradient(), x.grad)
    assert tape.forward.products * 2 == forward
    assert tape.input.products * 2 == backward


@examples(30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_bilinear(batch: int, left: int, right: int, out: int, bias: bool) -> None:
    layer = filled(nn.Bilinear(left, right, out, bias=bias, dtype=torch.float64))
    a, b = (numbers(batch, size, seed=size).requires_grad_() for size in (left, right))
    tape, weights = Tape(), learned(layer)
    first, second = (Scalars.of(grid(x), needs=True) for x in (a, b))
    results = [
        [
            sequence.bilinear(tape, first.row(n), second.row(n), weights["weight"], weights["bias"] if bias else None)
            for n in range(batch)
        ]
    ]
    y = layer(a, b)
    upstream = numbers(*y.shape, seed=99)
    y.backward(upstream)
    outputs = joined(results)
    tape.backward(outputs, upstream.flatten().tolist())
    assert torch.allclose(torch.tensor([scalar.value for scalar in outputs], dtype=torch.float64), y.flatten())
    assert gradients_agree(layer, weights)
    assert agree(first.gradient(), a.grad) and agree(second.gradient(), b.grad)
