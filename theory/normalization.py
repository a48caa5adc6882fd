"""Normalizations: the statistics differ, the convention does not.

Every one of them is 5 FLOPs per element, forward and backward (see `cost`): the walkthrough's approximation
of mean, variance, normalizing, scale and shift. It holds in evaluation too, and for the backward pass as a
whole, whichever of its gradients are needed: one kernel computes them together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from .cost import NORMALIZATION_FLOPS_PER_ELEMENT, ZERO, Cost
from .layer import Backward, Parameter, Saved, ShapeError, at_least_one, gradients, trained, wants
from .tensor import TensorSpec


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """What normalizations share: the output has the input's shape, and every element costs the same.

    Saved statistics have the parameters' `dtype`, as on CPU, unless `statistics_dtype` says otherwise (CUDA
    keeps them in float32 for 16-bit parameters).
    """

    dtype: str = "float32"
    statistics_dtype: str | None = None

    kind: ClassVar[str] = "normalization"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        raise NotImplementedError

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def _check(self, x: TensorSpec) -> None:
        """Raises ShapeError for an input the layer cannot take."""
        raise NotImplementedError

    def _statistics(self, x: TensorSpec) -> tuple[TensorSpec, ...]:
        """What is kept of the statistics for backward."""
        raise NotImplementedError

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """The input's shape and dtype."""
        (x,) = inputs
        self._check(x)
        return x

    def _once(self, x: TensorSpec) -> Cost:
        return Cost.elementwise(self.output(x).elements, NORMALIZATION_FLOPS_PER_ELEMENT)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """5 FLOPs per element, by convention."""
        return self._once(*inputs)

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """5 FLOPs per element once, by convention: as `input`, or as `weight` where it needs none."""
        flags = wants(needs_input_grad, inputs)
        once = self._once(*inputs)
        received = trained(self.parameters, needs_weight_grad, needs_bias_grad)
        return Backward(
            input_gradients=gradients(flags, inputs),
            parameter_gradients=received,
            input=once if flags[0] else ZERO,
            weight=once if received and not flags[0] else ZERO,
        )

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input, and the statistics that were computed from it."""
        (x,) = inputs
        self._check(x)
        return (Saved("input", x), *(Saved("statistics", spec) for spec in self._statistics(x)))

    def _affine(self, shape: tuple[int, ...], *, bias: bool = True) -> tuple[Parameter, ...]:
        weight = Parameter("weight", shape, self.dtype)
        return (weight, Parameter("bias", shape, self.dtype)) if bias else (weight,)

    def _kept(self, *shape: int) -> TensorSpec:
        """A statistic of that shape."""
        return TensorSpec(shape, self.statistics_dtype or self.dtype)

    def _check_channels(self, x: TensorSpec, channels: int, least: int = 2) -> None:
        if len(x.shape) < least or x.shape[1] != channels:
            raise ShapeError(
                f"{type(self).__name__} takes (N, {channels}, ...) in at least {least} dimensions, got {x.shape}"
            )

    def _tracked(self, features: int) -> tuple[Parameter, ...]:
        return (
            Parameter("running_mean", (features,), self.dtype),
            Parameter("running_var", (features,), self.dtype),
            Parameter("num_batches_tracked", (), "int64"),
        )


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Normalization):
    """`torch.nn.BatchNorm1d`, `2d`, `3d`: (N, C, ...) unchanged; statistics over all but the channels.

    Without `training`, the running statistics are used, if they are tracked, and none are saved.
    """

    num_features: int
    affine: bool = True
    bias: bool = True
    track_running_stats: bool = True
    training: bool = True

    def __post_init__(self) -> None:
        at_least_one(self, "num_features")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """weight (gamma) and, with `bias`, bias (beta): one number per channel each."""
        return self._affine((self.num_features,), bias=self.bias) if self.affine else ()

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        """Running mean and variance per channel, and the number of batches they saw."""
        return self._tracked(self.num_features) if self.track_running_stats else ()

    @property
    def uses_batch_statistics(self) -> bool:
        return self.training or not self.track_running_stats

    def _check(self, x: TensorSpec) -> None:
        self._check_channels(x, self.num_features)
        if self.uses_batch_statistics and x.elements == self.num_features:
            raise ShapeError(f"BatchNorm needs more than one value per channel in training, got {x.shape}")

    def _statistics(self, x: TensorSpec) -> tuple[TensorSpec, ...]:
        """Mean and inverse standard deviation per channel; none where the running ones serve."""
        return (self._kept(self.num_features),) * 2 if self.uses_batch_statistics else ()


@dataclass(frozen=True, kw_only=True)
class GroupNorm(Normalization):
    """`torch.nn.GroupNorm`: (N, C, ...) unchanged; statistics per sample and group of channels."""

    num_groups: int
    num_channels: int
    affine: bool = True
    bias: bool = True

    def __post_init__(self) -> None:
        at_least_one(self, "num_groups", "num_channels")
        if self.num_channels % self.num_groups:
            raise ValueError(f"num_groups={self.num_groups} must divide num_channels={self.num_channels}")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """weight and, with `bias`, bias: one number per channel each, if `affine`."""
        return self._affine((self.num_channels,), bias=self.bias) if self.affine else ()

    def _check(self, x: TensorSpec) -> None:
        self._check_channels(x, self.num_channels)

    def _statistics(self, x: TensorSpec) -> tuple[TensorSpec, ...]:
        return (self._kept(x.shape[0], self.num_groups),) * 2


@dataclass(frozen=True, kw_only=True)
class _LastDimensions(Normalization):
    """Statistics over the last dimensions, which are `normalized_shape`."""

    normalized_shape: int | tuple[int, ...]
    elementwise_affine: bool = True

    def __post_init__(self) -> None:
        shape = self.normalized_shape
        object.__setattr__(self, "normalized_shape", (shape,) if isinstance(shape, int) else tuple(shape))
        if not self._shape() or min(self._shape()) < 1:
            raise ValueError(f"normalized_shape needs sizes of at least 1, got {self.normalized_shape}")

    def _shape(self) -> tuple[int, ...]:
        assert isinstance(self.normalized_shape, tuple)
        return self.normalized_shape

    def _check(self, x: TensorSpec) -> None:
        if x.shape[-len(self._shape()) :] != self._shape():
            raise ShapeError(f"{type(self).__name__} expects (*, {self._shape()}), got {x.shape}")

    def _row_statistic(self, x: TensorSpec) -> TensorSpec:
        """One number per row: the leading dimensions, and 1 for each normalized one."""
        normalized = len(self._shape())
        return self._kept(*x.shape[:-normalized], *(1,) * normalized)


@dataclass(frozen=True, kw_only=True)
class LayerNorm(_LastDimensions):
    """`torch.nn.LayerNorm`: (*, normalized_shape) unchanged; mean and deviation per row."""

    bias: bool = True

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """weight and, with `bias`, bias, of the normalized shape, if `elementwise_affine`."""
        return self._affine(self._shape(), bias=self.bias) if self.elementwise_affine else ()

    def _statistics(self, x: TensorSpec) -> tuple[TensorSpec, ...]:
        return (self._row_statistic(x),) * 2


@dataclass(frozen=True, kw_only=True)
class RMSNorm(_LastDimensions):
    """`torch.nn.RMSNorm`: (*, normalized_shape) unchanged; y = x * rsqrt(mean(x^2) + eps) * weight; one root per row.

    One kernel, by convention 5 FLOPs per element both ways; without `fused` (on CPU) the operators that it is made of.
    """

    fused: bool = True

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The weight, of the normalized shape, if `elementwise_affine`."""
        return self._affine(self._shape(), bias=False) if self.elementwise_affine else ()

    def _statistics(self, x: TensorSpec) -> tuple[TensorSpec, ...]:
        return (self._row_statistic(x),)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Taken apart, per element a square, a mean, one or two products; per row + eps and the root."""
        if self.fused:
            return super().forward(*inputs)
        x = self.output(*inputs)
        return Cost.elementwise(x.elements, 3 + self.elementwise_affine) + Cost.elementwise(self._rows(x), 2)

    def _rows(self, x: TensorSpec) -> int:
        return self._row_statistic(x).elements

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """Taken apart: of the weight a product and a sum over the rows; of the input a product with the weight, a
        product with the root, and what comes through the root."""
        needs = {"needs_weight_grad": needs_weight_grad, "needs_bias_grad": needs_bias_grad}
        one = super().backward(*inputs, needs_input_grad=needs_input_grad, **needs)
        if self.fused:
            return one
        (x,) = inputs
        summed = len(x.shape) > len(self._shape())
        weight = Cost.elementwise(x.elements, 1 + summed) if one.parameter_gradients else ZERO
        through = Cost.elementwise(x.elements, 1 + self.elementwise_affine) + self._through_root(x)
        return replace(one, input=through if one.input_gradients[0] else ZERO, weight=weight)

    def _through_root(self, x: TensorSpec) -> Cost:
        """Per element g * x, summed over the row; per row r^3, * -1/2, * g; per element / n, x to the 1, * 2, * g."""
        summed = x.elements != self._rows(x)
        return Cost.elementwise(x.elements, 5 + summed) + Cost.elementwise(self._rows(x), 3)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input and the roots; taken apart with a weight, the normalized input too."""
        found = super().saved(*inputs)
        apart = self.elementwise_affine and not self.fused
        return (*found, Saved("intermediate", inputs[0])) if apart else found
