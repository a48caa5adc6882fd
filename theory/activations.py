"""The activations of `torch.nn`: which operator each one is, and what it keeps for backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .cost import SOFTMAX_FLOPS_PER_ELEMENT, Cost
from .layer import Backward, Parameter, Saved, ShapeError, at_least_one, gradients, trained, wants
from .parameterless import Parameterless
from .pointwise import Activation, Elementwise
from .tensor import TensorSpec

# One operator each: one FLOP per element both ways. By name: what is saved, and what is saved if in place.
# In place, a kernel that needs its input keeps a copy of it ("input"), others make do with their result.
ACTIVATIONS: dict[str, tuple[Literal["input", "output"], Literal["input", "output"]]] = {
    "CELU": ("input", "output"),
    "ELU": ("input", "output"),
    "GELU": ("input", "input"),
    "Hardshrink": ("input", "input"),
    "Hardsigmoid": ("input", "input"),
    "Hardswish": ("input", "input"),
    "Hardtanh": ("input", "output"),
    "LeakyReLU": ("input", "output"),
    "Mish": ("input", "input"),
    "ReLU": ("output", "output"),
    "ReLU6": ("input", "output"),
    "SELU": ("input", "output"),
    "SiLU": ("input", "input"),
    "Sigmoid": ("output", "output"),
    "Softplus": ("input", "input"),
    "Softshrink": ("input", "input"),
    "Tanh": ("output", "output"),
    "Threshold": ("input", "output"),
}


def activation(name: str, *, in_place: bool = False) -> Activation:
    """The elementwise activation of that `torch.nn` class name. Raises ValueError for one that is not elementwise."""
    if name not in ACTIVATIONS:
        raise ValueError(f"no elementwise activation {name!r}; known: {', '.join(ACTIVATIONS)}")
    return Activation(name=name, saves=ACTIVATIONS[name][in_place], in_place=in_place)


@dataclass(frozen=True, kw_only=True)
class _Softmax(Elementwise):
    """5 FLOPs per element both ways, by convention; saves the output."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        """5 FLOPs per element: maximum, difference, exponential, sum, quotient."""
        return Cost.elementwise(self.output(*inputs).elements, SOFTMAX_FLOPS_PER_ELEMENT)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The output."""
        return (Saved("output", self.output(*inputs)),)


class Softmax(_Softmax):
    """`torch.nn.Softmax`, `Softmax2d`: along one dimension, whichever."""


class LogSoftmax(_Softmax):
    """`torch.nn.LogSoftmax`: along one dimension, whichever."""


class Softmin(_Softmax):
    """`torch.nn.Softmin`: the softmax of -x; the sign is one more operation each way."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        """A negation and a softmax: 6 FLOPs per element."""
        return super().forward(*inputs) + Cost.elementwise(self.output(*inputs).elements)


@dataclass(frozen=True, kw_only=True)
class LogSigmoid(Elementwise):
    """`torch.nn.LogSigmoid`: one operator, which on CPU keeps exp(-|x|) besides its input."""

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input and the buffer."""
        x = self.output(*inputs)
        return Saved("input", x), Saved("intermediate", x)


@dataclass(frozen=True, kw_only=True)
class RReLU(Elementwise):
    """`torch.nn.RReLU`: one operator that keeps its slopes, random ones in training."""

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input and the slopes."""
        x = self.output(*inputs)
        return Saved("input", x), Saved("mask", x)


@dataclass(frozen=True, kw_only=True)
class Softsign(Elementwise):
    """`torch.nn.Softsign`: x / (1 + |x|), as three operators."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Absolute value, sum, quotient."""
        return Cost.elementwise(self.output(*inputs).elements, 3)

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        """1 for the dividend, 4 for the divisor (-g * (x/d)/d), 2 for the absolute value (g * sign x)."""
        return Cost.elementwise(self.output(*inputs).elements, 7)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input and the divisor."""
        x = self.output(*inputs)
        return Saved("input", x), Saved("intermediate", x)


@dataclass(frozen=True, kw_only=True)
class Tanhshrink(Elementwise):
    """`torch.nn.Tanhshrink`: x - tanh x, as two operators; backward a negation and the tangent's."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Two FLOPs per element, and backward as many."""
        return Cost.elementwise(self.output(*inputs).elements, 2)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """tanh x."""
        return (Saved("intermediate", self.output(*inputs)),)


@dataclass(frozen=True, kw_only=True)
class GLU(Parameterless):
    """`torch.nn.GLU`: one half times the sigmoid of the other, along `dim`: half as many elements come out."""

    kind: ClassVar[str] = "activation"

    dim: int = -1

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """Half the size along `dim`. Raises ShapeError where it is odd or missing."""
        (x,) = inputs
        rank = len(x.shape)
        dim = self.dim + rank if self.dim < 0 else self.dim
        if not 0 <= dim < rank or x.shape[dim] % 2:
            raise ShapeError(f"GLU needs an even size in dimension {self.dim}, got {x.shape}")
        return x.with_shape(*x.shape[:dim], x.shape[dim] // 2, *x.shape[dim + 1 :])

    def forward(self, *inputs: TensorSpec) -> Cost:
        """One operator: one FLOP per output element."""
        return Cost.elementwise(self.output(*inputs).elements)

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        """One per element of the input's gradient, twice as many as forward."""
        (x,) = inputs
        self.output(x)
        return Cost.elementwise(x.elements)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input."""
        (x,) = inputs
        self.output(x)
        return (Saved("input", x),)


@dataclass(frozen=True, kw_only=True)
class PReLU:
    """`torch.nn.PReLU`: a leaky ReLU whose slope is learnt, one for all or one per channel (dimension 1)."""

    num_parameters: int = 1
    dtype: str = "float32"

    kind: ClassVar[str] = "activation"

    def __post_init__(self) -> None:
        at_least_one(self, "num_parameters")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The slopes."""
        return (Parameter("weight", (self.num_parameters,), self.dtype),)

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """The input's shape and dtype. Raises ShapeError for another number of channels."""
        (x,) = inputs
        channels = x.shape[1] if len(x.shape) > 1 else 1
        if self.num_parameters not in (1, channels):
            raise ShapeError(f"PReLU has {self.num_parameters} slopes for {channels} channels in {x.shape}")
        return x

    def forward(self, *inputs: TensorSpec) -> Cost:
        """One FLOP per element."""
        return Cost.elementwise(self.output(*inputs).elements)

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """One operator gives both gradients, element by element; the slopes' are then summed: one addition each."""
        flags = wants(needs_input_grad, inputs)
        once = self.forward(*inputs)
        return Backward(
            input_gradients=gradients(flags, inputs),
            parameter_gradients=trained(self.parameters, needs_weight_grad, needs_bias_grad),
            input=once if flags[0] else Cost(),
            weight=once * (2 - flags[0]) if needs_weight_grad else Cost(),
        )

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input."""
        return (Saved("input", self.output(*inputs)),)
