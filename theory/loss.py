"""Losses: their operators' FLOPs per element of the input, and a reduction.

A loss that PyTorch computes in one operator is one FLOP per element, reduction included; one that it takes
apart is the sum of its operators: one per element each, and the reduction one more (backward: one where a
mean scales, none where a sum spreads). Targets need no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .cost import SOFTMAX_FLOPS_PER_ELEMENT, ZERO, Cost
from .layer import Backward, Parameter, Saved, ShapeError, gradients
from .tensor import TensorSpec

Reduction = Literal["mean", "sum", "none"]


@dataclass(frozen=True, kw_only=True)
class _Loss:
    """What losses share: two inputs, prediction and target; a scalar comes out, or one number per term."""

    reduction: Reduction = "mean"

    kind: ClassVar[str] = "loss"

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum", "none"):
            raise ValueError(f'reduction must be "mean", "sum" or "none", got {self.reduction!r}')

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return ()

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def _terms(self, x: TensorSpec, target: TensorSpec) -> TensorSpec:
        """The loss before it is reduced. Raises ShapeError where prediction and target do not fit."""
        raise NotImplementedError

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """A scalar; with reduction "none" one number per term."""
        x, target = inputs
        terms = self._terms(x, target)
        return terms if self.reduction == "none" else x.with_shape()

    def _gradient(self, x: TensorSpec, target: TensorSpec) -> Cost:
        """The cost of the prediction's gradient."""
        raise NotImplementedError

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """The prediction's gradient, of which one flag speaks. Raises ValueError for a target that needs one."""
        x, target = inputs
        self._terms(x, target)
        flags = (needs_input_grad, False) if isinstance(needs_input_grad, bool) else needs_input_grad
        if len(flags) != 2 or flags[1]:
            raise ValueError(f"{type(self).__name__} has no closed form for a target's gradient: {flags}")
        return Backward(input_gradients=gradients(flags, inputs), input=self._gradient(x, target) if flags[0] else ZERO)


@dataclass(frozen=True, kw_only=True)
class NLLLoss(_Loss):
    """`torch.nn.NLLLoss`: log-probabilities (N, C, ...) or (C,) and class indices (N, ...) or ().

    One FLOP per sample both ways: one number of each is picked and weighted.
    """

    def _terms(self, x: TensorSpec, target: TensorSpec) -> TensorSpec:
        classes = 0 if len(x.shape) == 1 else 1
        expected = x.shape[:classes] + x.shape[classes + 1 :]
        if not x.shape or target.shape != expected:
            raise ShapeError(
                f"{type(self).__name__} expects class indices {expected} for {x.shape}, got {target.shape}"
            )
        if target.dtype not in ("int64", "uint8"):
            raise ShapeError(f"{type(self).__name__} takes class indices, got a target of {target.dtype}")
        return x.with_shape(*target.shape)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """One FLOP per sample."""
        return Cost.elementwise(self._terms(*inputs).elements)

    def _gradient(self, x: TensorSpec, target: TensorSpec) -> Cost:
        return Cost.elementwise(target.elements)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """Log-probabilities, class indices, and the sum of the samples' weights."""
        x, target = inputs
        self._terms(x, target)
        return Saved("input", x), Saved("index", target), Saved("statistics", x.with_shape())


@dataclass(frozen=True, kw_only=True)
class CrossEntropyLoss(NLLLoss):
    """`torch.nn.CrossEntropyLoss` with class indices: log-softmax and `NLLLoss`. No label smoothing."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        """5 FLOPs per logit, and one per sample."""
        return super().forward(*inputs) + Cost.elementwise(inputs[0].elements, SOFTMAX_FLOPS_PER_ELEMENT)

    def _gradient(self, x: TensorSpec, target: TensorSpec) -> Cost:
        return super()._gradient(x, target) + Cost.elementwise(x.elements, SOFTMAX_FLOPS_PER_ELEMENT)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The log-probabilities, once for both operators; class indices; the sum of the samples' weights."""
        probabilities, *rest = super().saved(*inputs)
        return (Saved("intermediate", probabilities.tensor), *rest)


