import pytest

from torchtally.theory.activations import (
    ACTIVATIONS,
    GLU,
    LogSigmoid,
    LogSoftmax,
    PReLU,
    RReLU,
    Softmax,
    Softmin,
    Softsign,
    Tanhshrink,
    activation,
)
from torchtally.theory.cost import Cost
from torchtally.theory.layer import Parameter, Saved, ShapeError
from torchtally.theory.tensor import TensorSpec

N, C, L = 2, 6, 5
X = TensorSpec((N, C, L))
ELEMENTS = N * C * L


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_elementwise_activations_are_one_flop_per_element_both_ways(name: str) -> None:
    layer = activation(name)
    assert layer.forward(X) == layer.backward(X).total == Cost(flops=ELEMENTS)
    assert (layer.kind, layer.output(X)) == ("activation", X)


def test_what_activations_save() -> None:
    assert activation("Tanh").saved(X) == (Saved("output", X),)
    assert activation("SiLU").saved(X) == activation("SiLU", in_place=True).saved(X) == (Saved("input", X),)
    assert activation("LeakyReLU").saved(X) == (Saved("input", X),)
    assert activation("LeakyReLU", in_place=True).saved(X) == (Saved("output", X),)


def test_an_unknown_activation_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no elementwise activation 'Softmax'; known: CELU"):
        activation("Softmax")


@pytest.mark.parametrize(
    ("layer", "forward", "backward", "saved"),
    [
        (Softmax(), 5, 5, ("output",)),
        (LogSoftmax(), 5, 5, ("output",)),
        (Softmin(), 1 + 5, 5 + 1, ("output",)),
        (LogSigmoid(), 1, 1, ("input", "intermediate")),
        (RReLU(), 1, 1, ("input", "mask")),
        (Softsign(), 3, 1 + 4 + 2, ("input", "intermediate")),
        (Tanhshrink(), 2, 2, ("intermediate",)),
    ],
)
def test_activations_of_several_operators(layer: Softmax, forward: int, backward: int, saved: tuple[str, ...]) -> None:
    assert layer.forward(X).flops == forward * ELEMENTS
    assert layer.backward(X).total.flops == backward * ELEMENTS
    assert tuple(kept.role for kept in layer.saved(X)) == saved


def test_glu_halves_a_dimension_and_its_gradient_is_whole() -> None:
    glu = GLU(dim=1)
    assert glu.output(X).shape == (N, C // 2, L)
    assert glu.forward(X).flops == N * (C // 2) * L
    assert glu.backward(X).total.flops == ELEMENTS
    assert glu.saved(X) == (Saved("input", X),)
    with pytest.raises(ShapeError, match="GLU needs an even size in dimension -1"):
        GLU().forward(X)
    with pytest.raises(ShapeError, match="in dimension 3"):
        GLU(dim=3).output(X)


def test_prelu_sums_the_gradient_of_its_slopes() -> None:
    prelu = PReLU(num_parameters=C)
    assert prelu.parameters == (Parameter("weight", (C,)),)
    assert prelu.forward(X) == Cost(flops=ELEMENTS)
    both = prelu.backward(X)
    assert (both.input.flops, both.weight.flops) == (ELEMENTS, ELEMENTS)
    first = prelu.backward(X, needs_input_grad=False)
    assert (first.input.flops, first.weight.flops) == (0, 2 * ELEMENTS)
    assert prelu.backward(X, needs_weight_grad=False).total.flops == ELEMENTS
    assert PReLU().output(TensorSpec((N,))).shape == (N,)
    with pytest.raises(ShapeError, match="PReLU has 4 slopes for 6 channels"):
        PReLU(num_parameters=4).forward(X)
