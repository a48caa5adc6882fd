"""One profiled step of a module, and short ways to read its comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import torchtally
from torchtally import Comparison, Profile


class Calling(nn.Module):
    """Calls any function with itself and its inputs; children by name."""

    def __init__(self, function: Callable[..., Any], **children: nn.Module) -> None:
        super().__init__()
        self._function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(self, *args, **kwargs)


def total(result: Any) -> Tensor:
    """The sum of all floating tensors."""
    return sum(leaf.sum() for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.is_floating_point())


def step(model: nn.Module, *inputs: Any, **named: Any) -> Profile:
    """Forward, and backward of the first floating output's sum."""
    with torchtally.profile(model) as run:
        leaves = tree_leaves(model(*inputs, **named))
        first = next(leaf for leaf in leaves if leaf.is_floating_point())
        if first.requires_grad:
            first.sum().backward()
    return run


def differences(comparison: Comparison) -> list[str]:
    """The rows that do not agree, in words."""
    return [
        f"{row.path} {row.phase} {row.quantity}: theory {row.theory}, count {row.count} ({row.verdict})"
        for row in comparison.rows
        if row.verdict != "agrees"
    ]


def agreed(comparison: Comparison, path: str, phase: str) -> dict[str, Any]:
    """Quantity -> value of the rows of one module and phase."""
    return {row.quantity: row.theory for row in comparison.rows if (row.path, row.phase) == (path, phase)}
