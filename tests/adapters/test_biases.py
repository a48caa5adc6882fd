"""Bias additions that PyTorch dispatches apart from the product: left out, as the convention has it, and only they."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from .running import Calling, step


def counted(model: nn.Module, *inputs: Tensor) -> int:
    """Forward FLOPs of all rows."""
    return step(model, *inputs).totals["forward_flops"]


@pytest.mark.parametrize("kind", ["Linear", "Bilinear"])
def test_a_layer_costs_the_same_in_any_layout(kind: str) -> None:
    x = torch.rand(4, 2, 6)
    model = nn.Linear(6, 5) if kind == "Linear" else nn.Bilinear(6, 6, 5)
    inputs = (x,) if kind == "Linear" else (x, x)
    without = nn.Linear(6, 5, bias=False) if kind == "Linear" else nn.Bilinear(6, 6, 5, bias=False)
    assert counted(model, *inputs) == counted(without, *inputs)
    moved = tuple(each.transpose(0, 1) for each in inputs)
    assert counted(model, *moved) == counted(without, *inputs)


def test_a_bias_of_ones_own() -> None:
    weight, bias = torch.rand(6, 5), torch.rand(5)
    assert counted(Calling(lambda self, x: x @ weight + bias), torch.rand(4, 6)) == 2 * 4 * 6 * 5


@pytest.mark.parametrize("what", ["no product", "another size", "the first dimension", "a second one", "a product"])
def test_other_additions_count(what: str) -> None:
    x, weight, bias, products = torch.rand(4, 6), torch.rand(6, 6), torch.rand(6), 2 * 4 * 6 * 6
    forwards = {
        "no product": (lambda self, x: x + bias, 4 * 6),
        "another size": (lambda self, x: (x @ weight)[:2] + bias, products + 2 * 6),
        "the first dimension": (lambda self, x: (x @ weight) + bias[:4, None], products + 4 * 6),
        "a second one": (lambda self, x: x @ weight + bias + bias, products + 2 * 4 * 6),
        "a product": (lambda self, x: x @ weight + x, products + 4 * 6),
    }
    forward, flops = forwards[what]
    assert counted(Calling(forward), x) == flops
