"""Recurrent layers and cells in one operator, priced as the separate operators of PyTorch's composite implementation.

Each element of a weight matrix meets each step of each sequence once: a multiply-add. The gates, per hidden unit
and step (forward, backward): RNN 2, 1 (sum, function); GRU 10, 8; LSTM 13, 11 (sum of four, three sigmoids, tanh,
f*c, i*g, their sum, tanh c, times o; backward two for each product, and one for each function).

A fused backward computes the gradients of all inputs and states, whether they are wanted or not; separate operators
leave out those of a first layer's input and initial state. That is more work, and is counted as such.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..records import Signature
from .price import Formula, Price, argument, flags, is_tensor, product, tensors

# By PyTorch's numbers for the kinds: RNN with ReLU, with tanh, LSTM, GRU.
_GATES = {0: (2, 1), 1: (2, 1), 2: (13, 11), 3: (10, 8)}


def _rows(x: Any) -> int:
    """Steps times sequences: of (T, N, I), (N, T, I), or packed (all steps, I)."""
    return prod(x.shape[:-1])


def _matrices(weights: list[Any]) -> int:
    return sum(weight.elements for weight in weights if len(weight.shape) == 2)


def _biases(weights: list[Any]) -> int:
    return sum(weight.elements for weight in weights if len(weight.shape) == 1)


def layer(signature: Signature) -> Price:
    """mkldnn_rnn_layer, one layer and direction: input, two matrices, two biases (without: the matrices once more), hx,
    cx, reverse, batch_sizes, mode at 9, hidden_size."""
    x, *matrices = (argument(signature, at) for at in range(3))
    gates, _ = _GATES[argument(signature, 9, "mode", 2)]
    rows = _rows(x)
    return product(rows * _matrices(matrices)).plus(gates * rows * argument(signature, 10, "hidden_size"))


def layer_backward(signature: Signature) -> Price:
    """mkldnn_rnn_layer_backward: input, two matrices, two biases, ..., mode at 14, hidden_size 15, has_biases 17.

    Two products for each forward one; each bias's gradient is a sum over all rows.
    """
    x, *weights = (argument(signature, at) for at in range(5))
    matrices, biases = weights[:2], weights[2:] if argument(signature, 17, "has_biases", True) else []
    _, gates = _GATES[argument(signature, 14, "mode", 2)]
    rows = _rows(x)
    units = argument(signature, 15, "hidden_size")
    return product(2 * rows * _matrices(matrices)).plus(rows * (gates * units + _biases(biases)))


def _stack(signature: Signature, mode: int, layers: int, bidirectional: int) -> tuple[int, int, tuple[int, int]]:
    """Rows, hidden units of all layers and directions, and their gates' FLOPs."""
    rows = _rows(argument(signature, 0, "input"))
    directions = 1 + bool(argument(signature, bidirectional, "bidirectional", False))
    units = argument(signature, mode + 1, "hidden_size") * argument(signature, layers, "num_layers", 1) * directions
    return rows, units, _GATES[argument(signature, mode, "mode")]


def stack(signature: Signature) -> Price:
    """_cudnn_rnn, all layers and directions: input, weights, ..., mode at 6. Dropout between layers is not counted."""
    rows, units, (gates, _) = _stack(signature, mode=6, layers=9, bidirectional=13)
    return product(rows * _matrices(tensors(argument(signature, 1, "weight")))).plus(gates * rows * units)


def stack_backward(signature: Signature) -> Price:
    """_cudnn_rnn_backward: input, weights, ..., mode at 10, output_mask at 21, whose last flag is for the weights."""
    rows, units, (_, gates) = _stack(signature, mode=10, layers=13, bidirectional=17)
    weights = tensors(argument(signature, 1, "weight"))
    trained = flags(argument(signature, 21, "output_mask"), 4)[-1]
    biases = rows * _biases(weights) if trained else 0
    return product(rows * _matrices(weights) * (1 + trained)).plus(gates * rows * units + biases)


def cell(mode: int, gates: int) -> Formula:
    """_thnn_fused_*_cell: input_gates (N, gates * hidden), ...: the gates' arithmetic; products are apart."""

    def formula(signature: Signature) -> Price:
        return Price(_GATES[mode][0] * (argument(signature, 0, "input_gates").elements // gates))

    return formula


def lstm_cell_backward(signature: Signature) -> Price:
    """grad_hy, grad_cy, cx (N, hidden), ..."""
    return Price(_GATES[2][1] * argument(signature, 2, "cx").elements)


def gru_cell_backward(signature: Signature) -> Price:
    """grad_hy (N, hidden), workspace, has_bias: with biases each one's gradient is a sum of 3 * hidden columns."""
    gradient = argument(signature, 0, "grad_hy")
    biases = 2 * 3 * gradient.elements if argument(signature, 2, "has_bias", False) else 0
    return Price(_GATES[3][1] * gradient.elements + biases) if is_tensor(gradient) else Price()
