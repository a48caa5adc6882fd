"""T steps of N sequences with I features; H hidden units in g gates, R fed back; the rules of `recurrence`."""

import pytest

from torchtally.theory.cost import Cost
from torchtally.theory.layer import Parameter, Saved, ShapeError
from torchtally.theory.recurrence import Recurrence
from torchtally.theory.recurrent import GRU, LSTM, RNN
from torchtally.theory.tensor import TensorSpec

T, N, IN, H, R = 4, 3, 7, 5, 2
X = TensorSpec((T, N, IN))
GATES = {RNN: 1, GRU: 3, LSTM: 4}
GATE_FORWARD = {RNN: 2, GRU: 10, LSTM: 13}
GATE_BACKWARD = {RNN: 1 * T, GRU: 8 * T, LSTM: 11 * T - 1}  # per hidden unit, all steps

kinds = pytest.mark.parametrize("kind", [RNN, GRU, LSTM])


@kinds
def test_forward_is_two_products_per_step_and_the_gates(kind: type[Recurrence]) -> None:
    layer = kind(input_size=IN, hidden_size=H)
    g = GATES[kind]
    products = 2 * (T * N * IN * g * H + T * N * H * g * H)
    gates = T * N * H * GATE_FORWARD[kind]
    assert layer.forward(X) == Cost(flops=products + gates, matmul_flops=products)
    assert layer.output(X).shape == (T, N, H)


@kinds
def test_backward_through_time(kind: type[Recurrence]) -> None:
    layer = kind(input_size=IN, hidden_size=H)
    g = GATES[kind]
    of_input, of_hidden = 2 * T * N * IN * g * H, 2 * T * N * H * g * H
    hidden_state = 2 * (T - 1) * N * H * g * H  # the initial state needs no gradient
    gates = N * H * GATE_BACKWARD[kind]
    backward = layer.backward(X)
    assert backward.weight == Cost(flops=of_input + of_hidden, matmul_flops=of_input + of_hidden)
    assert backward.input == Cost(flops=of_input + hidden_state + gates, matmul_flops=of_input + hidden_state)
    assert backward.bias == Cost(flops=2 * T * N * g * H)
    first = layer.backward(X, needs_input_grad=False)
    assert first.input.matmul_flops == hidden_state


@kinds
def test_frozen_layers_still_pass_the_gradient_on(kind: type[Recurrence]) -> None:
    layer = kind(input_size=IN, hidden_size=H)
    frozen = layer.backward(X, needs_weight_grad=False, needs_bias_grad=False)
    assert (frozen.weight, frozen.bias, frozen.parameter_gradients) == (Cost(), Cost(), ())
    # The first step's W_hn h is then made of nothing that needs a gradient: r * hn passes it to r alone.
    less = N * H if kind is GRU else 0
    assert frozen.input == layer.backward(X).input + Cost(flops=-less)
    nothing = layer.backward(X, needs_input_grad=False, needs_weight_grad=False, needs_bias_grad=False)
    assert nothing.total == Cost()


@kinds
def test_fused_kernels_compute_what_nobody_asked_for(kind: type[Recurrence]) -> None:
    states = (TensorSpec((1, N, H)),) * kind.states
    everything = kind(input_size=IN, hidden_size=H).backward(X, *states).total
    asked = {"needs_input_grad": False, "needs_weight_grad": False, "needs_bias_grad": True}
    assert kind(input_size=IN, hidden_size=H, unasked="everything").backward(X, **asked).total == everything
    data = kind(input_size=IN, hidden_size=H, unasked="data").backward(X, **asked)
    assert (data.input, data.weight) == (kind(input_size=IN, hidden_size=H).backward(X, *states).input, Cost())
    assert data.input_gradients == (None,)


@kinds
def test_layers_and_directions(kind: type[Recurrence]) -> None:
    layer = kind(input_size=IN, hidden_size=H, num_layers=3, bidirectional=True)
    g = GATES[kind]
    below = 2 * H
    products = 2 * 2 * T * N * g * H * ((IN + H) + (below + H) + (below + H))
    assert layer.forward(X).matmul_flops == products
    assert layer.output(X).shape == (T, N, 2 * H)
    # Inner inputs always need a gradient; the outer one does not here.
    passed = 2 * 2 * g * H * N * (3 * (T - 1) * H + 2 * T * below)
    assert layer.backward(X, needs_input_grad=False).input.matmul_flops == passed


def test_parameters_have_pytorchs_names() -> None:
    assert GRU(input_size=IN, hidden_size=H, bidirectional=True).parameters[4:] == (
        Parameter("weight_ih_l0_reverse", (3 * H, IN)),
        Parameter("weight_hh_l0_reverse", (3 * H, H)),
        Parameter("bias_ih_l0_reverse", (3 * H,)),
        Parameter("bias_hh_l0_reverse", (3 * H,)),
    )
    projected = LSTM(input_size=IN, hidden_size=H, num_layers=2, proj_size=R, bias=False)
    assert [(parameter.name, parameter.shape) for parameter in projected.parameters] == [
        ("weight_ih_l0", (4 * H, IN)),
        ("weight_hh_l0", (4 * H, R)),
        ("weight_hr_l0", (R, H)),
        ("weight_ih_l1", (4 * H, R)),
        ("weight_hh_l1", (4 * H, R)),
        ("weight_hr_l1", (R, H)),
    ]
    assert projected.buffers == ()


