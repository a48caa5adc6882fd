"""Who holds the blocks of a replayed step by name: the model, its optimizers, the step itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ...theory.stream import Category
from .followed import Followed, Storages
from .tensors import tensors_in
from .whereabouts import reached

Held = dict[Followed, tuple[Category, str]]
"""What a block is for, and the path of the module it belongs to."""


def held_by_name(
    storages: Storages, model: nn.Module, optimizers: Iterable[Optimizer], step: Callable[..., Any]
) -> Held:
    """The blocks that live now and have a holder; where they have several, the one that comes first here."""
    held: Held = {}
    for tensor, category, path in _holders(model, optimizers, step):
        block = storages.block_of(tensor)
        if block is not None:
            held.setdefault(block, (category, path))
    return held


def _holders(
    model: nn.Module, optimizers: Iterable[Optimizer], step: Callable[..., Any]
) -> Iterator[tuple[Tensor, Category, str]]:
    paths: dict[int, str] = {}
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            paths.setdefault(id(parameter), path)
            yield parameter, "parameters", path
    for optimizer in optimizers:
        for parameter in _parameters(optimizer):
            yield parameter, "parameters", paths.get(id(parameter), "")
    for path, module in model.named_modules():
        yield from ((buffer, "buffers", path) for buffer in module.buffers(recurse=False))
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            yield from ((kept, "optimizer state", paths.get(id(parameter), "")) for kept in tensors_in(state))
    for parameter in (*model.parameters(), *(each for optimizer in optimizers for each in _parameters(optimizer))):
        if parameter.grad is not None:
            yield parameter.grad, "parameter gradients", paths.get(id(parameter), "")
    yield from ((tensor, "input", "") for tensor in tensors_in(list(reached(step))))


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
