"""Training steps of every kind, as factories of workloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own name for it
from torch.utils.checkpoint import checkpoint

from torchtally import Workload
from torchtally.models import CNN, CNNConfig, example

Build = Callable[..., Workload]


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def cnn(config: CNNConfig | None = None, batch: int = 4, **zero: Any) -> Build:
    """The walkthrough's step, with its logits kept alive through backward."""

    def build(batch_size: int = batch) -> Workload:
        model = CNN(config)
        images, labels = example(model.config, batch_size)
        optimizer = momentum(model)

        def step() -> None:
            optimizer.zero_grad(**zero)
            logits = model(images)
            F.cross_entropy(logits, labels).backward()
            optimizer.step()

        return Workload(model=model, step=step, optimizer=optimizer)

    return build


def training(
    make: Callable[[], nn.Module], *shape: int, optimizer: Callable[[nn.Module], Any] = momentum, dtype: Any = None
) -> Build:
    """The sum of all outputs backward."""

    def build(batch_size: int = 4) -> Workload:
        model = make()
        x = torch.randn(batch_size, *shape, dtype=dtype)
        chosen = optimizer(model)

        def step() -> None:
            chosen.zero_grad()
            model(x).sum().backward()
            chosen.step()

        return Workload(model=model, step=step, optimizer=chosen)

    return build


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first, self.last = nn.Linear(32, 64), nn.Linear(64, 8)
        self.block = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.block, self.first(x), use_reentrant=self.reentrant))


