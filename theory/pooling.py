"""Pooling: one FLOP per element of every window, forward and backward (see `cost` and `windows`).

Backward, the same elements are routed (maximum) or scaled (average).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .convolution import Sizes
from .cost import Cost
from .layer import Saved, ShapeError
from .parameterless import Parameterless
from .tensor import TensorSpec
from .windows import AdaptivePooling, WindowPooling


@dataclass(frozen=True, kw_only=True)
class _MaxPool(WindowPooling):
    """The greatest of each window, and where it was, which `return_indices` gives too."""

    dilation: Sizes = 1
    return_indices: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self._sizes("dilation")
        if min(sizes) < 1:
            raise ValueError(f"dilation must be at least 1, got {sizes}")
        object.__setattr__(self, "dilation", sizes)

    def _dilation(self) -> tuple[int, ...]:
        return self._sizes("dilation")

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        """All that PyTorch returns: the maxima and, with `return_indices`, an int64 index of each."""
        return _with_indices(self.output(*inputs), self.return_indices)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input, and an int64 index per output element."""
        (x,) = inputs
        return Saved("input", x), Saved("index", self.output(x).with_dtype("int64"))


@dataclass(frozen=True, kw_only=True)
class _AvgPool(WindowPooling):
    """The mean of each window; whether padding counts in the divisor changes no FLOP."""

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input: PyTorch's kernel keeps it, though its gradient needs only the sizes."""
        (x,) = inputs
        self.output(x)
        return (Saved("input", x),)


def _with_indices(y: TensorSpec, wanted: bool) -> tuple[TensorSpec, ...]:
    return (y, y.with_dtype("int64")) if wanted else (y,)


@dataclass(frozen=True, kw_only=True)
class _AdaptiveMaxPool(AdaptivePooling):
    """The greatest of each window, and where it was, which `return_indices` gives too."""

    return_indices: bool = False

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        """All that PyTorch returns: the maxima and, with `return_indices`, an int64 index of each."""
        return _with_indices(self.output(*inputs), self.return_indices)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input, and an int64 index per output element."""
        (x,) = inputs
        return Saved("input", x), Saved("index", self.output(x).with_dtype("int64"))


@dataclass(frozen=True, kw_only=True)
class _AdaptiveAvgPool(AdaptivePooling):
    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input; nothing for one window over everything, which PyTorch computes as a mean."""
        (x,) = inputs
        windows = self.output(x).shape[-self.dimensions :]
        return () if set(windows) == {1} else (Saved("input", x),)


@dataclass(frozen=True, kw_only=True)
class GlobalAveragePool(Parameterless):
    """The mean over all spatial dimensions: (N, C, *spatial) -> (N, C). Keeps sizes only."""

    kind: ClassVar[str] = "pooling"

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(N, C). Raises ShapeError without a spatial dimension, or with an empty one."""
        (x,) = inputs
        if len(x.shape) < 3 or 0 in x.shape[2:]:
            raise ShapeError(f"GlobalAveragePool takes (N, C, spatial sizes of at least 1), got {x.shape}")
        return x.with_shape(*x.shape[:2])

    def forward(self, *inputs: TensorSpec) -> Cost:
        """H*W per output element (H*W - 1 additions and a division): one per input element."""
        (x,) = inputs
        self.output(x)
        return Cost.elementwise(x.elements)

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        """dx = dy / (H*W), spread over the positions: one per input element."""
        return self.forward(*inputs)


class MaxPool1d(_MaxPool):
    """`torch.nn.MaxPool1d`: (N, C, L) -> (N, C, L_out)."""

    dimensions = 1


class MaxPool2d(_MaxPool):
    """`torch.nn.MaxPool2d`: (N, C, H, W) -> (N, C, H_out, W_out)."""

    dimensions = 2


class MaxPool3d(_MaxPool):
    """`torch.nn.MaxPool3d`: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out)."""

    dimensions = 3


class AvgPool1d(_AvgPool):
    """`torch.nn.AvgPool1d`: (N, C, L) -> (N, C, L_out)."""

    dimensions = 1


class AvgPool2d(_AvgPool):
    """`torch.nn.AvgPool2d`: (N, C, H, W) -> (N, C, H_out, W_out)."""

    dimensions = 2


class AvgPool3d(_AvgPool):
    """`torch.nn.AvgPool3d`: (N, C, D, H, W) -> (N, C, D_out, H_out, W_out)."""

    dimensions = 3


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """`torch.nn.AdaptiveAvgPool1d`: (N, C, L) -> (N, C, output_size)."""

    dimensions = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """`torch.nn.AdaptiveAvgPool2d`: (N, C, H, W) -> (N, C, *output_size)."""

    dimensions = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """`torch.nn.AdaptiveAvgPool3d`: (N, C, D, H, W) -> (N, C, *output_size)."""

    dimensions = 3


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """`torch.nn.AdaptiveMaxPool1d`: (N, C, L) -> (N, C, output_size)."""

    dimensions = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """`torch.nn.AdaptiveMaxPool2d`: (N, C, H, W) -> (N, C, *output_size)."""

    dimensions = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """`torch.nn.AdaptiveMaxPool3d`: (N, C, D, H, W) -> (N, C, *output_size)."""

    dimensions = 3
