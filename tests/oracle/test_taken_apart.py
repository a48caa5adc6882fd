"""Layers that PyTorch takes apart into operators, against the operators that arrive."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from torchtally.theory import activations as theory
from torchtally.theory import loss, recurrent
from torchtally.theory.attention import ScaledDotProductAttention
from torchtally.theory.cost import Cost
from torchtally.theory.instance_norm import InstanceNorm
from torchtally.theory.layer import Backward, Parameter
from torchtally.theory.local_response_norm import LocalResponseNorm
from torchtally.theory.multihead import MultiheadAttention
from torchtally.theory.normalization import RMSNorm
from torchtally.theory.pointwise import Dropout
from torchtally.theory.tensor import TensorSpec
from torchtally.theory.transformer import TransformerEncoderLayer

from .cases import examples
from .dispatched import dispatch
from .holding import flops, hold, is_bias, totals
from .real import filled, numbers, observe, observed, spec

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def hold_taken_apart(
    form: Any,
    layer: nn.Module,
    shapes: Sequence[tuple[int, ...]],
    *,
    call: Callable[..., Tensor] | None = None,
) -> None:
    """Shapes, parameters, gradients, saved bytes; total FLOPs for every choice of what needs a gradient."""

    def inputs(flags: tuple[bool, ...]) -> list[Tensor]:
        return [
            numbers(*shape, seed=i + 1).requires_grad_(flag)
            for i, (shape, flag) in enumerate(zip(shapes, flags, strict=True))
        ]

    given_all = inputs((True,) * len(shapes))
    seen = observe(layer, *given_all, call=call, pick=lambda y: y[0] if isinstance(y, tuple) else y)
    truth = observed(seen, *given_all)
    specs = [spec(x) for x in given_all]
    hold(form, specs, truth)
    for *flags, weight, bias in itertools.product((True, False), repeat=len(shapes) + 2):
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(bias if is_bias(name) else weight)
        run = dispatch(call or layer, *inputs(tuple(flags)))
        stated = totals(form, specs, tuple(flags), weight, bias)
        true = dict(zip(stated, (flops(run.forward)[:2], flops(run.backward)[:2]), strict=True))
        assert stated == true, f"{form} of {[s.shape for s in specs]}: theory {stated}, dispatched {true}"


IN_PLACE = {"CELU", "ELU", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "Mish", "ReLU", "ReLU6"}
IN_PLACE |= {"SELU", "SiLU", "Threshold"}


def of_name(name: str, in_place: bool) -> nn.Module:
    settings: dict[str, Any] = {"inplace": True} if in_place else {}
    if name == "Threshold":
        settings |= {"threshold": 0.5, "value": 0.25}
    return getattr(nn, name)(**settings)


@pytest.mark.parametrize(
    ("name", "in_place"),
    [(name, False) for name in theory.ACTIVATIONS] + [(name, True) for name in sorted(IN_PLACE)],
)
def test_activations(name: str, in_place: bool) -> None:
    form = theory.activation(name, in_place=in_place)
    layer = of_name(name, in_place)
    for shape in [(), (3,), (0, 2), (2, 3, 4)]:
        hold_taken_apart(form, layer, [shape], call=lambda x: layer(x.clone() if in_place else x))


COMPOSED = {
    "Softmax": ({"dim": -1}, {}),
    "LogSoftmax": ({"dim": -1}, {}),
    "Softmin": ({"dim": -1}, {}),
    "LogSigmoid": ({}, {}),
    "Softsign": ({}, {}),
    "Tanhshrink": ({}, {}),
    "GLU": ({"dim": 1}, {"dim": 1}),
}


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("shape", [(2, 4), (1, 2, 3), (0, 2, 3), (2, 6, 2, 3)])
def test_composed_activations(name: str, shape: tuple[int, ...]) -> None:
    real, closed = COMPOSED[name]
    hold_taken_apart(getattr(theory, name)(**closed), getattr(nn, name)(**real), [shape])


@pytest.mark.parametrize("shape", [(2, 4), (1, 4, 3), (2, 4, 2, 3)])
@pytest.mark.parametrize("slopes", [1, 4])
def test_prelu(shape: tuple[int, ...], slopes: int) -> None:
    form = theory.PReLU(num_parameters=slopes, dtype="float64")
    hold_taken_apart(form, nn.PReLU(slopes, dtype=torch.float64), [shape])


@pytest.mark.parametrize("training", [True, False])
def test_rrelu(training: bool) -> None:
    hold_taken_apart(theory.RReLU(), nn.RReLU().train(training), [(2, 3, 4)])


@examples(30)
@given(SHAPES, st.sampled_from([0.0, 0.25]), st.booleans())
def test_dropout(shape: tuple[int, ...], p: float, training: bool) -> None:
    if 0 not in shape:
        hold_taken_apart(Dropout(p=p, training=training), nn.Dropout(p).train(training), [shape])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (1, 2, 3, 2, 2)])
def test_dropout_per_channel(shape: tuple[int, ...], training: bool) -> None:
    layer = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)[len(shape) - 3](0.25).train(training)
    hold_taken_apart(Dropout(p=0.25, per_channel=True, training=training), layer, [shape])


@examples(20)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.integers(2, 3), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_instance_norm(
    batch: int, channels: int, sizes: list[int], affine: bool, tracked: bool, training: bool
) -> None:
    settings = {"affine": affine, "track_running_stats": tracked}
    kind = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[len(sizes) - 1]
    layer = filled(kind(channels, dtype=torch.float64, **settings)).train(training)
    form = InstanceNorm(num_features=channels, dtype="float64", training=training, **settings)
    hold_taken_apart(form, layer, [(batch, channels, *sizes)])


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("normalized", [1, 2])
@pytest.mark.parametrize("shape", [(2, 3, 4), (4,), (1, 4), (2, 3, 1), (3, 4)])
def test_rms_norm(shape: tuple[int, ...], normalized: int, affine: bool) -> None:
    if normalized > len(shape):
        pytest.skip("fewer dimensions than are normalized")
    settings = {"normalized_shape": shape[-normalized:], "elementwise_affine": affine}
    layer = filled(nn.RMSNorm(**settings, dtype=torch.float64))
    hold_taken_apart(RMSNorm(**settings, dtype="float64", fused=False), layer, [shape])


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 5, 3, 4), (1, 2, 2, 3, 2)])
def test_local_response_norm(shape: tuple[int, ...], size: int) -> None:
    def count(x: Tensor) -> Tensor:
        return nn.LocalResponseNorm(size)(x)

    hold_taken_apart(LocalResponseNorm(size=size), nn.LocalResponseNorm(size), [shape], call=count)


@examples(20)
@given(
    st.integers(1, 2),
    st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2)]),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.25]),
)
def test_scaled_dot_product_attention(
    batch: int,
    heads: tuple[int, int],
    targets: int,
    sources: int,
    size: int,
    values: int,
    grouped: bool,
    mask: bool,
    dropout: float,
) -> None:
    """With separate operators: PyTorch's own `math` kernel."""
    of_queries, of_keys = heads if grouped else (heads[0], heads[0])
    shapes = [(batch, of_queries, targets, size), (batch, of_keys, sources, size), (batch, of_keys, sources, values)]
    attn_mask = torch.zeros(targets, sources, dtype=torch.float64) if mask else None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=attn_mask, dropout_p=dropout, enable_gqa=of_keys != of_queries
            )

    form = ScaledDotProductAttention(mask=mask, dropout=dropout)
    hold_taken_apart(form, nn.Identity(), shapes, call=attend)


