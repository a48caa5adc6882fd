"""A real tiny module of every kind that has a closed form, with inputs for it: one literal table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from torchtally.theory import ACTIVATIONS


@dataclass(frozen=True)
class Case:
    """A module and what it is called with; the name tells cases of one kind apart."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]


def numbers(*shape: int, grad: bool = True) -> Tensor:
    """Positive numbers below 1, which every kind can take."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_(grad)


SIZES = {1: (9,), 2: (9, 8), 3: (5, 6, 7)}  # spatial, by number of dimensions
SEQUENCE = (2, 4, 6)
CLASSES = torch.tensor([0, 1, 2])
INDICES = torch.tensor([[1, 2, 0, 1, 5], [3, 3, 9, 0, 2]])
OFFSETS = torch.tensor([0, 3, 9])


def case(module: nn.Module, *inputs: Any, name: str = "") -> Case:
    return Case(f"{type(module).__name__} {name}".strip(), module, inputs)


def spatial(dimensions: int) -> Iterator[Case]:
    """Kinds with one class for each number of dimensions."""

    def kind(name: str) -> Any:
        return getattr(nn, f"{name}{dimensions}d")

    sizes = SIZES[dimensions]
    x, one = numbers(2, 4, *sizes), numbers(4, *sizes)
    yield case(kind("Conv")(4, 8, 3), x)
    yield case(kind("Conv")(4, 8, 3, stride=2, groups=2, bias=False), x, name="grouped")
    yield case(kind("Conv")(4, 8, 2, padding="same", dilation=3), one, name="same, without batch")
    yield case(kind("Conv")(4, 8, 3, padding=1, padding_mode="reflect"), x, name="reflected")
    yield case(kind("Conv")(4, 8, 3, padding=1, padding_mode="circular"), x, name="circular")
    yield case(kind("ConvTranspose")(4, 8, 3, stride=3, output_padding=1, groups=4), x)
    yield case(kind("BatchNorm")(4), x)
    yield case(kind("BatchNorm")(4, bias=False), x, name="without bias")
    yield case(kind("BatchNorm")(4, affine=False, track_running_stats=False).eval(), x, name="plain, in evaluation")
    yield case(kind("InstanceNorm")(4, affine=True, track_running_stats=True), x)
    yield case(kind("InstanceNorm")(4, affine=True), one, name="without batch")
    yield case(kind("MaxPool")(2), x)
    yield case(kind("MaxPool")(3, 2, 1, ceil_mode=True, return_indices=True), one, name="with indices")
    yield case(kind("AvgPool")(3, 2, 1), x)
    yield case(kind("AdaptiveMaxPool")(3), x)
    yield case(kind("AdaptiveMaxPool")(3, return_indices=True), x, name="with indices")
    yield case(kind("AdaptiveAvgPool")(3), x)
    yield case(kind("AdaptiveAvgPool")(1), x, name="global")
    yield case(kind("Dropout")(0.5), x)
    yield case(kind("Dropout")(0.5).eval(), x, name="in evaluation")
    if dimensions != 2:  # which PyTorch takes for a batch without one dimension
        yield case(kind("Dropout")(0.5), one, name="without batch")


def pointwise() -> Iterator[Case]:
    x = numbers(*SEQUENCE)
    for name in ACTIVATIONS:
        yield case(getattr(nn, name)(*((0.1, 0.2) if name == "Threshold" else ())), x)
    for kind in (nn.LogSigmoid, nn.RReLU, nn.Softsign, nn.Tanhshrink, nn.Flatten, nn.Identity, nn.GLU, nn.PReLU):
        yield case(kind(), x)
    for kind in (nn.Softmax, nn.LogSoftmax, nn.Softmin):
        yield case(kind(-1), x)
    yield case(nn.Softmax2d(), numbers(2, 3, 4, 5))
    yield case(nn.GELU(approximate="tanh"), x, name="tanh")
    yield case(nn.RReLU().eval(), x, name="in evaluation")
    yield case(nn.PReLU(4), x, name="per channel")
    yield case(nn.Dropout(0.25), x)
    yield case(nn.Dropout(0.25).eval(), x, name="in evaluation")
    yield case(nn.Dropout(0.0), x, name="of nothing")


def tables() -> Iterator[Case]:
    x = numbers(*SEQUENCE)
    yield case(nn.Linear(6, 5), x)
    yield case(nn.Linear(6, 5, bias=False), numbers(6), name="of one row")
    yield case(nn.Linear(6, 5), numbers(4, 2, 6).transpose(0, 1), name="of another layout")
    yield case(NonDynamicallyQuantizableLinear(6, 5), x)
    yield case(nn.Bilinear(6, 4, 5), x, numbers(2, 4, 4))
    yield case(nn.Bilinear(6, 6, 5), x, x, name="of one input twice")
    yield case(nn.Embedding(10, 4, padding_idx=0), INDICES)
    for mode in ("sum", "mean", "max"):
        yield case(nn.EmbeddingBag(10, 4, mode=mode), INDICES, name=mode)
        yield case(nn.EmbeddingBag(10, 4, mode=mode), INDICES.flatten(), OFFSETS, name=f"{mode}, by offsets")


def normalization() -> Iterator[Case]:
    x = numbers(*SEQUENCE)
    yield case(nn.SyncBatchNorm(4).eval(), x)
    yield case(nn.GroupNorm(2, 4), x)
    yield case(nn.GroupNorm(2, 4, affine=False), x, name="plain")
    yield case(nn.LayerNorm((4, 6)), x)
    yield case(nn.LayerNorm(6, bias=False), x, name="without bias")
    yield case(nn.RMSNorm(6), x)
    yield case(nn.RMSNorm(6, elementwise_affine=False), x, name="plain")
    yield case(nn.LocalResponseNorm(3), x)


def sequences() -> Iterator[Case]:
    x, memory, state = numbers(*SEQUENCE), numbers(5, 4, 6), numbers(1, 4, 5)
    deep: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.25}
    for kind in (nn.RNN, nn.GRU, nn.LSTM):
        yield case(kind(6, 5), x)
        yield case(kind(6, 5, **deep), x, name="deep")
        yield case(kind(6, 5).double(), x.detach().double(), name="of double precision")
        yield case(kind(6, 5), x, (state, state) if kind is nn.LSTM else state, name="from a state")
        yield case(kind(6, 5, bias=False), numbers(4, 6), name="without batch")
    yield case(nn.LSTM(6, 5, proj_size=3), x, name="projected")
    settings: tuple[dict[str, Any], ...] = (
        {},
        {"batch_first": True},
        {"dropout": 0.25},
        {"bias": False},
        {"add_bias_kv": True, "add_zero_attn": True},
    )
    for chosen in settings:
        yield case(nn.MultiheadAttention(6, 2, **chosen), x, x, x, name=", ".join(chosen))
    yield case(nn.MultiheadAttention(6, 2), x, memory, memory, name="to a memory")
    yield case(nn.MultiheadAttention(6, 2, kdim=3, vdim=7), x, numbers(5, 4, 3), numbers(5, 4, 7), name="of three")
    for first in (True, False):
        how = {"batch_first": first, "norm_first": not first}
        yield case(nn.TransformerEncoderLayer(6, 2, 12, **how), x, name=f"{how}")
        yield case(nn.TransformerEncoderLayer(6, 2, 12, activation=nn.GELU(), **how).eval(), x, name=f"{how}, quiet")


def losses() -> Iterator[Case]:
    x, target = numbers(3, 5), numbers(3, 5, grad=False)
    names = ("L1", "MSE", "SmoothL1", "Huber", "SoftMargin", "BCE", "BCEWithLogits", "PoissonNLL", "KLDiv")
    for name in names:
        for reduction in ("mean", "sum", "none"):
            yield case(getattr(nn, f"{name}Loss")(reduction=reduction), x, target, name=reduction)
    yield case(nn.KLDivLoss(reduction="batchmean"), x, target, name="batchmean")
    for kind in (nn.NLLLoss, nn.CrossEntropyLoss):
        yield case(kind(), x, CLASSES)
        yield case(kind(reduction="none"), numbers(3, 5, 2), torch.stack((CLASSES, CLASSES), 1), name="of a map")


def cases() -> list[Case]:
    """All of them, made anew."""
    torch.manual_seed(0)
    families = (pointwise(), tables(), normalization(), sequences(), losses())
    return [*(each for dimensions in SIZES for each in spatial(dimensions)), *(one for f in families for one in f)]
