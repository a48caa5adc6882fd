"""What optimizers keep between steps, per parameter tensor. Nothing exists before the first step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from .layer import Parameter
from .tensor import TensorSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operator of an update, as far as memory is concerned.

    number    the dtype of the tensors that it joins with a Python number, if it does
    result    what it allocates, and under which name
    forgets   names that mean nothing any more, once it has run
    renames   names that then pass to others, (old, new)
    """

    name: str
    number: str | None = None
    result: tuple[str, TensorSpec] | None = None
    forgets: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()

    @property
    def results(self) -> dict[str, TensorSpec]:
        """The result by its name, if there is one."""
        return dict((self.result,)) if self.result else {}


@runtime_checkable
class Optimizer(Protocol):
    """A closed form of an optimizer's memory."""

    def state(self, parameter: Parameter) -> tuple[Parameter, ...]:
        """The tensors kept for one parameter, by PyTorch's names for them."""
        ...

    def update(self, parameter: Parameter) -> tuple[Operation, ...]:
        """The operators that allocate, in order, for one parameter: of any step but the first, and of the loop over
        parameters (`foreach=False`, the default on CPU). Names last from one parameter to the next."""
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

    def update(self, parameter: Parameter) -> tuple[Operation, ...]:
        """The buffer is multiplied by the momentum; the additions scale as they add."""
        return (Operation(name="aten.mul_", number=parameter.dtype),) if self.momentum else ()


@dataclass(frozen=True, kw_only=True)
class Adam:
    """`torch.optim.Adam`: both moments, each like the parameter, and a float32 step count of 4 bytes.

    `amsgrad` keeps the greatest second moment as well. The count is one per parameter *tensor*.
    """

    amsgrad: bool = False

    decays_weights: ClassVar[bool] = False

    def state(self, parameter: Parameter) -> tuple[Parameter, ...]:
        """Step count, first and second moment, and with `amsgrad` the greatest second moment."""
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if self.amsgrad else ("exp_avg", "exp_avg_sq")
        moments = (Parameter(name, parameter.shape, parameter.dtype) for name in names)
        return (Parameter("step", (), "float32"), *moments)

    def update(self, parameter: Parameter) -> tuple[Operation, ...]:
        """denominator = (sqrt(second moment) / correction) + eps: the root dies in the line, the denominator when the
        next parameter has one."""
        like, dtype = TensorSpec(parameter.shape, parameter.dtype), parameter.dtype
        decay = (Operation(name="aten.mul_", number=dtype),) if self.decays_weights else ()
        return (
            Operation(name="aten.add_", number="float32"),  # step count + 1
            *decay,
            Operation(name="aten.mul_", number=dtype),  # second moment * beta
            Operation(name="aten.sqrt", result=("root", like)),
            Operation(name="aten.div", number=dtype, result=("quotient", like), forgets=("root",)),
            Operation(
                name="aten.add_",
                number=dtype,
                forgets=("denominator",),
                renames=(("quotient", "denominator"),),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """`torch.optim.AdamW`: keeps what Adam keeps; its weight decay has no state."""

    decays_weights: ClassVar[bool] = True
