"""nn.Module -> closed form: the only such mapping.

A module kind that is not here has no closed form, and comparisons name it. A subclass is taken for its base only
where it keeps the base's `forward`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from .. import theory
from ..theory.layer import Layer


def _dtype(module: nn.Module) -> str:
    """Of the module's first own parameter or floating buffer; float32 where it has none."""
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if tensor.is_floating_point() or tensor.is_complex():
            return str(tensor.dtype).removeprefix("torch.")
    return "float32"


def _fields(*names: str) -> Callable[[Any], dict[str, Any]]:
    """Settings that module and closed form call by the same name."""
    return lambda module: {name: getattr(module, name) for name in names}


def _convolution(form: Callable[..., Layer], *extra: str) -> Callable[[Any], Layer]:
    settings = _fields("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups", *extra)
    return lambda module: form(
        **settings(module), padding=module.padding, bias=module.bias is not None, dtype=_dtype(module)
    )


def _linear(module: Any) -> Layer:
    return theory.Linear(
        in_features=module.in_features,
        out_features=module.out_features,
        bias=module.bias is not None,
        dtype=_dtype(module),
    )


def _batch_norm(module: Any) -> Layer:
    return theory.BatchNorm(
        num_features=module.num_features,
        affine=module.affine,
        track_running_stats=module.track_running_stats,
        training=module.training,
        dtype=_dtype(module),
    )


def _from(form: Callable[..., Layer], *names: str) -> Callable[[Any], Layer]:
    settings = _fields(*names)
    return lambda module: form(**settings(module))


_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVG_POOL = ("kernel_size", "stride", "padding", "ceil_mode")

_ADAPTERS: dict[type[nn.Module], Callable[[Any], Layer]] = {
    nn.Conv1d: _convolution(theory.Conv1d),
    nn.Conv2d: _convolution(theory.Conv2d),
    nn.Conv3d: _convolution(theory.Conv3d),
    nn.ConvTranspose1d: _convolution(theory.ConvTranspose1d, "output_padding"),
    nn.ConvTranspose2d: _convolution(theory.ConvTranspose2d, "output_padding"),
    nn.ConvTranspose3d: _convolution(theory.ConvTranspose3d, "output_padding"),
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.ReLU: lambda module: theory.ReLU(in_place=module.inplace),
    nn.Dropout: lambda module: theory.Dropout(p=module.p, training=module.training),
    nn.Identity: lambda module: theory.Identity(),
    nn.Flatten: _from(theory.Flatten, "start_dim", "end_dim"),
    nn.MaxPool1d: _from(theory.MaxPool1d, *_MAX_POOL),
    nn.MaxPool2d: _from(theory.MaxPool2d, *_MAX_POOL),
    nn.MaxPool3d: _from(theory.MaxPool3d, *_MAX_POOL),
    nn.AvgPool1d: _from(theory.AvgPool1d, *_AVG_POOL),
    nn.AvgPool2d: _from(theory.AvgPool2d, *_AVG_POOL),
    nn.AvgPool3d: _from(theory.AvgPool3d, *_AVG_POOL),
    nn.AdaptiveAvgPool1d: _from(theory.AdaptiveAvgPool1d, "output_size"),
    nn.AdaptiveAvgPool2d: _from(theory.AdaptiveAvgPool2d, "output_size"),
    nn.AdaptiveAvgPool3d: _from(theory.AdaptiveAvgPool3d, "output_size"),
    nn.AdaptiveMaxPool1d: _from(theory.AdaptiveMaxPool1d, "output_size"),
    nn.AdaptiveMaxPool2d: _from(theory.AdaptiveMaxPool2d, "output_size"),
    nn.AdaptiveMaxPool3d: _from(theory.AdaptiveMaxPool3d, "output_size"),
}


def adapt(module: nn.Module) -> Layer | None:
    """The closed form with this module's settings, or None where there is none."""
    kind: Any
    for kind in type(module).__mro__:
        build = _ADAPTERS.get(kind)
        if build is not None:
            overridden = type(module).forward is not kind.forward
            return None if overridden else build(module)
    return None
