"""Module calls: which one is running, and what went in and out.

The hooks are PyTorch's global module hooks, filtered by identity. Hooks on the modules themselves would switch off the
fast paths of some of them, break pickling, stay in copies, and be refused by ScriptModules.

This runs on every module call of the user's step: facts are kept as plain tuples of shapes and dtypes, and become
records only when the block has ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch.nn.modules import module as torch_modules
from torch.nn.modules.loss import _Loss

from .attribution import NOBODY, SequenceTable, Slot, Slots
from .autograd import OUTSIDE_BACKWARD, current_graph_task
from .calls import LIMIT, CallTally, Seen, has_transform
from .expected import ExpectedGradients
from .frames import Frame, Given
from .passing import CallAttribution
from .tensors import tensors_in

# The user's own function modes (and `torch.set_default_device`) and kinds of tensors would see each look that we take.
has_function_mode: Callable[[], bool] = torch._C._is_torch_function_mode_enabled

_CALL = nn.Module._call_impl.__code__

_RAISED: Any = object()  # instead of the result of a call that raised


class CallRecorder:
    """The stack of open calls, and the tally of finished ones. `index` has the modules' places by identity.

    `table` and `expected` are for attribution (see `passing`), without which there are module facts alone: then all
    outputs count as a call's own.

    One tensor taken, and one given, go a short way: it must say what the long way would.
    """

    def __init__(
        self,
        index: dict[int, int],
        slots: Slots,
        table: SequenceTable | None = None,
        expected: ExpectedGradients | None = None,
    ) -> None:
        self.stack: list[Frame] = []
        self.foreign_threads = 0
        self.tally = CallTally(slots)
        self._alike = self.tally.alike
        self._homes = {identity: slots.of(owner, "forward") for identity, owner in index.items()}
        self._loss = slots.of(NOBODY, "loss")
        self._slots = slots
        self._attribution: CallAttribution | None = None
        if table is not None and expected is not None:
            self._attribution = CallAttribution(table, expected, self.stack, self.tally.owner_of)
        self._thread = get_ident()

    def install(self, exits: ExitStack) -> None:
        """Register the global hooks; `exits` takes them back."""
        exits.callback(self.stack.clear)
        exits.callback(torch_modules.register_module_forward_pre_hook(self._enter).remove)
        handle = torch_modules.register_module_forward_hook(self._leave, with_kwargs=True, always_call=True)
        # The handle forgets one of the places that register_module_forward_hook writes to.
        exits.callback(torch_modules._global_forward_hooks_with_kwargs.pop, handle.id, None)
        exits.callback(handle.remove)

    # A call begins ----------------------------------------------------------------------------------------------------

    def _enter(self, module: nn.Module, args: Any) -> None:
        """Describe inputs before the module can change them in place, and expect their gradients."""
        if has_function_mode():
            with DisableTorchFunction():
                return self._enter(module, args)
        home = self._homes.get(id(module))
        task = current_graph_task()
        if home is None or task != OUTSIDE_BACKWARD or get_ident() != self._thread:
            self._enter_unusual(module, args, home, task)
            return
        stack, attribution = self.stack, self._attribution
        if stack and stack[0].module is module:
            self._drop_stale()
        frame = Frame()
        frame.module = module
        frame.slot = home
        frame.task = task
        frame.expected = frame.given = None
        tensor: Any = args[0] if len(args) == 1 else None
        try:
            seen = (tensor.shape, tensor.dtype, tensor.requires_grad) if type(tensor) is Tensor else None
        except RuntimeError:  # a nested tensor has no shape
            seen = None
        if seen is None:
            frame.inputs = ()
            with DisableTorchFunction():
                self._note_inputs(frame, tensors_in(args))
        else:
            frame.inputs = seen
            if attribution is not None and seen[2]:
                attribution.takes_one(frame, tensor)
        stack.append(frame)
        if attribution is not None:
            attribution.owner_changes()

    def _enter_unusual(self, module: nn.Module, args: Any, home: Slot | None, task: int) -> None:
        """A loss outside the model; a module called inside a backward pass; or another thread, which numbers its nodes
        from 0."""
        here = get_ident() == self._thread
        # Within a backward pass another thread is a device's own, which works for the one that waits for it.
        if not here and task == OUTSIDE_BACKWARD:
            self.foreign_threads += home is not None
            return
        if home is None and not isinstance(module, _Loss):
            return
        if self.stack and self.stack[0].module is module:
            self._drop_stale()
        frame = Frame()
        frame.module = module
        frame.slot = self._loss if home is None else self._slots.of(home.owner, "recompute")
        frame.task = task
        frame.inputs = ()
        frame.expected = None
        frame.given = Given() if home is None else None  # what a loss gives goes the long way
        if home is not None:
            with DisableTorchFunction():
                self._note_inputs(frame, tensors_in(args))
        self.stack.append(frame)
        if self._attribution is not None and here:
            self._attribution.owner_changes()

    def _drop_stale(self) -> None:
        """The outermost module is entered again: it calls itself, or an interrupt ended its call without saying so."""
        frame, live = sys._getframe(), 0
        while frame.f_back is not None:
            frame = frame.f_back
            live += frame.f_code is _CALL
        if live <= len(self.stack):  # the call that is just being entered is one of the live ones
            del self.stack[max(live - 1, 0) :]

    def _note_inputs(self, frame: Frame, tensors: Sequence[Tensor]) -> None:
        """Describe inputs of any kind, after those that are described."""
        first = len(frame.inputs) // 3
        frame.inputs += _described(tensors)
        if self._attribution is not None:
            self._attribution.takes(frame, tensors, first)

    # A call ends ------------------------------------------------------------------------------------------------------

    def _leave(self, module: nn.Module, args: Any, kwargs: dict[str, Any], result: Any = _RAISED) -> None:
        """Where forward raised, PyTorch leaves out `kwargs`, and gives None in its place."""
        if has_function_mode():
            with DisableTorchFunction():
                return self._leave(module, args, kwargs, result)
        stack, here = self.stack, get_ident() == self._thread
        if (not here or not stack or stack[-1].module is not module) and not self._is_ours(module, here):
            return
        frame = stack.pop()
        slot = frame.slot
        try:
            short = type(result) is Tensor and frame.given is None and not kwargs
            seen = (result.shape, result.dtype, result.requires_grad) if short else None
        except RuntimeError:  # a nested tensor has no shape
            seen = None
        if seen is None:
            if result is not _RAISED and slot is not self._loss:
                with DisableTorchFunction():
                    self._finish(frame, kwargs, result)
        else:
            alike = self._alike.get((frame.inputs, seen, None))
            if alike is None or len(alike.slots) >= LIMIT or has_transform():
                alike = self.tally.add(slot, frame.inputs, seen, None)
            else:
                alike.slots.append(slot)
            if self._attribution is not None:
                self._attribution.gives_one(frame, alike.first + slot.index, result)
        if self._attribution is not None and here:
            self._attribution.owner_changes()

    def _is_ours(self, module: nn.Module, here: bool) -> bool:
        """Whether the call that ends is an open one, in this thread or in one that works for it. Calls inside it that
        ended without saying so (an interrupt) are dropped."""
        if not here and current_graph_task() == OUTSIDE_BACKWARD:
            return False
        if not any(frame.module is module for frame in self.stack):  # one that began before the block, or another's
            return False
        while self.stack[-1].module is not module:
            self.stack.pop()
        return True

    def _finish(self, frame: Frame, kwargs: Any, result: Any) -> None:
        """Count a call of any kind that has ended."""
        outputs = tensors_in(result)
        if kwargs:
            # Keyword inputs are only shown on the way out. One that was changed in place and returned has no node of
            # its own any more: it is described with the outputs alone.
            returned = {id(tensor) for tensor in outputs}
            self._note_inputs(frame, [tensor for tensor in tensors_in(kwargs) if id(tensor) not in returned])
        own = None if frame.given is None else frame.given.lacks(outputs)
        alike = self.tally.add(frame.slot, frame.inputs, _described(outputs), own)
        if self._attribution is not None:
            self._attribution.gives(frame, alike.first + frame.slot.index, outputs)


def _described(tensors: Sequence[Tensor]) -> Seen:
    if len(tensors) == 1:  # as most modules take and give
        (tensor,) = tensors
        return tensor.shape, tensor.dtype, tensor.requires_grad
    return tuple([fact for tensor in tensors for fact in (tensor.shape, tensor.dtype, tensor.requires_grad)])
