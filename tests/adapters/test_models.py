"""Whole models: every compared row agrees, and closed forms cover nearly all products."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import torchtally
from torchtally import Profile
from torchtally.profiler.covered import covered

from .running import Calling, differences, total

LEAST = Fraction(99, 100)

# The side of the images, and settings, of torchvision's models.
VISION: dict[str, tuple[int, dict[str, Any]]] = {
    "resnet18": (64, {}),
    "resnext50_32x4d": (64, {}),
    "mobilenet_v3_small": (64, {}),
    "efficientnet_b0": (64, {}),
    "convnext_tiny": (64, {}),
    "densenet121": (64, {}),
    "shufflenet_v2_x1_0": (64, {}),
    "squeezenet1_0": (64, {}),
    "vgg11_bn": (32, {}),
    "vit_b_16": (32, {"image_size": 32}),
    "swin_t": (64, {}),
    "swin_v2_t": (64, {}),
    "googlenet": (64, {"init_weights": False}),
    "inception_v3": (299, {"init_weights": False}),
    "regnet_y_400mf": (64, {}),
    "mnasnet1_0": (64, {}),
    "maxvit_t": (224, {}),
}


class Tagger(nn.Module):
    """A recurrent network over words."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.recurrent = kind(16, 12, 2, batch_first=True, bidirectional=True, dropout=0.25)
        self.tags = nn.Linear(24, 5)

    def forward(self, words: Tensor) -> Tensor:
        return self.tags(self.recurrent(self.embedding(words))[0])


class Odd(nn.Module):
    """Tied, frozen, half-frozen, unused and repeated parts, products of two inputs, and an output size of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tied, self.frozen, self.fixed, self.unused = (nn.Linear(8, 8) for _ in range(5))
        self.tied.weight = self.first.weight
        self.frozen.requires_grad_(False)
        self.fixed.bias.requires_grad_(False)
        self.norm, self.relu = nn.LayerNorm(8), nn.ReLU(inplace=True)
        self.pairs, self.up, self.gate = nn.Bilinear(8, 8, 4), nn.ConvTranspose1d(4, 6, 3, stride=2), nn.GLU(1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = self.relu(self.norm(self.first(y[:1]) + self.tied(y)))
        y = self.fixed(self.frozen(y))
        self.unused(y)
        with torch.no_grad():
            self.tied(y)
        z = self.pairs(y, y).transpose(1, 2)
        return self.gate(self.up(z, output_size=(2 * z.shape[-1] + 2,)))


def encoder(**settings: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, **settings)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


WORDS, VECTORS = torch.arange(14).reshape(2, 7), torch.rand(2, 5, 16)

OTHERS: dict[str, Any] = {
    "LSTM tagger": lambda: (Tagger(nn.LSTM), (WORDS,)),
    "GRU tagger": lambda: (Tagger(nn.GRU), (WORDS,)),
    "encoder": lambda: (encoder(), (VECTORS,)),
    "encoder, batch first": lambda: (encoder(batch_first=True, norm_first=True), (VECTORS,)),
    "encoder in evaluation": lambda: (encoder(batch_first=True).eval(), (VECTORS,)),
    "transformer": lambda: (nn.Transformer(16, 4, 2, 2, 32), (VECTORS, VECTORS)),
    "odd": lambda: (Odd(), (torch.rand(3, 5, 8),)),
}


def held(run: Profile) -> dict[str, Fraction]:
    comparison = run.compare()
    assert differences(comparison) == []
    shares = covered(comparison.rows, run.ledger)
    assert shares["forward_matmul_flops"] >= LEAST
    assert shares.get("backward_matmul_flops", LEAST) >= LEAST
    return shares


def step(model: nn.Module, *inputs: Tensor) -> Profile:
    with torchtally.profile(model) as run:
        total(model(*inputs)).backward()
    return run


@pytest.mark.parametrize("name", VISION)
def test_torchvision(name: str) -> None:
    side, settings = VISION[name]
    torch.manual_seed(0)
    held(step(getattr(torchvision.models, name)(**settings), torch.rand(2, 3, side, side)))


@pytest.mark.parametrize("name", OTHERS)
def test_others(name: str) -> None:
    model, inputs = OTHERS[name]()
    held(step(model, *inputs))


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])
def test_in_evaluation_without_gradients(name: str) -> None:
    side, settings = VISION[name]
    model = getattr(torchvision.models, name)(**settings).eval()
    with torch.no_grad(), torchtally.profile(model) as run:
        model(torch.rand(2, 3, side, side))
    held(run)


# The share itself ----------------------------------------------------------------------------------------------------


def test_shares_by_hand() -> None:
    weight = torch.rand(8, 8)
    model = Calling(lambda self, x: self.it(x) @ weight, it=nn.Linear(8, 24))
    model._function = lambda self, x: self.it(x)[:, :8] @ weight
    with torchtally.profile(model) as run:
        model(torch.rand(5, 8)).sum().backward()
    comparison = run.compare()
    assert comparison.not_compared == {"": "no closed form for this Calling"}
    shares = covered(comparison.rows, run.ledger)
    assert shares["forward_matmul_flops"] == Fraction(3, 4)
    assert shares["backward_matmul_flops"] == Fraction(3, 4)
    assert shares["forward_flops"] == Fraction(3, 4)


def test_what_disagrees_is_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    run = step(nn.Sequential(nn.Linear(8, 8), nn.Conv1d(8, 8, 1)), torch.rand(1, 8, 8))
    monkeypatch.setattr(torchtally.theory.Linear, "multiply_adds", lambda self, x: 1)
    assert covered(run.compare().rows, run.ledger)["forward_matmul_flops"] == Fraction(1, 2)


def test_no_products_no_share() -> None:
    run = step(nn.Sequential(nn.ReLU()), torch.rand(3).requires_grad_())
    assert covered(run.compare().rows, run.ledger) == {"forward_flops": 1, "backward_flops": 1}