class Recurrent(nn.Module):
    def __init__(self, kind: Any, **settings: Any) -> None:
        super().__init__()
        self.layer = kind(16, 32, batch_first=True, **settings)
        self.head = nn.Linear(64 if settings.get("bidirectional") else 32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom = _twice(3, 16), _twice(16, 32)
        self.up, self.merge = nn.ConvTranspose2d(32, 16, 2, 2), _twice(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down(x)
        return self.merge(torch.cat([self.up(self.bottom(F.max_pool2d(fine, 2))), fine], dim=1))


class Autocast(nn.Module):
    """One layer, so that the casts that end with the context end in one order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.norm(self.conv(x)).relu().float()


class Shared(nn.Module):
    """One layer three times: its gradients meet on their way to the parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(F.relu(self.layer(F.relu(self.layer(x))))))


class Numbers(nn.Module):
    """Python's numbers, kept by autograd and not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x) * 0.5
        return ((y + 1) ** 2 / 3.0).mul(2.0).sub(1) - y * y


class Indexed(nn.Module):
    """Backward of an index and of a maximum: zeros that are filled."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(12, 8))

    def forward(self, x: Tensor) -> Tensor:
        rows = (self.table * 2.0)[torch.tensor([[0, 1, 2], [3, 4, 5]])]
        return rows.max(dim=1).values.sum() + x.sum()


class InPlaceOnAView(nn.Module):
    """torchvision's classifiers: dropout in place, on the flattened view of what pooling gave."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop, self.head = nn.Conv2d(3, 8, 3), nn.Dropout(0.2, inplace=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.flatten(F.adaptive_avg_pool2d(self.conv(x), 1), 1)))


class WrittenInParts(nn.Module):
    """A view of a view is written into, and what it is a view of is summed, looked at and multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(8, 8), nn.Linear(4, 4)
        self.bias = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        y, bias = self.layer(x), self.bias.clone()
        y[:, 2:].transpose(0, 1).sigmoid_()
        bias[2:4].zero_()
        return self.head(y.view(-1, 4)).sum() + F.linear(y, torch.ones(8, 8), bias).sum() + y.sum()


class Permuted(nn.Module):
    """A layer norm whose gradient comes in other strides: fake tensors keep those, real ones do not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.norm(self.first(x)).permute(0, 3, 1, 2), 1).flatten(1)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class Masked(nn.Module):
    """Attention with a mask that needs a gradient: the plain kernel, which adds the mask into the product."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.mask = nn.Linear(16, 16), nn.Parameter(torch.zeros(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(x).unflatten(-1, (2, 8)).transpose(1, 2)
        return F.scaled_dot_product_attention(y, y, y, attn_mask=self.mask)


def tied_embedding(batch_size: int = 4) -> Workload:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(50, 32), nn.Linear(32, 50, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.embedding(tokens))

    model, tokens = Tied(), torch.randint(0, 50, (batch_size, 7))
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()

    return Workload(model=model, step=step, optimizer=optimizer)


def accumulation(batch_size: int = 4) -> Workload:
    model, x = CNN(), torch.randn(batch_size, 3, 32, 32)
    optimizer = momentum(model)

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(3):
            (model(x).sum() / 3).backward()
        optimizer.step()

    return Workload(model=model, step=step, optimizer=optimizer)


def frozen() -> nn.Module:
    model = torchvision.models.resnet18()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.fc = nn.Linear(512, 7)
    return model


def adversaries(batch_size: int = 4) -> Workload:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.made = nn.Sequential(nn.Linear(8, 32), nn.LeakyReLU(0.2), nn.Linear(32, 16), nn.Tanh())
            self.judge = nn.Sequential(nn.Linear(16, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    model, x = Pair(), torch.randn(batch_size, 16)
    makers, judges = torch.optim.Adam(model.made.parameters()), torch.optim.Adam(model.judge.parameters())
    loss = F.binary_cross_entropy_with_logits
    real, false = torch.ones(batch_size, 1), torch.zeros(batch_size, 1)

    def step() -> None:
        noise = torch.randn(batch_size, 8)
        judges.zero_grad()
        (loss(model.judge(x), real) + loss(model.judge(model.made(noise).detach()), false)).backward()
        judges.step()
        makers.zero_grad()
        loss(model.judge(model.made(noise)), real).backward()
        makers.step()

    return Workload(model=model, step=step)


def clipped(batch_size: int = 4) -> Workload:
    model, x = CNN(), torch.randn(batch_size, 3, 32, 32)
    optimizer = momentum(model)
    history: list[float] = []

    def step() -> None:
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append(loss.item())

    return Workload(model=model, step=step, optimizer=optimizer)


def scaled(batch_size: int = 4) -> Workload:
    model, x = nn.Linear(16, 8), torch.randn(batch_size, 16)
    optimizer = momentum(model)
    scaler = torch.amp.GradScaler("cpu")

    def step() -> None:
        optimizer.zero_grad()
        scaler.scale(model(x).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    return Workload(model=model, step=step, optimizer=optimizer)


def evaluation(batch_size: int = 4) -> Workload:
    model, x = torchvision.models.resnet18().eval(), torch.randn(batch_size, 3, 64, 64)

    def step() -> None:
        with torch.no_grad():
            model(x)

    return Workload(model=model, step=step)


def inference(batch_size: int = 4) -> Workload:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(batch_size, 16, 64)

    def step() -> None:
        with torch.inference_mode():
            model(x)

    return Workload(model=model, step=step)


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, activation="gelu", norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def _channels_last() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU()).to(memory_format=torch.channels_last)


def _double() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3)).double()


STEPS: dict[str, Build] = {
    "the walkthrough's CNN": cnn(),
    "gradients set to zero": cnn(set_to_none=False),
    "ReLU in place": cnn(CNNConfig(in_place=True)),
    "CNN, checkpointed": cnn(CNNConfig(checkpoint=True)),
    "Adam": training(CNN, 3, 32, 32, optimizer=lambda model: torch.optim.Adam(model.parameters())),
    "AdamW": training(CNN, 3, 32, 32, optimizer=lambda model: torch.optim.AdamW(model.parameters())),
    "ResNet-18": training(torchvision.models.resnet18, 3, 64, 64),
    "channels last": training(_channels_last, 3, 16, 16),
    "double precision": training(_double, 3, 16, 16, dtype=torch.float64),
    "transformer layer": training(lambda: nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 16, 64),
    "transformer, copied layers": training(_encoder, 16, 64),
    "self-attention": training(SelfAttention, 10, 32),
    "attention with a mask": training(Masked, 6, 16),
    "LSTM": training(lambda: Recurrent(nn.LSTM, num_layers=2), 12, 16),
    "LSTM, both ways": training(lambda: Recurrent(nn.LSTM, bidirectional=True), 12, 16),
    "GRU": training(lambda: Recurrent(nn.GRU), 12, 16),
    "U-Net": training(UNet, 3, 16, 16),
    "autocast": training(Autocast, 3, 16, 16),
    "checkpoint, reentrant": training(lambda: Checkpointed(True), 32),
    "checkpoint": training(lambda: Checkpointed(False), 32),
    "shared layer": training(Shared, 32),
    "tied embedding": tied_embedding,
    "accumulation": accumulation,
    "frozen": training(
        frozen, 3, 32, 32, optimizer=lambda m: torch.optim.SGD(m.fc.parameters(), lr=0.01, momentum=0.9)
    ),
    "two models": adversaries,
    "Python's numbers": training(Numbers, 16),
    "indices": training(Indexed, 3),
    "in place on a view": training(InPlaceOnAView, 3, 8, 8),
    "parts written into": training(WrittenInParts, 8),
    "strides": training(Permuted, 2, 2, 8),
    "clipped, and a loss that is read": clipped,
    "gradient scaler": scaled,
    "evaluation": evaluation,
    "inference mode": inference,
}
