import pytest

from torchtally.theory.cost import Cost
from torchtally.theory.layer import Saved, ShapeError
from torchtally.theory.pointwise import Activation, Dropout, Flatten, Identity, ReLU
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


def test_dropout_works_in_training_only() -> None:
    assert Dropout().forward(X) == Dropout().backward(X).total == ONE_PER_ELEMENT
    assert Dropout().saved(X) == (Saved("mask", X),)
    assert Dropout(mask_dtype="bool").saved(X) == (Saved("mask", X.with_dtype("bool")),)
    evaluation = Dropout(training=False)
    assert evaluation.forward(X) == evaluation.backward(X).total == Cost()
    assert evaluation.saved(X) == ()
    with pytest.raises(ValueError, match="p must be between 0 and 1"):
        Dropout(p=1.5)


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
