"""N sequences of L steps, E features in h heads, F features in between."""

import pytest

from torchtally.theory.cost import Cost
from torchtally.theory.layer import ShapeError
from torchtally.theory.tensor import TensorSpec
from torchtally.theory.transformer import TransformerEncoderLayer

N, L, E, HEADS, F = 2, 3, 8, 2, 16
X = TensorSpec((L, N, E))
ROWS, SCORES = N * L, N * HEADS * L * L
PRODUCTS = 2 * (4 * ROWS * E * E + 2 * N * L * L * E + 2 * ROWS * E * F)


def layer(**settings: object) -> TransformerEncoderLayer:
    defaults = {"d_model": E, "nhead": HEADS, "dim_feedforward": F, "dropout": 0.0, "fused": True}
    return TransformerEncoderLayer(**(defaults | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("norm_first", [False, True])
def test_forward_is_the_sum_of_its_parts(norm_first: bool) -> None:
    norms, residuals, activation = 2 * 5 * ROWS * E, 2 * ROWS * E, ROWS * F
    encoder = layer(norm_first=norm_first)
    assert encoder.output(X) == X
    assert encoder.forward(X) == Cost(
        flops=PRODUCTS + 5 * SCORES + norms + residuals + activation, matmul_flops=PRODUCTS
    )


@pytest.mark.parametrize("norm_first", [False, True])
def test_backward_is_the_sum_of_its_parts(norm_first: bool) -> None:
    again = 2 * N * L * L * E  # the fused kernel computes the scores once more
    biases = ROWS * (3 * E + E + F + E)
    backward = layer(norm_first=norm_first).backward(X)
    assert backward.total.matmul_flops == 2 * PRODUCTS + again
    assert backward.bias == Cost(flops=biases)
    norms, activation = 2 * 5 * ROWS * E, ROWS * F
    assert backward.total.flops == 2 * PRODUCTS + again + biases + 5 * SCORES + norms + activation
    assert backward.input_gradients == (X,)


def test_the_first_product_needs_no_input_gradient_if_nothing_comes_before_it() -> None:
    projection = 2 * ROWS * E * 3 * E
    for norm_first, spared in ((False, projection), (True, 0)):  # a trained norm before it needs one
        encoder = layer(norm_first=norm_first)
        first = encoder.backward(X, needs_input_grad=False).total
        assert encoder.backward(X).total.matmul_flops - first.matmul_flops == spared


def test_frozen_layers_pass_the_gradient_on() -> None:
    frozen = layer().backward(X, needs_weight_grad=False, needs_bias_grad=False)
    assert (frozen.weight, frozen.bias, frozen.parameter_gradients) == (Cost(), Cost(), ())
    again = 2 * N * L * L * E
    assert frozen.total.matmul_flops == PRODUCTS + 2 * N * L * L * E * 2 + again
    nothing = layer().backward(X, needs_input_grad=False, needs_weight_grad=False, needs_bias_grad=False)
    assert nothing.total == Cost()


def test_dropout_of_every_part() -> None:
    separate = layer(fused=False)
    dropped = layer(fused=False, dropout=0.1)
    elements = SCORES + ROWS * E + ROWS * F + ROWS * E
    assert dropped.forward(X).flops - separate.forward(X).flops == 2 * elements
    assert dropped.backward(X).total.flops - separate.backward(X).total.flops == elements
    assert layer(fused=False, dropout=0.1, training=False).forward(X) == separate.forward(X)


def test_parameters_in_pytorchs_order() -> None:
    names = [parameter.name for parameter in layer().parameters]
    assert names == [
        "self_attn.in_proj_weight",
        "self_attn.in_proj_bias",
        "self_attn.out_proj.weight",
        "self_attn.out_proj.bias",
        "linear1.weight",
        "linear1.bias",
        "linear2.weight",
        "linear2.bias",
        "norm1.weight",
        "norm1.bias",
        "norm2.weight",
        "norm2.bias",
    ]
    assert sum(parameter.elements for parameter in layer().parameters) == (
        4 * E * E + 4 * E + 2 * E * F + F + E + 2 * 2 * E
    )
    assert len(layer(bias=False).parameters) == 6
    assert layer().buffers == ()


def test_what_is_saved_once() -> None:
    rows, wide = N * L * E, N * L * F
    projected, log_sums, statistics = 3 * rows, N * HEADS * L, 4 * N * L
    # Input, packed projection, attention's output, both norms' inputs, linear1's input, ReLU's output.
    expected = rows + projected + rows + log_sums + 2 * rows + rows + wide + statistics
    assert sum(saved.tensor.elements for saved in layer().saved(X)) == expected


def test_settings_and_inputs_that_do_not_fit_raise() -> None:
    with pytest.raises(ValueError, match='activation must be "relu" or "gelu"'):
        layer(activation="tanh")
    with pytest.raises(ValueError, match="num_heads=3 must divide embed_dim=8"):
        layer(nhead=3)
    with pytest.raises(ShapeError, match="self_attn: MultiheadAttention expects"):
        layer().forward(TensorSpec((L, N, E + 1)))
