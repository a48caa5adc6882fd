"""Instance normalization: a BatchNorm over samples and channels, and what PyTorch does around it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .cost import ZERO, Cost
from .layer import Backward, Parameter, Saved, ShapeError, at_least_one
from .normalization import Normalization
from .tensor import TensorSpec


@dataclass(frozen=True, kw_only=True)
class InstanceNorm(Normalization):
    """`torch.nn.InstanceNorm1d`, `2d`, `3d`: (N, C, ...) unchanged; statistics per sample and channel.

    PyTorch runs a BatchNorm over N*C channels. It repeats weight and bias N times, and so sums their
    gradients over N; running statistics are averaged over N after each training step. Where `dimensions`, those
    of one channel, are given, an input of one dimension more has no batch: N is 1.
    """

    num_features: int
    affine: bool = False
    bias: bool = True
    track_running_stats: bool = False
    training: bool = True
    dimensions: int | None = None

    def __post_init__(self) -> None:
        at_least_one(self, "num_features")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """weight and, with `bias`, bias: one number per channel each, if `affine`."""
        return self._affine((self.num_features,), bias=self.bias) if self.affine else ()

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        """Running mean and variance per channel, and the number of batches they saw, if tracked."""
        return self._tracked(self.num_features) if self.track_running_stats else ()

    @property
    def uses_input_statistics(self) -> bool:
        return self.training or not self.track_running_stats

    def _check(self, x: TensorSpec) -> None:
        batched = x.with_shape(1, *x.shape) if len(x.shape) - 1 == self.dimensions else x
        self._check_channels(batched, self.num_features, least=3)
        if self.uses_input_statistics and x.elements == self._instances(x):
            raise ShapeError(f"InstanceNorm needs more than one value per channel and sample, got {x.shape}")

    def _batch(self, x: TensorSpec) -> int:
        return 1 if len(x.shape) - 1 == self.dimensions else x.shape[0]

    def _instances(self, x: TensorSpec) -> int:
        return self._batch(x) * self.num_features

    def _statistics(self, x: TensorSpec) -> tuple[TensorSpec, ...]:
        return (self._kept(self._instances(x)),) * 2 if self.uses_input_statistics else ()

    def forward(self, *inputs: TensorSpec) -> Cost:
        """5 FLOPs per element; with tracked statistics in training, two means over N*C numbers."""
        (x,) = inputs
        updates = 2 * self._instances(x) if self.training and self.track_running_stats else 0
        return super().forward(x) + Cost(flops=updates)

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """5 FLOPs per element once; weight's and bias' gradients each summed over N > 1: N*C additions."""
        (x,) = inputs
        backward = super().backward(
            x,
            needs_input_grad=needs_input_grad,
            needs_weight_grad=needs_weight_grad,
            needs_bias_grad=needs_bias_grad,
        )
        names = [parameter.name for parameter in backward.parameter_gradients]
        once = Cost(flops=self._instances(x)) if self._batch(x) > 1 else ZERO
        return replace(
            backward,
            weight=backward.weight + (once if "weight" in names else ZERO),
            bias=once if "bias" in names else ZERO,
        )

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input, the statistics, and the copies for each sample of the weight and of running statistics."""
        (x,) = inputs
        copies = self.affine + 2 * self.track_running_stats
        copy = Saved("intermediate", TensorSpec((self._instances(x),), self.dtype))
        return (*super().saved(x), *(copy,) * copies)