def test_a_projected_lstm_feeds_less_back() -> None:
    layer = LSTM(input_size=IN, hidden_size=H, proj_size=R)
    assert layer.forward(X).matmul_flops == 2 * T * N * (4 * H * (IN + R) + H * R)
    backward = layer.backward(X)
    assert backward.weight.matmul_flops == 2 * T * N * (4 * H * (IN + R) + H * R)
    assert backward.input.matmul_flops == 2 * N * (4 * H * (T * IN + (T - 1) * R) + T * H * R)
    assert [spec.shape for spec in layer.outputs(X)] == [(T, N, R), (1, N, R), (1, N, H)]


def test_initial_states_with_gradients_add_the_first_steps() -> None:
    layer = LSTM(input_size=IN, hidden_size=H)
    state = TensorSpec((1, N, H))
    without = layer.backward(X, state, state, needs_input_grad=(True, False, False))
    assert without.total == layer.backward(X).total
    both = layer.backward(X, state, state)
    assert both.input.matmul_flops - without.input.matmul_flops == 2 * N * H * 4 * H
    products = both.input.matmul_flops
    assert both.input.flops - products == 11 * T * N * H
    assert both.input_gradients == (X, state, state)


def test_batch_first_and_unbatched() -> None:
    layer = GRU(input_size=IN, hidden_size=H, batch_first=True)
    swapped = TensorSpec((N, T, IN))
    assert layer.output(swapped).shape == (N, T, H)
    assert layer.forward(swapped) == GRU(input_size=IN, hidden_size=H).forward(X)
    assert [spec.shape for spec in layer.outputs(swapped)] == [(N, T, H), (1, N, H)]
    alone = TensorSpec((T, IN))
    assert [spec.shape for spec in layer.outputs(alone)] == [(T, H), (1, H)]
    assert layer.forward(alone) == layer.forward(TensorSpec((1, T, IN)))


def test_dropout_between_layers_only() -> None:
    plain = RNN(input_size=IN, hidden_size=H, num_layers=3)
    dropped = RNN(input_size=IN, hidden_size=H, num_layers=3, dropout=0.5)
    assert dropped.forward(X).flops - plain.forward(X).flops == 2 * (2 * T * N * H)
    assert dropped.backward(X).total.flops - plain.backward(X).total.flops == 2 * (T * N * H)
    evaluation = RNN(input_size=IN, hidden_size=H, num_layers=3, dropout=0.5, training=False)
    assert evaluation.forward(X) == plain.forward(X)


@pytest.mark.parametrize(
    ("layer", "elements"),
    [
        (RNN(input_size=IN, hidden_size=H), T * N * IN + N * H + T * N * H),
        (GRU(input_size=IN, hidden_size=H), T * N * IN + N * H + T * N * 6 * H + (T - 1) * N * H),
        (LSTM(input_size=IN, hidden_size=H), T * N * IN + 2 * N * H + T * N * 5 * H + (T - 1) * N * 2 * H),
        (
            LSTM(input_size=IN, hidden_size=H, proj_size=R),
            T * N * IN + N * (R + H) + T * N * 6 * H + (T - 1) * N * (R + H),
        ),
        (
            RNN(input_size=IN, hidden_size=H, num_layers=2, dropout=0.5),
            T * N * IN + 2 * T * N * H + 2 * (N * H + T * N * H),
        ),
    ],
)
def test_what_is_saved(layer: Recurrence, elements: int) -> None:
    assert sum(saved.tensor.elements for saved in layer.saved(X)) == elements
    assert layer.saved(X)[0] == Saved("input", X)


def test_inputs_that_do_not_fit_raise() -> None:
    layer = LSTM(input_size=IN, hidden_size=H)
    with pytest.raises(ShapeError, match="LSTM takes two or three dimensions, the last of 7 features"):
        layer.forward(TensorSpec((T, N, IN + 1)))
    with pytest.raises(ShapeError, match=r"got \(0, 3, 7\)"):
        layer.forward(TensorSpec((0, N, IN)))
    with pytest.raises(ShapeError, match=r"LSTM expects initial states \(\(1, 3, 5\), \(1, 3, 5\)\), got \(1, 3, 5\)"):
        layer.forward(X, TensorSpec((1, N, H)))


def test_settings_that_make_no_layer_raise() -> None:
    with pytest.raises(ValueError, match="proj_size must be below hidden_size=5, got 5"):
        LSTM(input_size=IN, hidden_size=H, proj_size=H)
    with pytest.raises(ValueError, match="nonlinearity must be"):
        RNN(input_size=IN, hidden_size=H, nonlinearity="gelu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_layers must be at least 1"):
        GRU(input_size=IN, hidden_size=H, num_layers=0)
