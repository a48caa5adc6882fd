"""Bytes as the allocator holds them, in a plain step: no dispatch mode, no global hook, none of our own counting.

An independent witness for shapes and bytes: it looks at the real tensors that leaf modules return, at what autograd
hands over to be kept while they run, at the gradients that really arrive there, and at the parameters' real `.grad`,
and asks each storage for its size.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef


@dataclass(frozen=True, slots=True)
class Held:
    """A real tensor's shape, and the bytes of its storage that it uses."""

    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Storages:
    """By module path: outputs, what is kept for backward, gradients of single-tensor inputs and outputs, parameters,
    and parameters' gradients."""

    outputs: dict[str, Held]
    saved_bytes: dict[str, int]
    input_gradients: dict[str, Held]
    output_gradients: dict[str, Held]
    parameter_bytes: dict[str, int]
    parameter_gradient_bytes: dict[str, int]


def held_storages(model: nn.Module, step: Callable[[], Any]) -> Storages:
    """Run `step` (a forward and backward of `model`) and look at what leaf modules hold.

    Gradients are looked at where they arrive. Parameters' gradients are those that the step leaves behind: the step
    must start without any. Modules that are called several times show their last call; what was kept for backward is
    of all calls.
    """
    outputs: dict[str, Held] = {}
    kept = _Kept(model)
    input_gradients: dict[str, Held] = {}
    output_gradients: dict[str, Held] = {}
    leaves = {path: module for path, module in model.named_modules() if not any(True for _ in module.children())}

    def entered(path: str) -> Callable[[nn.Module, Any], None]:
        def hook(_: nn.Module, inputs: Any) -> None:
            kept.running = path
            _on_gradient(inputs[0], lambda gradient: input_gradients.__setitem__(path, _held(gradient)))

        return hook

    def left(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            kept.running = None
            outputs[path] = _held(output)
            _on_gradient(output, lambda gradient: output_gradients.__setitem__(path, _held(gradient)))

        return hook

    with ExitStack() as exits:
        for path, module in leaves.items():
            exits.callback(module.register_forward_pre_hook(entered(path)).remove)
            exits.callback(module.register_forward_hook(left(path)).remove)
        exits.enter_context(saved_tensors_hooks(kept.keep, kept.give_back))
        step()
    return Storages(
        outputs=outputs,
        saved_bytes={path: kept.bytes.get(path, 0) for path in outputs},
        input_gradients=input_gradients,
        output_gradients=output_gradients,
        parameter_bytes={path: _sum(module, lambda p: p) for path, module in leaves.items()},
        parameter_gradient_bytes={path: _sum(module, lambda p: p.grad) for path, module in leaves.items()},
    )


class _Kept:
    """What autograd asks to keep, each storage once, for the leaf module that is running; parameters and buffers left
    out.

    A storage is known by a weak reference: that holds none of its memory, and no other storage can take its identity.
    """

    def __init__(self, model: nn.Module) -> None:
        self.running: str | None = None
        self.bytes: dict[str | None, int] = {}
        self._met = {_identity(tensor) for tensor in (*model.parameters(), *model.buffers())}

    def keep(self, tensor: Tensor) -> Tensor:
        identity = _identity(tensor)
        if identity not in self._met:
            self._met.add(identity)
            self.bytes[self.running] = self.bytes.get(self.running, 0) + tensor.untyped_storage().nbytes()
        return tensor.detach()  # an output that its own node kept as it is would never be freed without a backward

    @staticmethod
    def give_back(tensor: Tensor) -> Tensor:
        return tensor


def _identity(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _on_gradient(value: Any, note: Callable[[Tensor], None]) -> None:
    if isinstance(value, Tensor) and value.requires_grad:
        value.register_hook(note)


def _sum(module: nn.Module, choose: Callable[[Tensor], Tensor | None]) -> int:
    chosen = (choose(parameter) for parameter in module.parameters(recurse=False))
    return sum(_held(tensor).bytes for tensor in chosen if tensor is not None)


def _held(tensor: Tensor) -> Held:
    """An expanded tensor holds fewer bytes than it shows elements; a view of a larger storage no more than its own."""
    storage: torch.UntypedStorage = tensor.untyped_storage()
    return Held(tuple(tensor.shape), min(storage.nbytes(), tensor.numel() * tensor.element_size()))
