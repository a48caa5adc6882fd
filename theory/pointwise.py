"""Layers that act on each element by itself: one FLOP per element forward, one backward."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

from .cost import ZERO, Cost
from .layer import Saved, ShapeError
from .parameterless import Parameterless
from .tensor import TensorSpec


@dataclass(frozen=True, kw_only=True)
class Elementwise(Parameterless):
    """The output is shaped as the input; one FLOP per element both ways."""

    kind: ClassVar[str] = "activation"

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """The input's shape and dtype."""
        (x,) = inputs
        return x

    def forward(self, *inputs: TensorSpec) -> Cost:
        """One FLOP per element."""
        return Cost.elementwise(self.output(*inputs).elements)

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        """dx = dy * f'(x): one FLOP per element."""
        return self.forward(*inputs)


@dataclass(frozen=True, kw_only=True)
class ReLU(Elementwise):
    """`torch.nn.ReLU`: max(0, x), one comparison per element; backward multiplies by the indicator of x > 0.

    `in_place` writes the output over the input. Either way the *output* is saved: it is positive where x is.
    """

    in_place: bool = False

    @property
    def shares_storage(self) -> bool:
        return self.in_place

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The output."""
        return (Saved("output", self.output(*inputs)),)


@dataclass(frozen=True, kw_only=True)
class Activation(Elementwise):
    """An elementwise function by name, and what PyTorch's kernel keeps of it for backward.

    f'(x) is computed from the input (GELU, SiLU) or, where it can be, from the output (sigmoid: y(1 - y),
    tanh: 1 - y^2). See `activations.ACTIVATIONS` for those of `torch.nn`.
    """

    name: str
    saves: Literal["input", "output", "nothing"] = "input"
    in_place: bool = False

    def __post_init__(self) -> None:
        if self.saves not in ("input", "output", "nothing"):
            raise ValueError(f'saves must be "input", "output" or "nothing", got {self.saves!r}')

    @property
    def shares_storage(self) -> bool:
        return self.in_place

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input, the output or nothing, as `saves` has it."""
        if self.saves == "nothing":
            return ()
        return (Saved(self.saves, self.output(*inputs)),)


@dataclass(frozen=True, kw_only=True)
class Dropout(Elementwise):
    """`torch.nn.Dropout`; per channel `Dropout1d`, `2d`, `3d`: x times a scaled random mask. Nothing in evaluation.

    Drawing the mask is no arithmetic. As separate operators (on CPU) the mask has the input's dtype and is
    divided by 1 - p before it multiplies; `fused` (on CUDA), one operator does both and keeps a mask of
    booleans. Per channel, `dimensions` are a channel's: an input of one dimension more has no batch (but for
    `Dropout2d`, which PyTorch has take it for (N, C, L)).
    """

    kind: ClassVar[str] = "other"

    p: float = 0.5
    training: bool = True
    per_channel: bool = False
    dimensions: int | None = None
    fused: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"p must be between 0 and 1, got {self.p}")

    @property
    def works(self) -> bool:
        """Whether it does anything."""
        return self.training and self.p > 0

    def _mask(self, x: TensorSpec) -> TensorSpec:
        if not self.per_channel:
            return x.with_dtype("bool") if self.fused else x
        leading = 1 if self.dimensions in (1, 3) and len(x.shape) == self.dimensions + 1 else 2
        if len(x.shape) <= leading:
            raise ShapeError(f"Dropout per channel takes (N, C, spatial sizes), got {x.shape}")
        return x.with_shape(*x.shape[:leading], *(1,) * (len(x.shape) - leading))

    @property
    def shares_storage(self) -> bool:
        return not self.works

    def forward(self, *inputs: TensorSpec) -> Cost:
        """One multiplication per element; one division per element of the mask, unless `fused`."""
        x = self.output(*inputs)
        if not self.works:
            return ZERO
        scaling = 0 if self.fused and not self.per_channel else self._mask(x).elements
        return Cost.elementwise(x.elements + scaling)

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        """dx = dy times the scaled mask: one FLOP per element."""
        return Cost.elementwise(self.output(*inputs).elements) if self.works else ZERO

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The mask."""
        x = self.output(*inputs)
        return (Saved("mask", self._mask(x)),) if self.works else ()


@dataclass(frozen=True, kw_only=True)
class Residual(Elementwise):
    """x + f(x), seen from the end of f: one addition per element. Its gradient goes to both sides as it is."""

    kind: ClassVar[str] = "other"

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        """Nothing to compute. (Where both paths meet again, autograd adds their gradients: not the layer's work.)"""
        self.output(*inputs)
        return ZERO


@dataclass(frozen=True, kw_only=True)
class Identity(Elementwise):
    """`torch.nn.Identity`: no work."""

    kind: ClassVar[str] = "other"

    @property
    def shares_storage(self) -> bool:
        return True

    def forward(self, *inputs: TensorSpec) -> Cost:
        """No FLOPs, forward or backward."""
        self.output(*inputs)
        return ZERO


@dataclass(frozen=True, kw_only=True)
class Flatten(Parameterless):
    """`torch.nn.Flatten`: the dimensions from `start_dim` to `end_dim` become one. A view: no FLOPs."""

    kind: ClassVar[str] = "other"

    start_dim: int = 1
    end_dim: int = -1

    @property
    def shares_storage(self) -> bool:
        return True

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(N, C, H, W) -> (N, C*H*W) by default; a scalar counts as one dimension, as in PyTorch.

        Raises ShapeError where the dimensions do not exist.
        """
        (x,) = inputs
        rank = len(x.shape) or 1
        start, end = (dim + rank if dim < 0 else dim for dim in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < rank:
            raise ShapeError(f"Flatten cannot join dimensions {self.start_dim} to {self.end_dim} of {x.shape}")
        return x.with_shape(*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :])

    def forward(self, *inputs: TensorSpec) -> Cost:
        """No FLOPs, forward or backward."""
        self.output(*inputs)
        return ZERO

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        return self.forward(*inputs)
