"""What every layer kind in this folder states of itself: the contract of closed forms and their readers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, Protocol, runtime_checkable

from .cost import ZERO, Cost
from .tensor import ITEMSIZE, TensorSpec

Role = Literal["input", "output", "index", "mask", "statistics", "intermediate"]


class ShapeError(ValueError):
    """The layer cannot take an input of this shape. The message names the layer, the shape and the rule."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A learnable tensor, or a buffer, by its name within the layer (`weight`, `running_mean` ...)."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * ITEMSIZE[self.dtype]


@dataclass(frozen=True, slots=True)
class Saved:
    """A tensor that autograd keeps between forward and backward; parameters and buffers are not listed.

    `role` is what it is to the layer: its input, its output, indices, a mask, statistics, or something in
    between.
    """

    role: Role
    tensor: TensorSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Backward:
    """The backward pass of one layer: which gradients exist, and the FLOPs of each kind apart.

    `input_gradients` has one entry per input: the gradient's spec, or None where none is computed.
    `parameter_gradients` lists the parameters that receive one.
    """

    input_gradients: tuple[TensorSpec | None, ...]
    parameter_gradients: tuple[Parameter, ...] = ()
    input: Cost = ZERO
    weight: Cost = ZERO
    bias: Cost = ZERO

    @property
    def total(self) -> Cost:
        """All FLOPs of the backward pass."""
        return self.input + self.weight + self.bias

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradients with respect to the inputs."""
        return sum(spec.nbytes for spec in self.input_gradients if spec is not None)

    @property
    def parameter_gradient_bytes(self) -> int:
        """Bytes of the gradients with respect to the parameters."""
        return sum(parameter.nbytes for parameter in self.parameter_gradients)


@runtime_checkable
class Layer(Protocol):
    """A closed form. Frozen; its settings are fields, its inputs are arguments; everything is exact integers.

    Layers with several inputs (attention, bilinear, losses) take them as further positional arguments.
    `needs_input_grad` is one flag for all inputs or one per input; `needs_weight_grad` and `needs_bias_grad`
    say whether those parameters are trained. `backward` is of a training step in which the output's gradient
    is given. Inputs that do not fit raise ShapeError.
    """

    @property
    def kind(self) -> str:
        """The group it is summed under.

        "convolution", "normalization", "activation", "pooling", "linear", "attention", "recurrent",
        "embedding", "loss" or "other".
        """
        ...

    @property
    def parameters(self) -> tuple[Parameter, ...]: ...

    @property
    def buffers(self) -> tuple[Parameter, ...]: ...

    def output(self, *inputs: TensorSpec) -> TensorSpec: ...

    def forward(self, *inputs: TensorSpec) -> Cost: ...

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward: ...

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]: ...


def parameter_count(layer: Layer) -> int:
    """Learnable elements; buffers are not counted."""
    return sum(parameter.elements for parameter in layer.parameters)


def parameter_bytes(layer: Layer) -> int:
    """Bytes of the learnable parameters; buffers are not counted."""
    return sum(parameter.nbytes for parameter in layer.parameters)


def wants(needs_input_grad: bool | tuple[bool, ...], inputs: tuple[TensorSpec, ...]) -> tuple[bool, ...]:
    """`needs_input_grad` as one flag per input. Raises ValueError where a tuple has another length."""
    if isinstance(needs_input_grad, bool):
        return (needs_input_grad,) * len(inputs)
    if len(needs_input_grad) != len(inputs):
        raise ValueError(f"needs_input_grad has {len(needs_input_grad)} flags for {len(inputs)} inputs")
    return needs_input_grad


def gradients(flags: tuple[bool, ...], inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec | None, ...]:
    """The input gradients that exist: shaped and typed as the inputs."""
    return tuple(spec if flag else None for flag, spec in zip(flags, inputs, strict=True))


def is_bias(parameter: Parameter) -> bool:
    """Whether `needs_bias_grad` speaks of it: `bias`, `in_proj_bias`, `bias_ih_l0`, `out_proj.bias` ..."""
    return "bias" in parameter.name


def trained(parameters: tuple[Parameter, ...], weights: bool, biases: bool) -> tuple[Parameter, ...]:
    """The parameters that receive a gradient: all biases or none, all others or none."""
    return tuple(parameter for parameter in parameters if (biases if is_bias(parameter) else weights))


def at_least_one(owner: object, *names: str) -> None:
    """Raises ValueError where one of these settings is below 1."""
    for name in names:
        if getattr(owner, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(owner, name)}")
