"""The training steps whose memory is predicted and measured: SGD with momentum, on small batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own name for it
from zoo_models import Entry, entries, loss_of, made, moved

from torchtally import Workload
from torchtally.models import CNN

TORCHVISION = (
    "convnext_tiny densenet121 densenet169 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 "
    "efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5 mnasnet1_0 mobilenet_v2 mobilenet_v3_large "
    "mobilenet_v3_small regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_y_400mf regnet_y_800mf resnet18 resnet34 "
    "resnet50 resnet101 resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 squeezenet1_0 squeezenet1_1 swin_t "
    "swin_v2_t fcn_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large r3d_18 raft_small"
).split()
TRANSFORMERS = ("bert", "gpt2", "llama", "t5", "vit", "whisper")


def builders(device: str) -> dict[str, Callable[[], Workload]]:
    """A factory per model."""
    known = {entry.name: entry for entry in entries()}
    names = [*TORCHVISION, *(f"transformers:{name}" for name in TRANSFORMERS if f"transformers:{name}" in known)]
    own: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "CNN, N=8": (CNN, (8, 3, 32, 32)),
        "CNN, N=32": (CNN, (32, 3, 32, 32)),
        "LSTM, 2 layers": (SequenceClassifier, (8, 32, 64)),
        "U-Net": (UNet, (2, 3, 64, 64)),
    }
    found = {name: _of_entry(known[name], device) for name in names}
    return found | {name: _of_module(make, shape, device) for name, (make, shape) in own.items()}


def _of_entry(entry: Entry, device: str) -> Callable[[], Workload]:
    def build() -> Workload:
        model = made(entry).to(device)
        args, keywords = moved(entry.inputs(), device)
        return _training(model, args, keywords)

    return build


def _of_module(make: Callable[[], nn.Module], shape: tuple[int, ...], device: str) -> Callable[[], Workload]:
    def build() -> Workload:
        torch.manual_seed(0)
        return _training(make().to(device), (torch.randn(shape, device=device),), {})

    return build


def _training(model: nn.Module, args: Any, keywords: dict[str, Any]) -> Workload:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model(*args, **keywords)).backward()
        optimizer.step()

    return Workload(model=model, step=step, optimizer=optimizer)


class SequenceClassifier(nn.Module):
    """(N, T, 64) -> (N, 10), by the last state of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(64, 128, num_layers=2, batch_first=True)
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lstm(x)[0][:, -1])
        return logits


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    convolutions = (nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1))
    return nn.Sequential(*(layer for each in convolutions for layer in (each, nn.BatchNorm2d(outputs), nn.ReLU())))


class UNet(nn.Module):
    """(N, 3, H, W) -> (N, 2, H, W), with three levels."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = _twice(3, 32), _twice(32, 64), _twice(64, 128)
        self.up2, self.merge2 = nn.ConvTranspose2d(128, 64, 2, 2), _twice(128, 64)
        self.up1, self.merge1 = nn.ConvTranspose2d(64, 32, 2, 2), _twice(64, 32)
        self.head = nn.Conv2d(32, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        coarse = self.down2(F.max_pool2d(fine, 2))
        bottom = self.bottom(F.max_pool2d(coarse, 2))
        merged = self.merge2(torch.cat([self.up2(bottom), coarse], dim=1))
        out: Tensor = self.head(self.merge1(torch.cat([self.up1(merged), fine], dim=1)))
        return out
