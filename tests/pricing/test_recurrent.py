"""Recurrent layers in one operator against the separate operators that they stand for, and by their sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from torchtally.profiler.formulas import Price

from .running import Counted, count, numbers, priced, tensor

T, N, I, H = 5, 3, 4, 6  # noqa: E741


def both_ways(settings: dict[str, Any]) -> tuple[Counted, Counted]:
    """An LSTM as the CPU's fused operator (float32) and as separate ones (float64); everything needs a gradient."""
    directions = 1 + settings.get("bidirectional", False)
    depth = settings.get("num_layers", 1) * directions

    def run(dtype: torch.dtype) -> Counted:
        layer = nn.LSTM(I, H, dtype=dtype, **settings)
        x, h, c = (numbers(*shape, dtype=dtype) for shape in ((T, N, I), (depth, N, H), (depth, N, H)))
        return count(lambda a, b, d: layer(a, (b, d)), x, h, c)

    return run(torch.float32), run(torch.float64)


@pytest.mark.parametrize(
    "settings",
    [{}, {"bias": False}, {"num_layers": 2}, {"bidirectional": True}, {"num_layers": 3, "bidirectional": True}],
    ids=str,
)
def test_fused_lstm_costs_what_its_operators_cost(settings: dict[str, Any]) -> None:
    fused, apart = both_ways(settings)
    assert "mkldnn_rnn_layer" in fused.names and "mkldnn_rnn_layer_backward" in fused.names
    assert "mkldnn_rnn_layer" not in apart.names
    assert not fused.unpriced and not apart.unpriced
    assert fused.forward == apart.forward
    assert fused.backward == apart.backward
    # FlopCounterMode sees the separate operators only.
    assert apart.fcm == (apart.forward.matmul_flops, apart.backward.matmul_flops)
    assert fused.fcm == (0, 0)


def test_a_fused_backward_computes_gradients_that_nobody_wants() -> None:
    """Of the input and the first state: more work than separate operators do, and counted as such."""

    def run(dtype: torch.dtype) -> Counted:
        return count(nn.LSTM(I, H, dtype=dtype), numbers(T, N, I, grad=False, dtype=dtype))

    fused, apart = run(torch.float32), run(torch.float64)
    assert fused.forward == apart.forward
    unwanted = 2 * T * N * I * 4 * H + 2 * N * H * 4 * H
    assert fused.backward.matmul_flops - apart.backward.matmul_flops == unwanted


@pytest.mark.parametrize(("kind", "gates", "extra"), [(nn.RNN, 1, 2), (nn.GRU, 3, 10), (nn.LSTM, 4, 13)])
@pytest.mark.parametrize("training", [True, False])
def test_forward_is_one_number_whatever_the_mode(kind: Any, gates: int, extra: int, training: bool) -> None:
    layer = kind(I, H).train(training)
    expected = 2 * T * N * (I + H) * gates * H
    with torch.set_grad_enabled(training):
        seen = count(layer, numbers(T, N, I, grad=False))
    assert seen.forward == Price(expected + extra * T * N * H, expected)
    with torch.device("meta"):
        assert count(kind(I, H), torch.empty(T, N, I)).forward == seen.forward


def test_packed_sequences() -> None:
    """A step of a sequence that has ended is no work."""
    lengths = torch.tensor([5, 3, 1])
    packed = nn.utils.rnn.pack_padded_sequence(numbers(T, N, I, grad=False), lengths)
    seen = count(lambda layer: layer(packed), nn.LSTM(I, H))
    assert seen.forward.matmul_flops == 2 * 9 * (I + H) * 4 * H


# cuDNN, by hand: the signatures as PyTorch dispatches them ---------------------------------------------------------

MODES = {0: nn.RNN, 2: nn.LSTM, 3: nn.GRU}


def cudnn(mode: int, *, layers: int, directions: int, bias: bool, wanted: tuple[bool, ...]) -> tuple[Price, Price]:
    with torch.device("meta"):
        module = MODES[mode](I, H, layers, bias=bias, bidirectional=directions == 2)
    weights = tuple(tensor(*p.shape) for p in module.parameters())
    x, hx = tensor(T, N, I), tensor(layers * directions, N, H)
    out = tensor(T, N, directions * H)
    tail = (mode, H, 0, layers, False, None, True, directions == 2, (), None)
    forward = priced("aten._cudnn_rnn.default", x, weights, 4, None, hx, hx, *tail, outputs=[out])
    reserve = tensor(1, dtype="uint8")
    before = (x, weights, 4, tensor(1), hx, hx, out, out, hx, hx)
    return forward, priced("aten._cudnn_rnn_backward.default", *before, *tail, reserve, wanted)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_cudnn_costs_what_separate_operators_cost(mode: int, layers: int, directions: int, bias: bool) -> None:
    """Separate operators on double precision, everything needing a gradient."""
    layer = MODES[mode](I, H, layers, bias=bias, bidirectional=directions == 2, dtype=torch.float64)
    states = [numbers(layers * directions, N, H, dtype=torch.float64) for _ in range(2 if mode == 2 else 1)]
    x = numbers(T, N, I, dtype=torch.float64)
    apart = count(lambda a, *s: layer(a, s if mode == 2 else s[0]), x, *states)
    forward, backward = cudnn(mode, layers=layers, directions=directions, bias=bias, wanted=(True,) * 4)
    assert forward == apart.forward
    assert backward == apart.backward


def test_cudnn_without_gradients_of_weights() -> None:
    trained = cudnn(2, layers=1, directions=1, bias=True, wanted=(True,) * 4)[1]
    frozen = cudnn(2, layers=1, directions=1, bias=True, wanted=(True, True, True, False))[1]
    products = 2 * T * N * (I + H) * 4 * H
    assert frozen.matmul_flops == products
    assert trained == Price(frozen.flops + products + 2 * T * N * 4 * H, 2 * products)


# Cells --------------------------------------------------------------------------------------------------------------


def test_fused_cells() -> None:
    """On CUDA the gates are one operator; the products are separate."""
    lstm = count(nn.LSTMCell(I, H), numbers(N, I, grad=False))
    fused = priced("aten._thnn_fused_lstm_cell", tensor(N, 4 * H), tensor(N, 4 * H), tensor(N, H), None, None)
    assert fused.flops == lstm.forward.flops - lstm.forward.matmul_flops == 13 * N * H
    gru = count(nn.GRUCell(I, H), numbers(N, I, grad=False))
    fused = priced("aten._thnn_fused_gru_cell", tensor(N, 3 * H), tensor(N, 3 * H), tensor(N, H))
    assert fused.flops == gru.forward.flops - gru.forward.matmul_flops == 10 * N * H
    backward = (tensor(N, H), tensor(N, H), tensor(N, H), tensor(N, H), tensor(N, 4 * H), True)
    assert priced("aten._thnn_fused_lstm_cell_backward_impl", *backward) == Price(11 * N * H)
    backward = (None, *backward[1:])
    assert priced("aten._thnn_fused_lstm_cell_backward_impl", *backward) == Price(11 * N * H)
    assert priced("aten._thnn_fused_gru_cell_backward", tensor(N, H), tensor(N, 5 * H), False) == Price(8 * N * H)
    assert priced("aten._thnn_fused_gru_cell_backward", tensor(N, H), tensor(N, 5 * H), True) == Price(
        8 * N * H + 2 * 3 * N * H
    )
