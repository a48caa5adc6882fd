"""A mixture of experts: its products, counted one token and expert at a time; and GPT-2's linear layer."""

import pytest

from torchtally.theory import GatedExperts, Linear, ShapeError, TensorSpec, TransposedLinear

T, K, EXPERTS, C, HIDDEN = 6, 2, 4, 3, 5
X, CHOSEN, WEIGHTS = TensorSpec((T, C)), TensorSpec((T, K), "int64"), TensorSpec((T, K))
LAYER = GatedExperts(experts=EXPERTS, features=C, hidden=HIDDEN)
# Gates and features from C numbers, both at once; and from the gated features back to C.
INTO, OUT = (
    2 * sum(1 for _ in range(T * K) for _ in range(one * other)) for one, other in ((C, 2 * HIDDEN), (HIDDEN, C))
)


def test_each_token_meets_the_experts_chosen_for_it() -> None:
    assert LAYER.output(X, CHOSEN, WEIGHTS) == X
    assert LAYER.forward(X, CHOSEN, WEIGHTS).matmul_flops == INTO + OUT
    assert LAYER.backward(X, CHOSEN, WEIGHTS).total.matmul_flops == 2 * (INTO + OUT)
    assert [p.shape for p in LAYER.parameters] == [(EXPERTS, 2 * HIDDEN, C), (EXPERTS, C, HIDDEN)]


def test_what_is_frozen() -> None:
    """The first matrix's gradient comes through the second; a router's needs no product."""
    first = LAYER.backward(X, CHOSEN, WEIGHTS, needs_input_grad=False).total.matmul_flops
    assert first == OUT + (INTO + OUT)
    frozen = LAYER.backward(X, CHOSEN, WEIGHTS, needs_weight_grad=False)
    assert frozen.total.matmul_flops == OUT + INTO
    assert frozen.input_gradients == (X, None, WEIGHTS)
    router = LAYER.backward(X, CHOSEN, WEIGHTS, needs_input_grad=(False, False, True), needs_weight_grad=False)
    assert router.total.matmul_flops == 0


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="takes"):
        LAYER.forward(TensorSpec((T, C + 1)), CHOSEN, WEIGHTS)
    with pytest.raises(ShapeError, match="as many choices as tokens"):
        LAYER.forward(X, TensorSpec((T + 1, K), "int64"), WEIGHTS)


def test_a_weight_stored_the_other_way_round() -> None:
    plain, turned = Linear(in_features=C, out_features=HIDDEN), TransposedLinear(in_features=C, out_features=HIDDEN)
    assert [p.shape for p in turned.parameters] == [(C, HIDDEN), (HIDDEN,)]
    assert turned.forward(X) == plain.forward(X)
    assert turned.backward(X).total == plain.backward(X).total
