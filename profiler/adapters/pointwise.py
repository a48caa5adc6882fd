"""Activations, dropout, and what only passes on."""

from __future__ import annotations

from typing import Any

from torch import nn

from ... import theory
from .reading import Read, named, typed, without_settings


def _activation(name: str) -> Read:
    """One elementwise operator, in place where the module says so."""

    def read(module: Any) -> theory.Activation:
        return theory.activation(name, in_place=getattr(module, "inplace", False))

    return read


def _dropout(dimensions: int | None) -> Read:
    """`dimensions` of a kind that drops whole channels: those of one channel."""
    return named(theory.Dropout, "p", "training", per_channel=dimensions is not None, dimensions=dimensions)


POINTWISE: dict[type[nn.Module], Read] = {
    **{getattr(nn, name): _activation(name) for name in theory.ACTIVATIONS},
    nn.ReLU: lambda module: theory.ReLU(in_place=module.inplace),
    nn.GLU: named(theory.GLU, "dim"),
    nn.LogSigmoid: without_settings(theory.LogSigmoid),
    nn.LogSoftmax: without_settings(theory.LogSoftmax),
    nn.PReLU: typed(theory.PReLU, "num_parameters", bias=False),
    nn.RReLU: without_settings(theory.RReLU),
    nn.Softmax: without_settings(theory.Softmax),
    nn.Softmax2d: without_settings(theory.Softmax),
    nn.Softmin: without_settings(theory.Softmin),
    nn.Softsign: without_settings(theory.Softsign),
    nn.Tanhshrink: without_settings(theory.Tanhshrink),
    nn.Dropout: _dropout(None),
    nn.Dropout1d: _dropout(1),
    nn.Dropout2d: _dropout(2),
    nn.Dropout3d: _dropout(3),
    nn.Flatten: named(theory.Flatten, "start_dim", "end_dim"),
    nn.Identity: without_settings(theory.Identity),
}