@examples(6)
@given(
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.fixed_dictionaries(
        {
            "bias": st.booleans(),
            "add_bias_kv": st.booleans(),
            "add_zero_attn": st.booleans(),
            "batch_first": st.booleans(),
            "dropout": st.sampled_from([0.0, 0.25]),
        }
    ),
    st.sampled_from([{}, {"kdim": 3, "vdim": 2}]),
    st.booleans(),
)
def test_multi_head_attention(
    batch: int,
    targets: int,
    sources: int,
    heads: int,
    size: int,
    settings: dict[str, Any],
    widths: dict[str, int],
    need_weights: bool,
) -> None:
    embedding = heads * size
    layer = filled(nn.MultiheadAttention(embedding, heads, dtype=torch.float64, **settings, **widths))
    form = MultiheadAttention(
        embed_dim=embedding, num_heads=heads, dtype="float64", need_weights=need_weights, **settings, **widths
    )

    def shape(length: int, features: int) -> tuple[int, ...]:
        return (batch, length, features) if settings["batch_first"] else (length, batch, features)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return layer(q, k, v, need_weights=need_weights)[0]

    k, v = widths.get("kdim", embedding), widths.get("vdim", embedding)
    shapes = [shape(targets, embedding), shape(sources, k), shape(sources, v)]
    hold_taken_apart(form, layer, shapes, call=attend)


