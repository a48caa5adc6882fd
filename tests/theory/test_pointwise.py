import pytest

from torchtally.theory.cost import Cost
from torchtally.theory.layer import Saved, ShapeError
from torchtally.theory.pointwise import Activation, Dropout, Flatten, Identity, ReLU, Residual
from torchtally.theory.tensor import TensorSpec

N, C, H, W = 2, 3, 5, 7
X = TensorSpec((N, C, H, W))
ONE_PER_ELEMENT = Cost(flops=N * C * H * W)


@pytest.mark.parametrize("in_place", [False, True])
def test_relu_is_one_comparison_per_element_and_saves_its_output(in_place: bool) -> None:
    relu = ReLU(in_place=in_place)
    assert relu.output(X) == X
    assert relu.forward(X) == relu.backward(X).total == ONE_PER_ELEMENT
    assert relu.backward(X).gradient_bytes == N * C * H * W * 4
    assert relu.saved(X) == (Saved("output", X),)
    assert (relu.parameters, relu.buffers, relu.kind) == ((), (), "activation")


def test_an_activation_says_what_it_saves() -> None:
    assert Activation(name="gelu").saved(X) == (Saved("input", X),)
    assert Activation(name="tanh", saves="output").saved(X) == (Saved("output", X),)
    assert Activation(name="negate", saves="nothing").saved(X) == ()
    assert Activation(name="gelu").forward(X) == ONE_PER_ELEMENT
    with pytest.raises(ValueError, match="saves must be"):
        Activation(name="x", saves="everything")  # type: ignore[arg-type]


def test_dropout_scales_its_mask_and_multiplies() -> None:
    elements = N * C * H * W
    assert Dropout().forward(X) == Cost(flops=2 * elements)
    assert Dropout().backward(X).total == Cost(flops=elements)
    assert Dropout().saved(X) == (Saved("mask", X),)


def test_dropout_in_one_operator() -> None:
    assert Dropout(fused=True).forward(X) == Dropout(fused=True).backward(X).total == ONE_PER_ELEMENT
    assert Dropout(fused=True).saved(X) == (Saved("mask", X.with_dtype("bool")),)


@pytest.mark.parametrize("fused", [False, True])
def test_dropout_per_channel_has_a_small_mask(fused: bool) -> None:
    dropout = Dropout(per_channel=True, fused=fused)
    assert dropout.forward(X) == Cost(flops=N * C * H * W + N * C)
    assert dropout.saved(X) == (Saved("mask", TensorSpec((N, C, 1, 1))),)
    with pytest.raises(ShapeError, match="Dropout per channel takes"):
        dropout.forward(TensorSpec((N, C)))


@pytest.mark.parametrize("dropout", [Dropout(training=False), Dropout(p=0.0)])
def test_dropout_that_drops_nothing_does_nothing(dropout: Dropout) -> None:
    assert dropout.forward(X) == dropout.backward(X).total == Cost()
    assert dropout.saved(X) == ()


def test_a_probability_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match="p must be between 0 and 1"):
        Dropout(p=1.5)


def test_a_residual_sum_passes_its_gradient_on() -> None:
    assert Residual().forward(X) == ONE_PER_ELEMENT
    assert Residual().backward(X).total == Cost()
    assert Residual().backward(X).input_gradients == (X,)


def test_identity_and_flatten_are_free() -> None:
    assert Identity().output(X) == X
    assert Identity().forward(X) == Identity().backward(X).total == Cost()
    assert Flatten().output(X).shape == (N, C * H * W)
    assert Flatten(start_dim=-2).output(X).shape == (N, C, H * W)
    assert Flatten(start_dim=0, end_dim=1).output(X).shape == (N * C, H, W)
    assert Flatten().forward(X) == Flatten().backward(X).total == Cost()
    assert Flatten().backward(X).gradient_bytes == X.nbytes


def test_flatten_of_dimensions_that_do_not_exist_raises() -> None:
    with pytest.raises(ShapeError, match="Flatten cannot join dimensions 1 to -1"):
        Flatten().forward(TensorSpec((N,)))
    with pytest.raises(ShapeError):
        Flatten(start_dim=2, end_dim=1).output(X)
