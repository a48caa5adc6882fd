"""The walkthrough's CNN: three blocks of convolution, batch normalization, ReLU and max pooling; global average
pooling; one linear layer. Modules are named as the ledger should read: `block1.conv`, `block1.batchnorm`, ..., `fc`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """Settings of the CNN; the defaults are the walkthrough's.

    `resolution` is (H, W) of the images, used for the example input and to refuse images that the poolings would
    shrink to nothing. `convolution` chooses one k x k convolution per block, or a depthwise k x k one followed by a
    pointwise 1 x 1 one. `checkpoint` recomputes each block's activations in backward instead of keeping them; PyTorch
    then moves BatchNorm's running statistics twice a step.

    Raises ValueError for sizes below 1, an even kernel, or an image too small for one halving per block.
    """

    in_channels: int = 3
    channels: tuple[int, ...] = (32, 64, 128)
    classes: int = 10
    kernel_size: int = 3
    resolution: tuple[int, int] = (32, 32)
    convolution: Literal["standard", "depthwise-separable"] = "standard"
    in_place: bool = False
    checkpoint: bool = False

    def __post_init__(self) -> None:
        if not self.channels or min(self.in_channels, self.classes, *self.channels) < 1:
            raise ValueError(
                f"in_channels, classes and every entry of channels must be at least 1, got "
                f"{self.in_channels}, {self.classes}, {self.channels}"
            )
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that the padding keeps the size; got {self.kernel_size}")
        if self.convolution not in ("standard", "depthwise-separable"):
            raise ValueError(f'convolution must be "standard" or "depthwise-separable", got {self.convolution!r}')
        smallest = 2 ** len(self.channels)
        if min(self.resolution) < smallest:
            raise ValueError(
                f"an image of {self.resolution[0]}x{self.resolution[1]} is too small for {len(self.channels)} "
                f"poolings by 2: each side must be at least {smallest}"
            )


class GlobalAveragePooling(nn.Module):
    """(N, C, H, W) -> (N, C): the mean over each channel's positions."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def _convolutions(config: CNNConfig, in_channels: int, out_channels: int) -> OrderedDict[str, nn.Module]:
    size = config.kernel_size
    if config.convolution == "standard":
        return OrderedDict(conv=nn.Conv2d(in_channels, out_channels, size, padding=size // 2))
    return OrderedDict(
        depthwise=nn.Conv2d(in_channels, in_channels, size, padding=size // 2, groups=in_channels),
        pointwise=nn.Conv2d(in_channels, out_channels, 1),
    )


def _block(config: CNNConfig, in_channels: int, out_channels: int) -> nn.Sequential:
    layers = _convolutions(config, in_channels, out_channels)
    layers["batchnorm"] = nn.BatchNorm2d(out_channels)
    layers["relu"] = nn.ReLU(inplace=config.in_place)
    layers["pool"] = nn.MaxPool2d(2)
    return nn.Sequential(layers)


class CNN(nn.Module):
    """The network of a `CNNConfig`: images (N, in_channels, H, W) -> logits (N, classes)."""

    def __init__(self, config: CNNConfig | None = None) -> None:
        super().__init__()
        self.config = config or CNNConfig()
        inputs = (self.config.in_channels, *self.config.channels[:-1])
        self._blocks = tuple(f"block{index}" for index in range(1, len(inputs) + 1))
        for name, before, after in zip(self._blocks, inputs, self.config.channels, strict=True):
            self.add_module(name, _block(self.config, before, after))
        self.gap = GlobalAveragePooling()
        self.fc = nn.Linear(self.config.channels[-1], self.config.classes)

    def forward(self, x: Tensor) -> Tensor:
        for name in self._blocks:
            block = self.get_submodule(name)
            if self.config.checkpoint and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        logits: Tensor = self.fc(self.gap(x))
        return logits


def example(config: CNNConfig, batch_size: int, *, device: str = "cpu", seed: int = 0) -> tuple[Tensor, Tensor]:
    """Made images and labels, the same for a seed on every device: (N, C, H, W) floats and (N,) class indices."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch_size, config.in_channels, *config.resolution, generator=generator)
    labels = torch.randint(config.classes, (batch_size,), generator=generator)
    return images.to(device), labels.to(device)