@examples(6)
@given(
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(1, 2),
    st.fixed_dictionaries(
        {
            "bias": st.booleans(),
            "norm_first": st.booleans(),
            "batch_first": st.booleans(),
            "dropout": st.sampled_from([0.0, 0.25]),
            "activation": st.sampled_from(["relu", "gelu"]),
            "dim_feedforward": st.integers(1, 3),
        }
    ),
)
def test_transformer_encoder_layer(length: int, batch: int, heads: int, size: int, settings: dict[str, Any]) -> None:
    width = heads * size
    layer = filled(nn.TransformerEncoderLayer(width, heads, dtype=torch.float64, **settings))
    form = TransformerEncoderLayer(d_model=width, nhead=heads, dtype="float64", **settings)
    shape = (batch, length, width) if settings["batch_first"] else (length, batch, width)

    def encode(x: Tensor) -> Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return layer(x)

    hold_taken_apart(form, layer, [shape], call=encode)


@examples(12)
@given(
    st.sampled_from(["tanh", "relu", "GRU", "LSTM", "LSTM"]),
    st.one_of(st.none(), st.integers(1, 2)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(2, 3),
    st.fixed_dictionaries(
        {
            "num_layers": st.integers(1, 2),
            "bias": st.booleans(),
            "batch_first": st.booleans(),
            "bidirectional": st.booleans(),
        }
    ),
    st.sampled_from([0.0, 0.25]),
    st.booleans(),
    st.booleans(),
)
def test_recurrent(
    kind: str,
    batch: int | None,
    steps: int,
    features: int,
    hidden: int,
    settings: dict[str, Any],
    dropout: float,
    projected: bool,
    initial: bool,
) -> None:
    if settings["num_layers"] > 1:
        settings["dropout"] = dropout
    if kind in ("tanh", "relu"):
        settings["nonlinearity"] = kind
    elif kind == "LSTM" and projected:
        settings["proj_size"] = 1
    name = kind if kind in ("GRU", "LSTM") else "RNN"
    layer = filled(getattr(nn, name)(features, hidden, dtype=torch.float64, **settings))
    form = getattr(recurrent, name)(input_size=features, hidden_size=hidden, dtype="float64", **settings)
    lead = () if batch is None else (batch, steps) if settings["batch_first"] else (steps, batch)
    shapes = [(*(lead or (steps,)), features)]
    if initial:
        depth = settings["num_layers"] * (2 if settings["bidirectional"] else 1)
        sizes = [settings.get("proj_size") or hidden, hidden][: 2 if kind == "LSTM" else 1]
        shapes += [(depth, *(() if batch is None else (batch,)), size) for size in sizes]

    def run(x: Tensor, *states: Tensor) -> Tensor:
        if not states:
            return layer(x)[0]
        return layer(x, states if kind == "LSTM" else states[0])[0]

    hold_taken_apart(form, layer, shapes, call=run)


ELEMENTWISE_LOSSES = ["MSELoss", "SmoothL1Loss", "HuberLoss", "SoftMarginLoss", "BCELoss", "BCEWithLogitsLoss"]
ELEMENTWISE_LOSSES += ["L1Loss", "PoissonNLLLoss", "KLDivLoss"]


def hold_loss(form: Any, layer: nn.Module, prediction: Callable[[], Tensor], target: Tensor) -> None:
    """A loss has no parameters, and its target no gradient."""
    x = prediction().requires_grad_()
    seen = observe(layer, x, target, pick=lambda y: y)
    specs = [spec(x), spec(target)]
    truth = observed(seen, x, target)
    truth.input_gradients = None
    hold(form, specs, truth)
    for needs in (True, False):
        run = dispatch(layer, prediction().requires_grad_(needs), target)
        stated = form.backward(*specs, needs_input_grad=needs)
        shapes = [g and g.shape for g in stated.input_gradients]
        assert shapes == [tuple(x.shape) if needs else None, None]
        counts = totals(form, specs, (needs, False), True, True)
        true = dict(zip(counts, (flops(run.forward)[:2], flops(run.backward)[:2]), strict=True))
        assert counts == true, f"{form} of {[s.shape for s in specs]}: theory {counts}, dispatched {true}"


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ELEMENTWISE_LOSSES)
def test_elementwise_losses(name: str, reduction: str, shape: tuple[int, ...]) -> None:
    target = numbers(*shape, seed=5).abs() / 8 + 0.1
    form, layer = getattr(loss, name)(reduction=reduction), getattr(nn, name)(reduction=reduction)
    hold_loss(form, layer, lambda: numbers(*shape).abs() / 8 + 0.1, target)


