"""The contract of `layer`, held by every kind: one line per kind drives all checks."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchtally import theory
from torchtally.theory import Backward, Cost, Layer, Parameter, TensorSpec, parameter_bytes, parameter_count
from torchtally.theory.layer import gradients, is_bias, trained, wants

KINDS = {
    "convolution", "normalization", "activation", "pooling", "linear", "attention", "recurrent", "embedding", "loss",
    "other",
}  # fmt: skip
IMAGE, ROWS, SEQUENCE = TensorSpec((2, 4, 6, 6)), TensorSpec((2, 4)), TensorSpec((3, 2, 4))
INDICES, SIGNAL = TensorSpec((2,), "int64"), TensorSpec((2, 4, 6))

CASES: list[tuple[Layer, tuple[TensorSpec, ...]]] = [
    (theory.Conv1d(in_channels=4, out_channels=2, kernel_size=3), (SIGNAL,)),
    (theory.Conv2d(in_channels=4, out_channels=2, kernel_size=3), (IMAGE,)),
    (theory.ConvTranspose2d(in_channels=4, out_channels=2, kernel_size=3), (IMAGE,)),
    (theory.Linear(in_features=4, out_features=3), (ROWS,)),
    (theory.TransposedLinear(in_features=4, out_features=3), (ROWS,)),
    (theory.Bilinear(in1_features=4, in2_features=4, out_features=3), (ROWS, ROWS)),
    (theory.BatchNorm(num_features=4), (IMAGE,)),
    (theory.GroupNorm(num_groups=2, num_channels=4), (IMAGE,)),
    (theory.InstanceNorm(num_features=4, affine=True), (IMAGE,)),
    (theory.LayerNorm(normalized_shape=6), (IMAGE,)),
    (theory.RMSNorm(normalized_shape=6), (IMAGE,)),
    (theory.LocalResponseNorm(size=3), (IMAGE,)),
    (theory.MaxPool2d(kernel_size=2), (IMAGE,)),
    (theory.AvgPool2d(kernel_size=2), (IMAGE,)),
    (theory.AdaptiveAvgPool2d(output_size=5), (IMAGE,)),
    (theory.AdaptiveMaxPool2d(output_size=5), (IMAGE,)),
    (theory.GlobalAveragePool(), (IMAGE,)),
    (theory.ReLU(), (IMAGE,)),
    (theory.activation("GELU"), (IMAGE,)),
    (theory.Softmax(), (ROWS,)),
    (theory.PReLU(num_parameters=4), (IMAGE,)),
    (theory.GLU(), (ROWS,)),
    (theory.Dropout(), (ROWS,)),
    (theory.Residual(), (ROWS,)),
    (theory.Identity(), (ROWS,)),
    (theory.Flatten(), (IMAGE,)),
    (theory.Embedding(num_embeddings=5, embedding_dim=3), (INDICES,)),
    (theory.EmbeddingBag(num_embeddings=5, embedding_dim=3), (INDICES, INDICES)),
    (theory.ScaledDotProductAttention(), (SEQUENCE,) * 3),
    (theory.MultiheadAttention(embed_dim=4, num_heads=2), (SEQUENCE,)),
    (theory.TransformerEncoderLayer(d_model=4, nhead=2, dim_feedforward=6), (SEQUENCE,)),
    (theory.ShiftedWindowAttention(features=4, heads=2, window=(4, 4)), (TensorSpec((2, 6, 6, 4)),)),
    (theory.ShiftedWindowAttention(features=4, heads=2, window=(2, 3), cosine=True), (TensorSpec((2, 6, 6, 4)),)),
    (
        theory.ShiftedWindowAttention(features=4, heads=2, window=(2, 2, 3), adapts=True),
        (TensorSpec((2, 1, 6, 6, 4)),),
    ),
    (theory.RelativePositionalAttention(features=4, heads=2, tokens=9), (TensorSpec((2, 3, 9, 4)),)),
    (
        theory.ProjectedAttention(heads=2, width=3, out_features=4, projections=(("q",), ("k",), ("v",))),
        (TensorSpec((2, 5, 4)),),
    ),
    (
        theory.MultiscaleAttention(
            heads=2, width=3, out_features=4, projections=(("q",), ("k",), ("v",)), tables=(3, 3, 1), grid=(1, 2, 2)
        ),
        (TensorSpec((2, 5, 4)),),
    ),
    (
        theory.GatedExperts(experts=3, features=4, hidden=5),
        (TensorSpec((6, 4)), TensorSpec((6, 2), "int64"), TensorSpec((6, 2))),
    ),
    (theory.RNN(input_size=4, hidden_size=3), (SEQUENCE,)),
    (theory.GRU(input_size=4, hidden_size=3, num_layers=2), (SEQUENCE,)),
    (theory.LSTM(input_size=4, hidden_size=3, bidirectional=True), (SEQUENCE,)),
    (theory.CrossEntropyLoss(), (ROWS, INDICES)),
    (theory.MSELoss(), (ROWS, ROWS)),
]

each = pytest.mark.parametrize(("layer", "inputs"), CASES, ids=[type(layer).__name__ for layer, _ in CASES])


@each
def test_layers_keep_the_contract(layer: Layer, inputs: tuple[TensorSpec, ...]) -> None:
    assert isinstance(layer, Layer)
    assert layer.kind in KINDS
    assert isinstance(layer.output(*inputs), TensorSpec)
    assert isinstance(layer.forward(*inputs), Cost)
    assert 0 <= layer.forward(*inputs).matmul_flops <= layer.forward(*inputs).flops
    assert isinstance(hash(layer), int)
    assert all(isinstance(saved.tensor, TensorSpec) for saved in layer.saved(*inputs))
    assert len({parameter.name for parameter in layer.parameters}) == len(layer.parameters)


@each
def test_layers_are_frozen(layer: Layer, inputs: tuple[TensorSpec, ...]) -> None:
    instance: Any = layer
    for setting in fields(instance):
        with pytest.raises(FrozenInstanceError):
            setattr(instance, setting.name, None)


@each
def test_what_needs_no_gradient_costs_nothing(layer: Layer, inputs: tuple[TensorSpec, ...]) -> None:
    nothing = layer.backward(*inputs, needs_input_grad=False, needs_weight_grad=False, needs_bias_grad=False)
    assert nothing == Backward(input_gradients=(None,) * len(inputs))


@each
def test_gradients_are_shaped_like_what_they_are_of(layer: Layer, inputs: tuple[TensorSpec, ...]) -> None:
    backward = layer.backward(*inputs)
    assert backward.parameter_gradients == layer.parameters
    for spec, gradient in zip(inputs, backward.input_gradients, strict=True):
        assert gradient in (spec, None)
    assert backward.parameter_gradient_bytes == parameter_bytes(layer)


@each
def test_every_gradient_needed_is_at_least_every_part(layer: Layer, inputs: tuple[TensorSpec, ...]) -> None:
    full = layer.backward(*inputs).total.flops
    assert layer.backward(*inputs, needs_input_grad=False).total.flops <= full
    assert layer.backward(*inputs, needs_weight_grad=False, needs_bias_grad=False).total.flops <= full
    assert layer.backward(*inputs).input == layer.backward(*inputs, needs_bias_grad=False).input


@each
def test_a_twice_as_large_batch_costs_twice_as_much(layer: Layer, inputs: tuple[TensorSpec, ...]) -> None:
    first = (theory.ScaledDotProductAttention, theory.ShiftedWindowAttention, theory.RelativePositionalAttention)
    first += (theory.ProjectedAttention,)
    batch = 1 if layer.kind in ("recurrent", "attention") and not isinstance(layer, first) else 0
    doubled = tuple(
        spec.with_shape(*(size * 2 if at == batch else size for at, size in enumerate(spec.shape))) for spec in inputs
    )
    assert layer.forward(*doubled) == 2 * layer.forward(*inputs)
    assert layer.backward(*doubled).total == 2 * layer.backward(*inputs).total


def test_the_cases_cover_every_public_layer() -> None:
    public = {name for name in theory.__all__ if isinstance(getattr(theory, name), type)}
    families = ("Conv", "MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool")  # one of each stands for all
    covered = {type(layer).__name__ for layer, _ in CASES}
    layers = {name for name in public if hasattr(getattr(theory, name), "saved") and name != "Layer"}
    missing = {name for name in layers - covered if not name.startswith(families) and not name.endswith("Loss")}
    assert missing <= {"LogSoftmax", "Softmin", "Softsign", "Tanhshrink", "LogSigmoid", "RReLU", "LayerPrediction"}


@given(st.lists(st.booleans(), max_size=4))
def test_flags_are_one_for_all_or_one_each(flags: list[bool]) -> None:
    inputs = (ROWS,) * len(flags)
    assert wants(tuple(flags), inputs) == tuple(flags)
    assert wants(True, inputs) == (True,) * len(flags)
    assert [gradient is not None for gradient in gradients(tuple(flags), inputs)] == flags
    with pytest.raises(ValueError, match="flags for"):
        wants((True,) * (len(flags) + 1), inputs)


def test_biases_are_known_by_name() -> None:
    names = ["bias", "in_proj_bias", "bias_hh_l0_reverse", "bias_k", "out_proj.bias"]
    assert all(is_bias(Parameter(name, (1,))) for name in names)
    weight, bias = Parameter("weight", (2, 3)), Parameter("bias", (2,), "float16")
    assert trained((weight, bias), True, False) == (weight,)
    assert trained((weight, bias), False, True) == (bias,)
    assert (weight.nbytes, bias.nbytes) == (24, 4)


def test_parameters_are_counted_without_buffers() -> None:
    norm = theory.BatchNorm(num_features=4)
    assert (parameter_count(norm), parameter_bytes(norm)) == (8, 32)
