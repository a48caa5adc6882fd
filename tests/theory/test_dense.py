import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchtally.theory.cost import Cost
from torchtally.theory.dense import Bilinear, Linear
from torchtally.theory.layer import Parameter, Saved, ShapeError
from torchtally.theory.tensor import TensorSpec


def test_the_walkthroughs_classifier() -> None:
    fc = Linear(in_features=128, out_features=10)
    x = TensorSpec((32, 128))
    assert fc.output(x) == TensorSpec((32, 10))
    assert fc.parameters == (Parameter("weight", (10, 128)), Parameter("bias", (10,)))
    assert fc.forward(x) == Cost(flops=81_920, matmul_flops=81_920)
    backward = fc.backward(x)
    assert (backward.weight.flops, backward.bias.flops, backward.input.flops) == (81_920, 320, 81_920)
    assert backward.total == Cost(flops=164_160, matmul_flops=163_840)
    assert backward.parameter_gradient_bytes + backward.gradient_bytes == 21_544


@given(
    lead=st.lists(st.integers(0, 5), max_size=3),
    features=st.integers(1, 9),
    out=st.integers(1, 9),
    bias=st.booleans(),
)
def test_leading_dimensions_are_rows(lead: list[int], features: int, out: int, bias: bool) -> None:
    m = 1
    for size in lead:
        m *= size
    layer = Linear(in_features=features, out_features=out, bias=bias)
    x = TensorSpec((*lead, features))
    assert layer.output(x).shape == (*lead, out)
    assert layer.forward(x).flops == 2 * m * features * out
    assert layer.backward(x).total.flops == 2 * (2 * m * features * out) + (m * out if bias else 0)
    assert layer.saved(x) == (Saved("input", x),)


def test_only_what_is_needed_is_computed() -> None:
    n, c, k = 3, 5, 7
    fc = Linear(in_features=c, out_features=k)
    x = TensorSpec((n, c))
    assert fc.backward(x, needs_input_grad=False).total.flops == 2 * n * c * k + n * k
    assert fc.backward(x, needs_weight_grad=False).parameter_gradients == (Parameter("bias", (k,)),)
    assert fc.backward(x, needs_weight_grad=False, needs_bias_grad=False).total.flops == 2 * n * c * k
    assert fc.backward(x, needs_bias_grad=False).bias == Cost()


def test_another_last_dimension_raises() -> None:
    with pytest.raises(ShapeError, match=r"Linear expects 5 features in the last dimension, got \(2, 4\)"):
        Linear(in_features=5, out_features=1).forward(TensorSpec((2, 4)))
    with pytest.raises(ShapeError):
        Linear(in_features=5, out_features=1).output(TensorSpec(()))


def test_sizes_below_one_raise() -> None:
    with pytest.raises(ValueError, match="out_features must be at least 1, got 0"):
        Linear(in_features=1, out_features=0)


M, IN1, IN2, OUT = 4, 3, 5, 7
BILINEAR = Bilinear(in1_features=IN1, in2_features=IN2, out_features=OUT)
X1, X2 = TensorSpec((2, 2, IN1)), TensorSpec((2, 2, IN2))


def test_bilinear_contracts_two_operands_at_a_time() -> None:
    assert BILINEAR.output(X1, X2).shape == (2, 2, OUT)
    assert BILINEAR.parameters == (Parameter("weight", (OUT, IN1, IN2)), Parameter("bias", (OUT,)))
    assert BILINEAR.forward(X1, X2) == Cost.matmul(OUT * (M * IN1 * IN2 + M * IN2))
    assert BILINEAR.saved(X1, X2) == (Saved("input", X1), Saved("input", X2))


def test_bilinear_gradients_apart() -> None:
    of_x1 = OUT * (M * IN1 * IN2 + M * IN1 * IN2)
    of_x2 = OUT * (M * IN1 * IN2 + M * IN2)
    of_weight = OUT * (M * IN1 + M * IN1 * IN2)
    backward = BILINEAR.backward(X1, X2)
    assert backward.input == Cost.matmul(of_x1 + of_x2)
    assert backward.weight == Cost.matmul(of_weight)
    assert backward.bias == Cost(flops=M * OUT)
    assert BILINEAR.backward(X1, X2, needs_input_grad=(True, False)).input == Cost.matmul(of_x1)
    only_second = BILINEAR.backward(X1, X2, needs_input_grad=(False, True), needs_weight_grad=False)
    assert (only_second.input, only_second.weight) == (Cost.matmul(of_x2), Cost())
    assert only_second.input_gradients == (None, X2)


def test_bilinear_inputs_that_do_not_fit_raise() -> None:
    with pytest.raises(ShapeError, match="Bilinear needs the same leading dimensions"):
        BILINEAR.forward(TensorSpec((2, IN1)), TensorSpec((3, IN2)))
    with pytest.raises(ShapeError, match="Bilinear expects 5 features"):
        BILINEAR.forward(TensorSpec((2, IN1)), TensorSpec((2, IN1)))
