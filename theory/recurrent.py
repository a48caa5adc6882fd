"""The recurrent layers of `torch.nn`: how many gates they have, and what these compute.

The gates' arithmetic is counted as the elementwise operators of PyTorch's composite implementation, one FLOP
per hidden unit and step each, also where a fused kernel does the same work at once:

    RNN    sum, tanh or ReLU                                                    2 forward, 1 backward
    GRU    three sums, two sigmoids, tanh, r*hn, h-n, times z, plus n          10 forward, 8 backward
    LSTM   sum of 4H, three sigmoids, tanh, f*c, i*g, their sum, tanh c, times o  13 forward, 11 backward
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .cost import Cost
from .recurrence import Needs, Recurrence, Sizes


@dataclass(frozen=True, kw_only=True)
class RNN(Recurrence):
    """`torch.nn.RNN`: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or ReLU."""

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    gates = 1
    gate_flops = 2
    gate_gradient_flops = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nonlinearity not in ("tanh", "relu"):
            raise ValueError(f'nonlinearity must be "tanh" or "relu", got {self.nonlinearity!r}')

    def _kept_each_step(self) -> tuple[int, ...]:
        """The new hidden state: the nonlinearity's result, and the next step's factor."""
        return (self.hidden_size,)

    def _kept_between_steps(self) -> tuple[int, ...]:
        return ()


@dataclass(frozen=True, kw_only=True)
class GRU(Recurrence):
    """`torch.nn.GRU`: r, z = sigmoid(...); n = tanh(W_in x + r * hn), hn = W_hn h; h' = (h - n) * z + n.

    Backward: two for (h - n) * z, a negation for n, two for r * hn; tanh and two sigmoids.
    """

    gates = 3
    gate_flops = 10
    gate_gradient_flops = 8

    def _gates_backward(self, sizes: Sizes, needs: Needs) -> Cost:
        """The first step's hn = W_hn h needs no gradient where neither h nor what makes it of h does: one less."""
        first = 0 if needs.trains or needs.hidden else sizes.batch * self.hidden_size
        return super()._gates_backward(sizes, needs) + Cost(flops=-first)

    def _kept_each_step(self) -> tuple[int, ...]:
        """The three gates together; n, h - n and hn."""
        return (3 * self.hidden_size, self.hidden_size, self.hidden_size, self.hidden_size)

    def _kept_between_steps(self) -> tuple[int, ...]:
        """The hidden state."""
        return (self.hidden_size,)


@dataclass(frozen=True, kw_only=True)
class LSTM(Recurrence):
    """`torch.nn.LSTM`: i, f, o = sigmoid(...), g = tanh(...); c' = f * c + i * g; h' = o * tanh c', projected by W_hr
    where `proj_size` is not 0.

    Backward: two each for o * tanh c', f * c and i * g; tanh c'; three sigmoids and a tanh. The first step's
    c needs no gradient of its own: one less.
    """

    proj_size: int = 0

    gates = 4
    states = 2
    gate_flops = 13
    gate_gradient_flops = 11

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.proj_size < self.hidden_size:
            raise ValueError(f"proj_size must be below hidden_size={self.hidden_size}, got {self.proj_size}")

    @property
    def _fed_back(self) -> int:
        return self.proj_size or self.hidden_size

    def _gates_backward(self, sizes: Sizes, needs: Needs) -> Cost:
        """The first step's c' = f * c + i * g passes on to c alone, if only c needs a gradient: of o * tanh c', f * c
        and i * g one, one and two factors less, and four nonlinearities."""
        less = 0 if needs.cell else 1
        if not (needs.reads or needs.hidden):
            less += 8
        return super()._gates_backward(sizes, needs) + Cost(flops=-less * sizes.batch * self.hidden_size)

    def _kept_each_step(self) -> tuple[int, ...]:
        """The four gates together, tanh c', and the hidden state before it is projected."""
        unprojected = (self.hidden_size,) if self.proj_size else ()
        return (4 * self.hidden_size, self.hidden_size, *unprojected)

    def _kept_between_steps(self) -> tuple[int, ...]:
        """Hidden state and cell state."""
        return (self._fed_back, self.hidden_size)
