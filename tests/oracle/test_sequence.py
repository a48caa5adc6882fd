"""Attention, recurrent and bilinear layers against their equations, computed and counted scalar by scalar.

That the loops compute what torch does, and that the dispatcher sees as many products, is checked on the way.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from torchtally.theory import recurrent as theory_recurrent
from torchtally.theory.attention import ScaledDotProductAttention
from torchtally.theory.dense import Bilinear
from torchtally.theory.multihead import MultiheadAttention

from . import sequence
from .brute import Grid, Tally, indices
from .cases import examples
from .holding import hold
from .real import agree, filled, grid, numbers, observe, observed, spec
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


def products(form: Any, tape: Tape, inputs: list[torch.Tensor], needs: tuple[bool, ...]) -> None:
    """Theory's products, forward and for each kind of gradient, are as many as the tape noted, twice."""
    specs = [spec(x) for x in inputs]
    backward = form.backward(*specs, needs_input_grad=needs)
    assert form.forward(*specs).matmul_flops == 2 * tape.forward.products
    assert backward.input.matmul_flops == 2 * tape.input.products
    assert backward.weight.matmul_flops == 2 * tape.weight.products
    assert backward.total.matmul_flops == 2 * (tape.input.products + tape.weight.products)


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
        settings["nonlinearity"] = kind
    elif kind == "LSTM":
        settings["proj_size"] = 1 if projected and hidden > 1 else 0
    name = kind if kind in ("GRU", "LSTM") else "RNN"
    layer = filled(getattr(nn, name)(features, hidden, dtype=torch.float64, **settings))
    form = getattr(theory_recurrent, name)(input_size=features, hidden_size=hidden, **settings)
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
    products(form, tape, [x], (needs,))


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
    form = MultiheadAttention(
        embed_dim=embedding, num_heads=heads, bias=bias, kdim=other[0], vdim=other[1], batch_first=True
    )
    products(form, tape, inputs, needs)


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
    products(ScaledDotProductAttention(), tape, [q, k, v], (True, True, True))


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
    form = Bilinear(in1_features=left, in2_features=right, out_features=out, bias=bias, dtype="float64")
    assert form.forward(spec(a), spec(b)).matmul_flops == 2 * tape.forward.products
    seen = observe(copy.deepcopy(layer), a.detach().requires_grad_(), b.detach().requires_grad_())
    truth = observed(seen, a, b, forward=tape.forward)
    into_first, into_second, into_weight = contractions(grid(a), grid(b), grid(layer.weight), grid(upstream))
    into_bias = Tally(operations=upstream.numel() if bias else 0)

    def parts(needs: tuple[bool, ...], weight: bool, of_bias: bool) -> tuple[Tally, Tally, Tally]:
        both = into_first[1].products * needs[0] + into_second[1].products * needs[1]
        return (
            Tally(products=both),
            into_weight[1] if weight else Tally(),
            into_bias if of_bias else Tally(),
        )

    truth.parts = parts
    assert agree(into_first[0], a.grad) and agree(into_second[0], b.grad)
    assert agree(into_weight[0], layer.weight.grad)
    hold(form, [spec(a), spec(b)], truth)


def contractions(a: Grid, b: Grid, weight: Grid, dy: Grid) -> list[tuple[Grid, Tally]]:
    """Each gradient of a bilinear layer anew, as PyTorch takes it: two operands at a time, per output feature.

    (dy W) b for the first input, (a W) dy for the second, (a dy) b for the weight.
    """
    samples, _ = a.shape
    out, left, right = weight.shape
    da, db, dw = Grid.zeros(a.shape), Grid.zeros(b.shape), Grid.zeros(weight.shape)
    first, second, third = Tally(), Tally(), Tally()
    for n in range(samples):
        for o in range(out):
            through = {}
            for i, j in indices((left, right)):
                through[i, j] = dy.at[n, o] * weight.at[o, i, j]
                first.products += 1
            for i, j in indices((left, right)):
                da.at[n, i] += through[i, j] * b.at[n, j]
                first.products += 1
            across = dict.fromkeys(range(right), 0.0)
            for i, j in indices((left, right)):
                across[j] += a.at[n, i] * weight.at[o, i, j]
                second.products += 1
            for j in range(right):
                db.at[n, j] += across[j] * dy.at[n, o]
                second.products += 1
            scaled = {}
            for i in range(left):
                scaled[i] = a.at[n, i] * dy.at[n, o]
                third.products += 1
            for i, j in indices((left, right)):
                dw.at[o, i, j] += scaled[i] * b.at[n, j]
                third.products += 1
    return [(da, first), (db, second), (dw, third)]
