"""The walkthrough's CNN as a chain of closed forms."""

from __future__ import annotations

from typing import Literal

from .convolution import Conv2d
from .dense import Linear
from .network import Named, Network
from .normalization import BatchNorm
from .pointwise import ReLU
from .pooling import GlobalAveragePool, MaxPool2d
from .tensor import TensorSpec

# The walkthrough's input: 32 RGB images of 32 x 32.
IMAGES = TensorSpec((32, 3, 32, 32))

ConvolutionKind = Literal["standard", "depthwise-separable"]


def cnn(
    *,
    in_channels: int = 3,
    channels: tuple[int, ...] = (32, 64, 128),
    classes: int = 10,
    kernel_size: int = 3,
    convolution: ConvolutionKind = "standard",
    in_place: bool = False,
    checkpoint: bool = False,
    training: bool = True,
    dtype: str = "float32",
) -> Network:
    """Blocks of convolution, BatchNorm, ReLU and max pooling; global average pooling; a classifier.

    One block per entry of `channels`, named block1, block2 ...; convolutions have stride 1 and keep the size
    for odd kernels (padding (k - 1) // 2). Depthwise-separable: one filter per input channel, then a 1x1
    convolution. With `checkpoint` each block is recomputed in backward. Takes (N, in_channels, H, W).

    Raises ValueError for settings that make no network.
    """
    if not channels:
        raise ValueError("the network needs at least one block: channels is empty")
    if convolution not in ("standard", "depthwise-separable"):
        raise ValueError(f'convolution must be "standard" or "depthwise-separable", got {convolution!r}')
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, so that the padding keeps the size; got {kernel_size}")
    layers: list[Named] = []
    for number, (c_in, c_out) in enumerate(zip((in_channels, *channels), channels, strict=False), start=1):
        block = f"block{number}"
        layers += _convolutions(block, c_in, c_out, kernel_size, convolution, dtype)
        layers += (
            Named(f"{block}.batchnorm", BatchNorm(num_features=c_out, training=training, dtype=dtype)),
            Named(f"{block}.relu", ReLU(in_place=in_place)),
            Named(f"{block}.pool", MaxPool2d(kernel_size=2)),
        )
    layers += (
        Named("gap", GlobalAveragePool()),
        Named("fc", Linear(in_features=channels[-1], out_features=classes, dtype=dtype)),
    )
    blocks = (f"block{number}" for number, _ in enumerate(channels, start=1))
    return Network(tuple(layers), keeps=frozenset({"gap"}), checkpoints=frozenset(blocks if checkpoint else ()))


def _convolutions(
    block: str, c_in: int, c_out: int, kernel: int, convolution: ConvolutionKind, dtype: str
) -> tuple[Named, ...]:
    padding = (kernel - 1) // 2
    if convolution == "standard":
        conv = Conv2d(in_channels=c_in, out_channels=c_out, kernel_size=kernel, padding=padding, dtype=dtype)
        return (Named(f"{block}.conv", conv),)
    depthwise = Conv2d(
        in_channels=c_in, out_channels=c_in, kernel_size=kernel, padding=padding, groups=c_in, dtype=dtype
    )
    pointwise = Conv2d(in_channels=c_in, out_channels=c_out, kernel_size=1, dtype=dtype)
    return Named(f"{block}.depthwise", depthwise), Named(f"{block}.pointwise", pointwise)
