"""Attention within windows: its products, counted one window, head, query and key at a time."""

import pytest

from torchtally.theory import RelativePositionalAttention, ShapeError, ShiftedWindowAttention, TensorSpec

C, HEADS = 6, 2


def by_hand(windows: int, tokens: int) -> int:
    """Multiply-adds of queries times keys."""
    return sum(1 for _ in range(windows * HEADS * tokens * tokens) for _ in range(C // HEADS))


@pytest.mark.parametrize(("size", "windows"), [((4, 6), 4), ((3, 5), 4), ((2, 3), 1), ((1, 1), 1)])
def test_the_map_is_padded_to_whole_windows(size: tuple[int, int], windows: int) -> None:
    layer = ShiftedWindowAttention(features=C, heads=HEADS, window=(2, 3))
    x = TensorSpec((2, *size, C))
    core = 2 * 2 * by_hand(2 * windows, 6)
    projections = 2 * (2 * windows * 6) * C * 4 * C
    assert layer.output(x) == x
    assert layer.forward(x).matmul_flops == core + projections
    assert layer.backward(x).total.matmul_flops == 2 * (core + projections)


def test_a_window_of_three_sizes_is_never_larger_than_the_map() -> None:
    """Two frames in a window of four: windows of 2 x 3 x 3 tokens; 4 x 5 of them are padded to 2 x 2 windows."""
    layer = ShiftedWindowAttention(features=C, heads=HEADS, window=(4, 3, 3), adapts=True)
    x = TensorSpec((2, 2, 4, 5, C))
    core = 2 * 2 * by_hand(2 * 1 * 2 * 2, 2 * 3 * 3)
    projections = 2 * (2 * 1 * 2 * 2 * 18) * C * 4 * C
    assert layer.forward(x).matmul_flops == core + projections
    assert layer.parameters[0].shape == (7 * 5 * 5, HEADS)


def test_what_a_frozen_layer_passes_on() -> None:
    x = TensorSpec((1, 2, 3, C))
    layer = ShiftedWindowAttention(features=C, heads=HEADS, window=(2, 3))
    core, into, out = 2 * by_hand(1, 6), 2 * 6 * C * 3 * C, 2 * 6 * C * C
    frozen = layer.backward(x, needs_weight_grad=False, needs_bias_grad=False)
    assert frozen.total.matmul_flops == 4 * core + into + out
    # The table of biases, or the scale of the cosine: only the scores' gradient is needed.
    alone = ShiftedWindowAttention(features=C, heads=HEADS, window=(2, 3), qkv_bias=False, proj_bias=False)
    table = alone.backward(x, needs_input_grad=False, needs_weight_grad=False)
    assert table.total.matmul_flops == core + out
    assert [parameter.name for parameter in table.parameter_gradients] == ["relative_position_bias_table"]


def test_projections_of_their_own() -> None:
    layer = RelativePositionalAttention(features=C, heads=HEADS, tokens=9)
    x = TensorSpec((2, 4, 9, C))
    core = 2 * by_hand(2 * 4, 9)
    assert layer.forward(x).matmul_flops == 2 * core
    assert layer.backward(x).total.matmul_flops == 4 * core
    assert layer.backward(x, needs_input_grad=False).total.matmul_flops == core
    assert [parameter.shape for parameter in layer.parameters] == [(25, HEADS)]


def test_inputs_and_settings_that_do_not_fit() -> None:
    layer = ShiftedWindowAttention(features=C, heads=HEADS, window=(2, 3))
    with pytest.raises(ShapeError, match="takes 4 dimensions, the last of 6"):
        layer.forward(TensorSpec((2, 3, C)))
    with pytest.raises(ShapeError, match="takes 9 tokens"):
        RelativePositionalAttention(features=C, heads=HEADS, tokens=9).forward(TensorSpec((2, 4, 8, C)))
    with pytest.raises(ValueError, match="heads=4 must divide features=6"):
        ShiftedWindowAttention(features=C, heads=4, window=(2, 3))