@dataclass(frozen=True, kw_only=True)
class _Elementwise(_Loss):
    """Prediction and target of one shape, and one term per element.

    `terms` and `gradient` are operators per element without the reduction; `fused` says that forward does its
    own, `fused_gradient` that backward does.
    """

    terms: ClassVar[int] = 1
    gradient: ClassVar[int] = 1
    fused: ClassVar[bool] = True
    fused_gradient: ClassVar[bool] = True

    def _terms(self, x: TensorSpec, target: TensorSpec) -> TensorSpec:
        if x.shape != target.shape:
            raise ShapeError(f"{type(self).__name__} expects one shape, got {x.shape} and {target.shape}")
        return x

    def forward(self, *inputs: TensorSpec) -> Cost:
        """The operators of each term, and one FLOP per term where the reduction is an operator of its own."""
        reduces = self.reduction != "none" and not self.fused
        return Cost.elementwise(self._terms(*inputs).elements, self.terms + reduces)

    def _gradient(self, x: TensorSpec, target: TensorSpec) -> Cost:
        scales = self.reduction == "mean" and not self.fused_gradient
        return Cost.elementwise(x.elements, self.gradient + scales)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """Prediction and target."""
        x, target = inputs
        self._terms(x, target)
        return Saved("input", x), Saved("input", target)


class MSELoss(_Elementwise):
    """`torch.nn.MSELoss`: (x - t)^2, one operator each way."""


class SmoothL1Loss(_Elementwise):
    """`torch.nn.SmoothL1Loss`, one operator each way."""


class HuberLoss(_Elementwise):
    """`torch.nn.HuberLoss`, one operator each way."""


class SoftMarginLoss(_Elementwise):
    """`torch.nn.SoftMarginLoss`: log(1 + exp(-t x)), one operator each way."""


class BCELoss(_Elementwise):
    """`torch.nn.BCELoss` without weights, one operator each way."""


class BCEWithLogitsLoss(_Elementwise):
    """`torch.nn.BCEWithLogitsLoss` without weights: one operator; backward sigmoid, difference, times the gradient."""

    gradient = 3
    fused_gradient = False


class _TakenApart(_Elementwise):
    """Several operators, the reduction one of them."""

    fused = False
    fused_gradient = False


class L1Loss(_TakenApart):
    """`torch.nn.L1Loss`: difference, absolute value; backward the sign, times the gradient."""

    terms = 2
    gradient = 2

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The difference."""
        x, target = inputs
        return (Saved("intermediate", self._terms(x, target)),)


@dataclass(frozen=True, kw_only=True)
class PoissonNLLLoss(_TakenApart):
    """`torch.nn.PoissonNLLLoss` of log-rates, not `full`: exp x - t x; backward -g t and g exp x."""

    terms = 3
    gradient = 3

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The target and exp x."""
        x, target = inputs
        return Saved("input", target), Saved("intermediate", self._terms(x, target))


@dataclass(frozen=True, kw_only=True)
class KLDivLoss(_TakenApart):
    """`torch.nn.KLDivLoss` of log-probabilities and probabilities: t log t - t x; backward -g t.

    `batch_mean` divides the sum (reduction "sum") by N: one FLOP each way.
    """

    batch_mean: bool = False

    terms = 3
    gradient = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_mean and self.reduction != "sum":
            raise ValueError('batch_mean divides a sum: it needs reduction="sum"')

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Product, t log t, difference and reduction."""
        return super().forward(*inputs) + Cost(flops=int(self.batch_mean))

    def _gradient(self, x: TensorSpec, target: TensorSpec) -> Cost:
        return super()._gradient(x, target) + Cost(flops=int(self.batch_mean))

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The target."""
        x, target = inputs
        self._terms(x, target)
        return (Saved("input", target),)
