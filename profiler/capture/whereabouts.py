"""Where the tensors lie that outlive a step: parameters, buffers, gradients, optimizer state, the step's own data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ...theory.stream import Category
from .tensors import tensors_in


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A storage that somebody holds: its address and bytes, what it is for, and the module it belongs to."""

    pointer: int
    bytes: int
    category: Category
    path: str


def whereabouts(tensor: Tensor, category: Category, path: str = "") -> Whereabouts | None:
    """Of the tensor's whole storage; None where it has none (sparse, wrapped, empty)."""
    try:
        storage = tensor.untyped_storage()
        pointer, size = storage.data_ptr(), storage.nbytes()
    except (NotImplementedError, RuntimeError):
        return None
    return Whereabouts(pointer, size, category, path) if pointer and size else None


def of_model(model: nn.Module, device: str) -> Iterator[Whereabouts]:
    """Parameters, buffers and gradients, each storage with the first module that holds it."""
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            yield from _found(parameter, "parameters", path, device)
            if parameter.grad is not None:
                yield from _found(parameter.grad, "parameter gradients", path, device)
        for buffer in module.buffers(recurse=False):
            yield from _found(buffer, "buffers", path, device)


def of_optimizer(optimizer: Optimizer, paths: dict[int, str], device: str) -> Iterator[Whereabouts]:
    """What the optimizer keeps, with the module of the parameter it keeps it for; `paths` by identity of parameters.

    Parameters of other models are the optimizer's too: they have no path here.
    """
    for parameter, state in optimizer.state.items():
        path = paths.get(id(parameter), "")
        for kept in tensors_in(state):
            yield from _found(kept, "optimizer state", path, device)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield from _found(parameter, "parameters", paths.get(id(parameter), ""), device)


def of_step(step: Callable[..., Any], device: str) -> Iterator[Whereabouts]:
    """The tensors that a step reaches by name: images and labels in its closure, its arguments, the globals it uses."""
    for tensor in tensors_in(list(reached(step))):
        yield from _found(tensor, "input", "", device)


def _found(tensor: Tensor, category: Category, path: str, device: str) -> Iterator[Whereabouts]:
    found = whereabouts(tensor, category, path) if tensor.device.type == device else None
    if found is not None:
        yield found


def reached(step: Callable[..., Any]) -> Iterable[Any]:
    """The values that a step reaches by name."""
    if isinstance(step, partial):
        return [step.args, step.keywords, *reached(step.func)]
    if isinstance(step, MethodType):
        return [vars(step.__self__) if hasattr(step.__self__, "__dict__") else (), *reached(step.__func__)]
    if isinstance(step, FunctionType):
        names = inspect.getclosurevars(step)
        return [*names.nonlocals.values(), *names.globals.values(), step.__defaults__, step.__kwdefaults__]
    return [vars(step)] if hasattr(step, "__dict__") else []
