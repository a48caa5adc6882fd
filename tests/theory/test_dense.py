import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchtally.theory.cost import Cost
from torchtally.theory.dense import Linear
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
