"""Gradients that meet at one place, and graphs and modules that are used in unusual ways."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import torchtally

N, C = 3, 8


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


class Forked(nn.Module):
    """A module and a custom function are given the same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        features = self.trunk(x)
        custom: Tensor = Twice.apply(features)
        return self.head(features).sum() + custom.sum()


def test_a_custom_function_beside_a_module_takes_nothing_from_it() -> None:
    model = Forked()
    with torchtally.profile(model) as run:
        model(torch.rand(N, C)).backward()
    assert run.ledger.row("head", "backward").gradient_bytes == N * C * 4
    assert run.compare().ok


class Regretful(nn.Module):
    """A graph has a backward of its own, is kept, and is then built upon."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(C, C, bias=False), nn.Linear(C, C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(x)
        torch.autograd.grad(y.sum(), self.first.weight, retain_graph=True)
        z: Tensor = self.second(y)
        return z


def test_a_kept_graph_that_is_built_upon_has_two_gradients() -> None:
    model = Regretful()
    with torchtally.profile(model) as run:
        model(torch.rand(N, C)).sum().backward()
    outputs = [fact for fact in run.trace.gradients if (fact.path, fact.of) == ("first", "output")]
    assert sum(fact.times for fact in outputs) == 2
    assert run.compare().ok


def test_under_vmap_bytes_are_of_a_sample_and_the_run_says_so() -> None:
    model = nn.Linear(C, C, bias=False)
    with torchtally.profile(model) as run:
        torch.func.vmap(model)(torch.rand(N, C))
    assert run.totals["forward_flops"] == 2 * N * C * C
    assert run.totals["activation_bytes"] == C * 4
    assert any("torch.func transform" in note and "one sample" in note for note in run.coverage.notes)


def test_a_transform_is_seen_of_a_module_that_was_called_alike_before() -> None:
    model = nn.Sequential(nn.Linear(C, C), nn.Linear(C, C))
    with torchtally.profile(model) as run:
        model(torch.rand(N, C))
        torch.func.grad(lambda y: model[1](y).sum())(torch.rand(N, C))
    (note,) = [note for note in run.coverage.notes if "torch.func transform" in note]
    assert note.startswith("1: ")
