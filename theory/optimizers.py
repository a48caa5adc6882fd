"""What optimizers keep between steps, per parameter tensor. Nothing exists before the first step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .layer import Parameter


@runtime_checkable
class Optimizer(Protocol):
    """A closed form of an optimizer's memory."""

    def state(self, parameter: Parameter) -> tuple[Parameter, ...]:
        """The tensors kept for one parameter, by PyTorch's names for them."""
        ...


def state_bytes(optimizer: Optimizer, parameters: Iterable[Parameter]) -> int:
    """Bytes of all state after a step in which each of these parameters had a gradient."""
    return sum(kept.nbytes for parameter in parameters for kept in optimizer.state(parameter))


@dataclass(frozen=True, kw_only=True)
class SGD:
    """`torch.optim.SGD`: one tensor like the parameter with momentum, nothing without."""

    momentum: float = 0.0

    def state(self, parameter: Parameter) -> tuple[Parameter, ...]:
        """The momentum buffer, if there is momentum."""
        return (Parameter("momentum_buffer", parameter.shape, parameter.dtype),) if self.momentum else ()


@dataclass(frozen=True, kw_only=True)
class Adam:
    """`torch.optim.Adam`: both moments, each like the parameter, and a float32 step count of 4 bytes.

    `amsgrad` keeps the greatest second moment as well. The count is one per parameter *tensor*.
    """

    amsgrad: bool = False

    def state(self, parameter: Parameter) -> tuple[Parameter, ...]:
        """Step count, first and second moment, and with `amsgrad` the greatest second moment."""
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if self.amsgrad else ("exp_avg", "exp_avg_sq")
        moments = (Parameter(name, parameter.shape, parameter.dtype) for name in names)
        return (Parameter("step", (), "float32"), *moments)


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """`torch.optim.AdamW`: keeps what Adam keeps; its weight decay has no state."""
