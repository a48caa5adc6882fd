"""B sequences and heads together (or N and h apart), L queries, S keys, d and v features per head, E = h*d."""

import pytest

from torchtally.theory.attention import ScaledDotProductAttention
from torchtally.theory.cost import Cost
from torchtally.theory.layer import Parameter, Saved, ShapeError
from torchtally.theory.multihead import MultiheadAttention
from torchtally.theory.tensor import TensorSpec

N, HEADS, L, S, D, V = 2, 3, 4, 5, 6, 7
Q, K, VALUES = TensorSpec((N, HEADS, L, D)), TensorSpec((N, HEADS, S, D)), TensorSpec((N, HEADS, S, V))
SCORES = N * HEADS * L * S
FIRST, SECOND = 2 * SCORES * D, 2 * SCORES * V


def test_fused_attention_is_two_products_and_a_softmax() -> None:
    attention = ScaledDotProductAttention(fused=True)
    assert attention.output(Q, K, VALUES).shape == (N, HEADS, L, V)
    assert attention.forward(Q, K, VALUES) == Cost(flops=FIRST + SECOND + 5 * SCORES, matmul_flops=FIRST + SECOND)
    # dV and dP as the second product, dQ and dK as the first, and the scores over again.
    products = 2 * SECOND + 2 * FIRST + FIRST
    assert attention.backward(Q, K, VALUES).total == Cost(flops=products + 5 * SCORES, matmul_flops=products)
    assert [saved.role for saved in attention.saved(Q, K, VALUES)] == ["input"] * 3 + ["output", "statistics"]


def test_separate_operators_scale_both_operands() -> None:
    attention = ScaledDotProductAttention()
    scaling = Q.elements + K.elements
    assert attention.forward(Q, K, VALUES).flops == FIRST + SECOND + 5 * SCORES + scaling
    backward = attention.backward(Q, K, VALUES).total
    assert backward.matmul_flops == 2 * FIRST + 2 * SECOND
    assert backward.flops == 2 * FIRST + 2 * SECOND + 5 * SCORES + scaling


def test_masks_and_dropout_of_separate_operators() -> None:
    plain = ScaledDotProductAttention().forward(Q, K, VALUES).flops
    assert ScaledDotProductAttention(mask=True).forward(Q, K, VALUES).flops == plain + SCORES
    dropout = ScaledDotProductAttention(dropout=0.5)
    assert dropout.forward(Q, K, VALUES).flops == plain + 2 * SCORES
    back = ScaledDotProductAttention().backward(Q, K, VALUES).total.flops
    assert dropout.backward(Q, K, VALUES).total.flops == back + SCORES
    assert [saved.role for saved in dropout.saved(Q, K, VALUES)][-2:] == ["mask", "intermediate"]
    assert ScaledDotProductAttention(fused=True, mask=True, dropout=0.5).forward(Q, K, VALUES) == (
        ScaledDotProductAttention(fused=True).forward(Q, K, VALUES)
    )


def test_only_the_gradients_that_are_needed() -> None:
    attention = ScaledDotProductAttention(scaled="queries")
    only_values = attention.backward(Q, K, VALUES, needs_input_grad=(False, False, True)).total
    assert only_values == Cost(flops=SECOND, matmul_flops=SECOND)
    only_queries = attention.backward(Q, K, VALUES, needs_input_grad=(True, False, False)).total
    assert only_queries.matmul_flops == SECOND + FIRST
    assert only_queries.flops == SECOND + FIRST + 5 * SCORES + Q.elements
    assert attention.backward(Q, K, VALUES, needs_input_grad=False).total == Cost()
    fused = ScaledDotProductAttention(fused=True)
    everything = fused.backward(Q, K, VALUES).total
    assert fused.backward(Q, K, VALUES, needs_input_grad=(False, False, True)).total == everything


def test_fewer_heads_of_keys_are_repeated_and_their_gradients_summed() -> None:
    q = TensorSpec((N, 4, L, D))
    kv = TensorSpec((N, 2, S, D))
    scores = N * 4 * L * S
    attention = ScaledDotProductAttention()
    assert attention.forward(q, kv, kv).matmul_flops == 2 * (2 * scores * D)
    repeated = N * 4 * S * D
    scaling = q.elements + repeated
    assert attention.backward(q, kv, kv).total.flops == 4 * (2 * scores * D) + 5 * scores + scaling + 2 * repeated


