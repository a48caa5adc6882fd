"""The steps whose seconds are measured and predicted: SGD with momentum, cross entropy, random weights and data."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision
from shapes import Llama, LlamaShape
from torch import Tensor, nn

import torchtally
from torchtally.models import CNN, CNNConfig, example

CLOSED = ("cnn, N = 32", "cnn, N = 256", "resnet50, N = 2", "vit_b_16, N = 2", "gpt-2 sized, N = 2")
CNNS = ("cnn, N = 8", "cnn, N = 32", "cnn, N = 64", "cnn, N = 32, image 64")
ZOO = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "vgg11",
    "vgg13_bn",
    "densenet121",
    "googlenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "efficientnet_b0",
    "mnasnet1_0",
    "regnet_y_400mf",
    "regnet_x_1_6gf",
    "convnext_tiny",
    "vit_b_16",
)
PREDICTED = (*CNNS, *(f"{name}, N = 2" for name in ZOO))

GPT2 = LlamaShape(layers=12, hidden=768, heads=12, key_value_heads=12, feed_forward=2048, vocabulary=50257)
TOKENS = 256


def workload(name: str, device: str = "cpu") -> torchtally.Workload:
    """`name, N = samples[, image side]`. The GPT-2-sized one is a Llama of its depth, width and vocabulary."""
    torch.manual_seed(0)
    model_name, samples, *rest = (part.split()[-1] if "=" in part else part for part in name.split(", "))
    if model_name == "cnn":
        side = int(rest[0].split()[-1]) if rest else 32
        config = CNNConfig(resolution=(side, side))
        return _step(CNN(config).to(device), *example(config, int(samples), device=device))
    if model_name == "gpt-2 sized":
        tokens = torch.randint(GPT2.vocabulary, (int(samples), TOKENS), device=device)
        return _step(Llama(GPT2).to(device), tokens, tokens, of=lambda logits: logits.flatten(0, 1))
    settings = {"init_weights": False, "aux_logits": False} if model_name == "googlenet" else {}
    model = torchvision.models.get_model(model_name, weights=None, **settings).to(device)
    images = torch.randn(int(samples), 3, 224, 224, device=device)
    return _step(model, images, torch.randint(1000, (int(samples),), device=device))


def _step(
    model: nn.Module, inputs: Tensor, targets: Tensor, of: Callable[[Tensor], Tensor] = lambda logits: logits
) -> torchtally.Workload:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    wanted = targets.flatten()

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(of(model(inputs)), wanted).backward()
        optimizer.step()

    return torchtally.Workload(model=model, step=step, optimizer=optimizer)