def test_batch_mean_of_a_divergence() -> None:
    target = numbers(2, 3, seed=5).abs() + 0.1
    form = loss.KLDivLoss(reduction="sum", batch_mean=True)
    hold_loss(form, nn.KLDivLoss(reduction="batchmean"), lambda: numbers(2, 3), target)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (2, 3, 2, 2)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["NLLLoss", "CrossEntropyLoss"])
def test_losses_of_classes(name: str, reduction: str, shape: tuple[int, ...]) -> None:
    target = torch.ones(shape[:1] + shape[2:] if len(shape) > 1 else (), dtype=torch.int64)
    form, layer = getattr(loss, name)(reduction=reduction), getattr(nn, name)(reduction=reduction)
    hold_loss(form, layer, lambda: numbers(*shape), target)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_frozen_recurrent(kind: str) -> None:
    layer = filled(getattr(nn, kind)(1, 2, dtype=torch.float64))
    form = getattr(recurrent, kind)(input_size=1, hidden_size=2, dtype="float64")
    shapes = [(1, 1), (1, 2), (1, 2)] if kind == "LSTM" else [(1, 1)]

    def run(x: Tensor, *states: Tensor) -> Tensor:
        return layer(x, states)[0] if states else layer(x)[0]

    hold_taken_apart(form, layer, shapes, call=run)


# --- planted errors ---


class OneStepMore(recurrent.LSTM):
    """As if the initial state's product were counted twice."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        first = inputs[0].shape[1] * self.gates * self.hidden_size * self.hidden_size
        return super().forward(*inputs) + Cost.matmul(first)


class EveryStateGradient(recurrent.LSTM):
    """The initial state's too, though it needs none."""

    def backward(self, *inputs: TensorSpec, **needs: Any) -> Backward:
        right = super().backward(*inputs, **needs)
        first = inputs[0].shape[1] * self.gates * self.hidden_size * self.hidden_size
        return replace(right, input=right.input + Cost.matmul(first))


class OneBiasOnly(recurrent.LSTM):
    """PyTorch has two."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(each for each in super().parameters if not each.name.startswith("bias_hh"))


@pytest.mark.parametrize("kind", [OneStepMore, EveryStateGradient, OneBiasOnly])
def test_planted_in_a_recurrent_layer(kind: type) -> None:
    layer = filled(nn.LSTM(3, 2, dtype=torch.float64))

    def run(x: Tensor) -> Tensor:
        return layer(x)[0]

    settings: dict[str, Any] = {"input_size": 3, "hidden_size": 2, "dtype": "float64"}
    hold_taken_apart(recurrent.LSTM(**settings), layer, [(4, 2, 3)], call=run)
    with pytest.raises(AssertionError, match=kind.__name__):
        hold_taken_apart(kind(**settings), layer, [(4, 2, 3)], call=run)


class WithoutTheOutput(MultiheadAttention):
    """The last projection forgotten."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        return super().forward(*inputs) + (-1) * self._out().forward(self.output(*inputs))


class HeadsCountedEach(MultiheadAttention):
    """Every head as wide as the embedding."""

    def _core_inputs(self, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        *heads, scores = super()._core_inputs(inputs)
        wide = (head.with_shape(*head.shape[:-1], head.shape[-1] * self.num_heads) for head in heads)
        return (*wide, scores)


@pytest.mark.parametrize("kind", [WithoutTheOutput, HeadsCountedEach])
def test_planted_in_attention(kind: type) -> None:
    layer = filled(nn.MultiheadAttention(4, 2, dtype=torch.float64))
    settings: dict[str, Any] = {"embed_dim": 4, "num_heads": 2, "dtype": "float64"}
    shapes = [(3, 2, 4), (5, 2, 4), (5, 2, 4)]
    hold_taken_apart(MultiheadAttention(**settings), layer, shapes)
    with pytest.raises(AssertionError, match=kind.__name__):
        hold_taken_apart(kind(**settings), layer, shapes)