def test_attention_inputs_that_do_not_fit_raise() -> None:
    attention = ScaledDotProductAttention()
    with pytest.raises(ShapeError, match="as many values as keys"):
        attention.forward(Q, K, TensorSpec((N, HEADS, S + 1, V)))
    with pytest.raises(ShapeError, match="keys as wide as queries"):
        attention.forward(Q, TensorSpec((N, HEADS, S, D + 1)), VALUES)
    with pytest.raises(ShapeError, match="heads that divide"):
        attention.forward(Q, *(TensorSpec((N, 2, S, D)),) * 2)
    with pytest.raises(ShapeError, match="same batch"):
        attention.forward(Q, *(TensorSpec((N + 1, HEADS, S, D)),) * 2)
    with pytest.raises(ShapeError, match="at least two dimensions"):
        attention.forward(*(TensorSpec((D,)),) * 3)


E = HEADS * D
X, MEMORY = TensorSpec((L, N, E)), TensorSpec((S, N, E))


def attention_products(queries: int, keys: int) -> int:
    """Of the two products inside, N sequences and E features in all heads together."""
    return 2 * (2 * N * queries * keys * E)


def test_self_attention() -> None:
    layer = MultiheadAttention(embed_dim=E, num_heads=HEADS)
    scores = N * HEADS * L * L
    projections = 4 * (2 * N * L * E * E)
    products = projections + attention_products(L, L)
    scaling, means = N * L * E, scores
    assert layer.output(X) == X
    assert layer.forward(X) == Cost(flops=products + 5 * scores + scaling + means, matmul_flops=products)
    backward = layer.backward(X)
    assert backward.total.matmul_flops == 2 * products
    assert backward.bias == Cost(flops=4 * N * L * E)
    assert backward.total.flops == 2 * products + 5 * scores + scaling + 4 * N * L * E
    assert [spec.shape for spec in layer.outputs(X)] == [(L, N, E), (N, L, L)]


def test_self_attention_at_the_start_of_a_network() -> None:
    layer = MultiheadAttention(embed_dim=E, num_heads=HEADS)
    saved = layer.backward(X).total.matmul_flops - layer.backward(X, needs_input_grad=False).total.matmul_flops
    assert saved == 3 * (2 * N * L * E * E)


def test_frozen_self_attention() -> None:
    frozen = MultiheadAttention(embed_dim=E, num_heads=HEADS).backward(
        X, needs_weight_grad=False, needs_bias_grad=False
    )
    assert frozen.total.matmul_flops == 4 * (2 * N * L * E * E) + 2 * attention_products(L, L)
    assert (frozen.weight, frozen.bias, frozen.parameter_gradients) == (Cost(), Cost(), ())
    nothing = MultiheadAttention(embed_dim=E, num_heads=HEADS).backward(
        X, needs_input_grad=False, needs_weight_grad=False, needs_bias_grad=False
    )
    assert nothing.total == Cost()


def test_cross_attention_with_other_widths() -> None:
    kdim, vdim = 5, 11
    layer = MultiheadAttention(embed_dim=E, num_heads=HEADS, kdim=kdim, vdim=vdim)
    assert [(parameter.name, parameter.shape) for parameter in layer.parameters] == [
        ("q_proj_weight", (E, E)),
        ("k_proj_weight", (E, kdim)),
        ("v_proj_weight", (E, vdim)),
        ("in_proj_bias", (3 * E,)),
        ("out_proj.weight", (E, E)),
        ("out_proj.bias", (E,)),
    ]
    key, value = TensorSpec((S, N, kdim)), TensorSpec((S, N, vdim))
    projections = 2 * N * (2 * L * E * E + S * kdim * E + S * vdim * E)
    assert layer.forward(X, key, value).matmul_flops == projections + attention_products(L, S)
    only_value = layer.backward(X, key, value, needs_input_grad=(False, False, True))
    assert only_value.input_gradients == (None, None, value)
    full = layer.backward(X, key, value).total.matmul_flops
    assert full - only_value.total.matmul_flops == 2 * N * (L * E * E + S * kdim * E)


def test_a_memory_is_key_and_value() -> None:
    layer = MultiheadAttention(embed_dim=E, num_heads=HEADS)
    assert layer.forward(X, MEMORY) == layer.forward(X, MEMORY, MEMORY)
    assert layer.backward(X, MEMORY).total == layer.backward(X, MEMORY, MEMORY).total
    assert layer.backward(X, MEMORY).input_gradients == (X, MEMORY)


