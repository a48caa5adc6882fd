"""Module calls: which one is running, and what went in and out.

The hooks are PyTorch's global module hooks, filtered by identity. Hooks on the modules themselves would switch off the
fast paths of some of them, break pickling, stay in copies, and be refused by ScriptModules.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from ...theory.tensor import TensorSpec
from ..records import Phase
from .attribution import NOBODY, SequenceTable
from .autograd import OUTSIDE_BACKWARD, current_graph_task, next_sequence_number, producer
from .gradients import GradientRecorder
from .tensors import SpecTable, tensors_in

Key = tuple[int, Phase, tuple[TensorSpec, ...], tuple[bool, ...], tuple[TensorSpec, ...], tuple[TensorSpec, ...]]


class Frame:
    """One open module call."""

    __slots__ = ("given", "gradients", "inputs", "needs", "owner", "phase", "task")

    def __init__(self, owner: int, phase: Phase, task: int) -> None:
        self.owner = owner
        self.phase = phase
        self.task = task  # the backward pass inside which the call started, if any
        self.inputs: tuple[TensorSpec, ...] = ()
        self.needs: tuple[bool, ...] = ()
        # Gradients to expect: identity of the input -> (node, place, position). An inner call given the same tensor
        # takes the entry over: the gradient is then its, not ours.
        self.gradients: dict[int, tuple[Any, int, int]] = {}
        # Tensors that inner calls returned. Weak, so that nothing lives longer than it would.
        self.given: dict[int, weakref.ref[Tensor]] = {}


class CallRecorder:
    """The stack of open calls, and the tally of finished ones."""

    def __init__(
        self, index: dict[int, int], table: SequenceTable, specs: SpecTable, gradients: GradientRecorder
    ) -> None:
        self.stack: list[Frame] = []
        self.counts: Counter[Key] = Counter()
        self.foreign_threads = 0
        self._index = index
        self._table = table
        self._specs = specs
        self._gradients = gradients
        self._thread = threading.get_ident()

    def install(self, exits: ExitStack) -> None:
        """Register the global hooks; `exits` takes them back."""
        exits.callback(self.stack.clear)
        exits.callback(register_module_forward_pre_hook(self._enter).remove)
        exits.callback(register_module_forward_hook(self._leave, with_kwargs=True, always_call=True).remove)

    def _owner(self, module: nn.Module) -> int | None:
        """The module's index; NOBODY for a loss outside the model; None for what is not ours to see."""
        owner = self._index.get(id(module))
        if owner is None:
            return NOBODY if isinstance(module, _Loss) else None
        if threading.get_ident() != self._thread:
            self.foreign_threads += 1
            return None
        return owner

    def _enter(self, module: nn.Module, args: Any) -> None:
        owner = self._owner(module)
        if owner is None:
            return
        task = current_graph_task()
        inside_backward = task != OUTSIDE_BACKWARD
        phase: Phase = "loss" if owner == NOBODY else "recompute" if inside_backward else "forward"
        frame = Frame(owner, phase, task)
        if owner != NOBODY:
            self._note_inputs(frame, tensors_in(args), self.stack[-1] if self.stack else None)
        self.stack.append(frame)
        self._table.push(next_sequence_number(), owner)

    def _note_inputs(self, frame: Frame, tensors: list[Tensor], outer: Frame | None) -> None:
        """Describe inputs before the module can change them in place, and expect their gradients."""
        of = self._specs.of
        first = len(frame.inputs)
        frame.inputs += tuple([of(tensor) for tensor in tensors])
        frame.needs += tuple([tensor.requires_grad for tensor in tensors])
        if not torch.is_grad_enabled():
            return
        for position, tensor in enumerate(tensors, first):
            gradient = producer(tensor)
            if gradient is not None:
                frame.gradients[id(tensor)] = (*gradient, position)
                if outer is not None:
                    outer.gradients.pop(id(tensor), None)

    def _leave(self, module: nn.Module, args: Any, *rest: Any) -> None:
        """`rest` is (kwargs, result), or (result,) when forward raised."""
        owner = self._owner(module)
        if owner is None or not self._unwind(owner):
            return
        frame = self.stack.pop()
        if owner != NOBODY and len(rest) == 2:
            kwargs, result = rest
            self._finish(frame, kwargs, result, self.stack[-1] if self.stack else None)
        self._table.push(next_sequence_number(), self.stack[-1].owner if self.stack else NOBODY)

    def _unwind(self, owner: int) -> bool:
        """Drop calls that ended without saying so (an interrupt); False where this call began before the block."""
        stack = self.stack
        if not any(frame.owner == owner for frame in stack):
            return False
        while stack[-1].owner != owner:
            stack.pop()
        return True

    def _finish(self, frame: Frame, kwargs: dict[str, Any], result: Any, outer: Frame | None) -> None:
        outputs = tensors_in(result)
        if kwargs:
            # Keyword inputs are only shown on the way out. One that was changed in place and returned has no node of
            # its own any more: it is described with the outputs alone.
            returned = {id(tensor) for tensor in outputs}
            inputs = [tensor for tensor in tensors_in(kwargs) if id(tensor) not in returned]
            self._note_inputs(frame, inputs, outer)
        own = [tensor for tensor in outputs if not _was_given(frame, tensor)]
        if outer is not None:
            for tensor in outputs:
                outer.given[id(tensor)] = weakref.ref(tensor)
        of = self._specs.of
        self.counts[
            frame.owner,
            frame.phase,
            frame.inputs,
            frame.needs,
            tuple([of(tensor) for tensor in outputs]),
            tuple([of(tensor) for tensor in own]),
        ] += 1
        self._watch(frame, outputs)

    def _watch(self, frame: Frame, outputs: list[Tensor]) -> None:
        watch = self._gradients.watch
        for node, place, position in frame.gradients.values():
            watch(node, place, frame.owner, "input", position)
        for position, tensor in enumerate(outputs):
            gradient = producer(tensor)
            if gradient is not None:
                watch(*gradient, frame.owner, "output", position)


def _was_given(frame: Frame, tensor: Tensor) -> bool:
    """Whether an inner call returned this very tensor object."""
    reference = frame.given.get(id(tensor))
    return reference is not None and reference() is tensor
