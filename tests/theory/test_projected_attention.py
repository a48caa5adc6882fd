"""Attention between projections of their own: its products, counted one head, query and key at a time."""

from dataclasses import replace

import pytest

from torchtally.theory import MultiscaleAttention, ProjectedAttention, ShapeError, TensorSpec

N, L, S, HEADS, WIDTH, OUT = 2, 5, 3, 2, 4, 7
X = TensorSpec((N, L, 6))
ATTENTION = ProjectedAttention(heads=HEADS, width=WIDTH, out_features=OUT, projections=(("q",), ("k",), ("v",)))


def by_hand(queries: int, keys: int) -> int:
    """FLOPs of queries times keys."""
    return 2 * sum(1 for _ in range(N * HEADS * queries * keys) for _ in range(WIDTH))


def backward(layer: ProjectedAttention, *, flag: bool = False) -> int:
    return layer.backward(X, needs_input_grad=flag).total.matmul_flops


def test_to_itself_and_to_a_memory() -> None:
    assert ATTENTION.output(X) == TensorSpec((N, L, OUT))
    assert ATTENTION.forward(X).matmul_flops == 2 * by_hand(L, L)
    memory = replace(ATTENTION, keys=S)
    assert memory.output(X) == TensorSpec((N, L, OUT))
    assert memory.forward(X).matmul_flops == 2 * by_hand(L, S)
    assert backward(memory, flag=True) == 4 * by_hand(L, S)
    pooled = replace(ATTENTION, queries=2, keys=S)
    assert pooled.output(X) == TensorSpec((N, 2, OUT))
    assert pooled.forward(X).matmul_flops == 2 * by_hand(2, S)


@pytest.mark.parametrize(
    ("learns", "products"),
    [
        ((True, False, False), 2),  # scores, and from them the queries
        ((False, True, False), 2),
        ((False, False, True), 1),  # the values alone: scores times the output's gradient
        ((True, False, True), 3),
        ((True, True, True), 4),
        ((False, False, False), 0),
    ],
)
def test_gradients_that_are_needed(learns: tuple[bool, bool, bool], products: int) -> None:
    layer = replace(ATTENTION, keys=S, learns=learns)
    assert backward(layer) == products * by_hand(L, S)
    # One kernel gives all, and computes the scores again.
    assert backward(replace(layer, fused=True)) == (5 * by_hand(L, S) if products else 0)


def test_a_learnt_bias_of_the_scores_needs_their_gradient() -> None:
    bias = replace(ATTENTION, keys=S, bias_learns=True)
    assert backward(bias) == by_hand(L, S)
    assert backward(replace(bias, learns=(False, False, True))) == 2 * by_hand(L, S)
    assert backward(replace(bias, learns=(True, False, False))) == 2 * by_hand(L, S), "it is there already"


GRID = (1, 2, 3)
POOLED = MultiscaleAttention(
    heads=HEADS,
    width=WIDTH,
    out_features=OUT,
    projections=(("q",), ("k",), ("v",)),
    queries=4,
    keys=1 + 1 * 2 * 3,
    tables=(3, 5, 1),
    grid=GRID,
)


def test_relative_positions() -> None:
    """Each query but the first meets, for each place along each axis, a row of as many numbers as it has."""
    core, positions = by_hand(4, 7), by_hand(4 - 1, sum(GRID))
    assert POOLED.forward(X).matmul_flops == 2 * core + positions
    assert POOLED.backward(X).total.matmul_flops == 4 * core + 2 * positions
    frozen = POOLED.backward(X, needs_weight_grad=False)
    assert frozen.total.matmul_flops == 4 * core + positions
    tables = POOLED.backward(X, needs_input_grad=False)
    assert tables.total.matmul_flops == core + positions
    assert [parameter.shape for parameter in tables.parameter_gradients] == [(3, WIDTH), (5, WIDTH), (1, WIDTH)]
    plain = replace(POOLED, tables=(), grid=())
    assert plain.forward(X).matmul_flops == 2 * core
    assert plain.parameters == ()


def test_what_is_kept() -> None:
    kept = {saved.tensor.shape for saved in replace(ATTENTION, keys=S).saved(X)}
    assert kept == {(N, HEADS, L, WIDTH), (N, HEADS, S, WIDTH), (N, HEADS, L, S)}
    assert (N, HEADS, L, L) not in {saved.tensor.shape for saved in replace(ATTENTION, fused=True).saved(X)}


def test_inputs_and_settings_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="takes three dimensions"):
        ATTENTION.forward(TensorSpec((L, 6)))
    with pytest.raises(ValueError, match="heads must be at least 1"):
        replace(ATTENTION, heads=0)
