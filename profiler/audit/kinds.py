"""The walkthrough's kinds of layer, and the layers that a name of its own stands for."""

from __future__ import annotations

from collections.abc import Iterable

_OF_NAME = {
    "conv": "convolution",
    "depthwise": "convolution",
    "pointwise": "convolution",
    "batchnorm": "normalization",
    "relu": "activation",
    "pool": "pooling",
    "gap": "pooling",
    "fc": "linear",
}


def kind_of(path: str) -> str | None:
    """By the last part of its path: witnesses that see no types have nothing else."""
    return _OF_NAME.get(path.rpartition(".")[2])


def leaves_of(layer: str, leaves: Iterable[str]) -> list[str]:
    """Of the modules without children, those of a layer, a block, a kind ("kind:pooling"), or all, for ""."""
    if layer.startswith("kind:"):
        return [path for path in leaves if kind_of(path) == layer.removeprefix("kind:")]
    return [path for path in leaves if not layer or path == layer or path.startswith(layer + ".")]
