"""One profiled step, and short ways to read it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import torchtally
from torchtally import Profile


def step(model: nn.Module, *args: Any, backward: bool = True, **kwargs: Any) -> Profile:
    """Forward, and the sum of every floating output backward."""
    with torchtally.profile(model) as run:
        result = model(*args, **kwargs)
        if backward:
            total(result).backward()
    return run


def total(result: Any) -> Tensor:
    """The sum of all floating tensors in a result, dataclasses' fields included."""
    content = vars(result) if hasattr(result, "__dataclass_fields__") else result
    return sum(leaf.sum() for leaf in tree_leaves(content) if isinstance(leaf, Tensor) and leaf.is_floating_point())


def flops(run: Profile, phase: str) -> dict[str, int]:
    """Path -> FLOPs of the rows of one phase that did something."""
    return {row.path: row.flops for row in run.ledger.rows if row.phase == phase and row.flops}


def matmul_flops(run: Profile, phase: str) -> dict[str, int]:
    return {row.path: row.matmul_flops for row in run.ledger.rows if row.phase == phase and row.matmul_flops}


def places(run: Profile, phase: str) -> list[str]:
    """Paths that have a row in that phase."""
    return [row.path for row in run.ledger.rows if row.phase == phase]


class Calling(nn.Module):
    """A module whose forward is any function of it and its inputs; children by name."""

    def __init__(self, forward: Any, **children: nn.Module) -> None:
        super().__init__()
        self._function = forward
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(self, *args, **kwargs)


def seeded(module_type: Any, *args: Any, seed: int = 0, **kwargs: Any) -> Any:
    """A module with the same weights every time."""
    torch.manual_seed(seed)
    return module_type(*args, **kwargs)
