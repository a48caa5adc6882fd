"""Convolutions, normalizations and pooling."""

from __future__ import annotations

from typing import Any

from torch import nn

from ... import theory
from ...theory.layer import Layer
from .reading import Read, dtype, named, typed

_CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
_PADDED = (*_CONVOLUTION, "padding_mode")
_TRANSPOSE = (*_CONVOLUTION, "output_padding")
_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVG_POOL = ("kernel_size", "stride", "padding", "ceil_mode")
_ADAPTIVE_MAX_POOL = ("output_size", "return_indices")


def _batch_norm(module: Any) -> Layer:
    return theory.BatchNorm(
        num_features=module.num_features,
        affine=module.affine,
        bias=module.bias is not None,
        track_running_stats=module.track_running_stats,
        training=module.training,
        dtype=dtype(module),
    )


def _instance_norm(dimensions: int) -> Read:
    names = ("num_features", "affine", "track_running_stats", "training")
    return typed(theory.InstanceNorm, *names, dimensions=dimensions)


SPATIAL: dict[type[nn.Module], Read] = {
    nn.Conv1d: typed(theory.Conv1d, *_PADDED),
    nn.Conv2d: typed(theory.Conv2d, *_PADDED),
    nn.Conv3d: typed(theory.Conv3d, *_PADDED),
    nn.ConvTranspose1d: typed(theory.ConvTranspose1d, *_TRANSPOSE),
    nn.ConvTranspose2d: typed(theory.ConvTranspose2d, *_TRANSPOSE),
    nn.ConvTranspose3d: typed(theory.ConvTranspose3d, *_TRANSPOSE),
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.SyncBatchNorm: _batch_norm,
    nn.InstanceNorm1d: _instance_norm(1),
    nn.InstanceNorm2d: _instance_norm(2),
    nn.InstanceNorm3d: _instance_norm(3),
    nn.GroupNorm: typed(theory.GroupNorm, "num_groups", "num_channels", "affine"),
    nn.LayerNorm: typed(theory.LayerNorm, "normalized_shape", "elementwise_affine"),
    nn.RMSNorm: typed(theory.RMSNorm, "normalized_shape", "elementwise_affine", bias=False),
    nn.LocalResponseNorm: named(theory.LocalResponseNorm, "size"),
    nn.MaxPool1d: named(theory.MaxPool1d, *_MAX_POOL),
    nn.MaxPool2d: named(theory.MaxPool2d, *_MAX_POOL),
    nn.MaxPool3d: named(theory.MaxPool3d, *_MAX_POOL),
    nn.AvgPool1d: named(theory.AvgPool1d, *_AVG_POOL),
    nn.AvgPool2d: named(theory.AvgPool2d, *_AVG_POOL),
    nn.AvgPool3d: named(theory.AvgPool3d, *_AVG_POOL),
    nn.AdaptiveAvgPool1d: named(theory.AdaptiveAvgPool1d, "output_size"),
    nn.AdaptiveAvgPool2d: named(theory.AdaptiveAvgPool2d, "output_size"),
    nn.AdaptiveAvgPool3d: named(theory.AdaptiveAvgPool3d, "output_size"),
    nn.AdaptiveMaxPool1d: named(theory.AdaptiveMaxPool1d, *_ADAPTIVE_MAX_POOL),
    nn.AdaptiveMaxPool2d: named(theory.AdaptiveMaxPool2d, *_ADAPTIVE_MAX_POOL),
    nn.AdaptiveMaxPool3d: named(theory.AdaptiveMaxPool3d, *_ADAPTIVE_MAX_POOL),
}