def test_parameters_of_one_projection_for_all() -> None:
    layer = MultiheadAttention(embed_dim=E, num_heads=HEADS, add_bias_kv=True)
    assert layer.parameters == (
        Parameter("in_proj_weight", (3 * E, E)),
        Parameter("in_proj_bias", (3 * E,)),
        Parameter("bias_k", (1, 1, E)),
        Parameter("bias_v", (1, 1, E)),
        Parameter("out_proj.weight", (E, E)),
        Parameter("out_proj.bias", (E,)),
    )
    assert len(MultiheadAttention(embed_dim=E, num_heads=HEADS, bias=False).parameters) == 2


@pytest.mark.parametrize("setting", ["add_bias_kv", "add_zero_attn"])
def test_an_extra_key_is_one_more_column_of_scores(setting: str) -> None:
    plain = MultiheadAttention(embed_dim=E, num_heads=HEADS)
    extra = MultiheadAttention(embed_dim=E, num_heads=HEADS, **{setting: True})  # type: ignore[arg-type]
    more = attention_products(L, L + 1) - attention_products(L, L)
    assert extra.forward(X).matmul_flops - plain.forward(X).matmul_flops == more
    sums = 2 * N * E if setting == "add_bias_kv" else 0
    assert extra.backward(X).bias.flops - plain.backward(X).bias.flops == sums
    assert extra.outputs(X)[1].shape == (N, L, L + 1)


def test_fused_attention_has_no_weights_to_return() -> None:
    fused = MultiheadAttention(embed_dim=E, num_heads=HEADS, need_weights=False, fused=True)
    products = 4 * (2 * N * L * E * E) + attention_products(L, L)
    scores = N * HEADS * L * L
    assert fused.forward(X) == Cost(flops=products + 5 * scores, matmul_flops=products)
    again = attention_products(L, L) // 2
    assert fused.backward(X).total.matmul_flops == 2 * products + again
    assert fused.outputs(X) == (X,)
    with pytest.raises(ValueError, match="fused needs need_weights=False"):
        MultiheadAttention(embed_dim=E, num_heads=HEADS, fused=True)


def test_layouts() -> None:
    swapped = MultiheadAttention(embed_dim=E, num_heads=HEADS, batch_first=True, average_attn_weights=False)
    assert swapped.outputs(TensorSpec((N, L, E)))[1].shape == (N, HEADS, L, L)
    layer = MultiheadAttention(embed_dim=E, num_heads=HEADS)
    assert layer.forward(X).matmul_flops == swapped.forward(TensorSpec((N, L, E))).matmul_flops
    assert [spec.shape for spec in layer.outputs(TensorSpec((L, E)))] == [(L, E), (L, L)]
    assert layer.forward(TensorSpec((L, E))) == layer.forward(TensorSpec((L, 1, E)))


def test_one_projection_for_all_is_kept_whole() -> None:
    heads = TensorSpec((N, HEADS, L, D))
    scores = Saved("intermediate", TensorSpec((N, HEADS, L, L)))
    layer = MultiheadAttention(embed_dim=E, num_heads=HEADS)
    assert layer.saved(X) == (
        Saved("input", X),
        Saved("intermediate", TensorSpec((L, N, 3 * E))),
        Saved("intermediate", heads),  # the scaled queries
        scores,
        Saved("intermediate", X),
    )
    three = layer.saved(X, X, X)
    assert [saved.role for saved in three] == ["input"] * 3 + ["intermediate"] * 5
    assert sum(saved.tensor.elements for saved in layer.saved(X, MEMORY)) == (
        X.elements + MEMORY.elements + 2 * MEMORY.elements + X.elements + N * HEADS * L * S + X.elements
    )


def test_multihead_inputs_that_do_not_fit_raise() -> None:
    layer = MultiheadAttention(embed_dim=E, num_heads=HEADS)
    with pytest.raises(ShapeError, match=r"expects \(18, 18, 18\) features"):
        layer.forward(TensorSpec((L, N, E + 1)))
    with pytest.raises(ShapeError, match="two or three dimensions"):
        layer.forward(TensorSpec((E,)))
    with pytest.raises(ShapeError, match="one batch, and as many values as keys"):
        layer.forward(X, MEMORY, X)
    with pytest.raises(ShapeError, match="one batch"):
        layer.forward(X, TensorSpec((S, N + 1, E)))
    with pytest.raises(ShapeError, match="one to three inputs, got 4"):
        layer.forward(X, X, X, X)
    with pytest.raises(ValueError, match="num_heads=4 must divide embed_dim=18"):
        MultiheadAttention(embed_dim=E, num_heads=4)
