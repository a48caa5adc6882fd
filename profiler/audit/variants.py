"""The training steps that claims speak of: the CNN's own, and those that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...models.cnn import CNNConfig


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A training step of the CNN: its settings, and how its numbers are kept."""

    config: CNNConfig
    batch_size: int
    dtype: str = "float32"
    autocast: str | None = None


def separable(config: CNNConfig) -> CNNConfig:
    """Each convolution depthwise-separable."""
    return replace(config, convolution="depthwise-separable")


def enlarged(config: CNNConfig) -> CNNConfig:
    """Images twice as high and twice as wide."""
    height, width = config.resolution
    return replace(config, resolution=(2 * height, 2 * width))


def widened(config: CNNConfig) -> CNNConfig:
    """Twice the channels in each block."""
    return replace(config, channels=tuple(2 * each for each in config.channels))


def deepened(config: CNNConfig) -> CNNConfig:
    """One more block, of twice the last one's channels."""
    return replace(config, channels=(*config.channels, 2 * config.channels[-1]))


def checkpointed(config: CNNConfig) -> CNNConfig:
    """Each block recomputed in backward."""
    return replace(config, checkpoint=True)
