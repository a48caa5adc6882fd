"""Module calls: which one is running, and what went in and out.

The hooks are PyTorch's global module hooks, filtered by identity. Hooks on the modules themselves would switch off the
fast paths of some of them, break pickling, stay in copies, and be refused by ScriptModules.

This runs on every module call of the user's step: facts are kept as plain tuples of shapes and dtypes, and become
records only when the block has ended.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, is_grad_enabled, nn
from torch._C import DisableTorchFunction
from torch.nn.modules import module as torch_modules
from torch.nn.modules.loss import _Loss

from .attribution import NOBODY, SequenceTable, Slot, Slots
from .autograd import OUTSIDE_BACKWARD, current_graph_task, next_sequence_number
from .calls import CallTally, Seen
from .expected import INPUT, ExpectedGradients, of_recipient
from .tensors import tensors_in

# The user's own function modes, and `torch.set_default_device`, would see each look that we take at a tensor.
has_function_mode: Callable[[], bool] = torch._C._is_torch_function_mode_enabled

_CALL = nn.Module._call_impl.__code__

Given = dict[int, weakref.ref[Tensor]]
"""Tensors that a call was given by calls inside it, by identity. Weak, so that none lives longer than it would; and an
identity is used again after its tensor has died."""

_RAISED: Any = object()  # instead of the result of a call that raised


class Frame:
    """One open module call."""

    __slots__ = ("expected", "given", "home", "inputs", "slot", "task")

    def __init__(self, home: Slot, slot: Slot, task: int) -> None:
        self.home = home  # the module's own slot, that of its forward
        self.slot = slot
        self.task = task  # the backward pass inside which the call started, if any
        self.inputs: Seen = ()
        # Where the inputs' gradients will arrive, and each one's position. An inner call that is given the same tensor
        # takes the entry over: the gradient is then its, not ours.
        self.expected: dict[int, int] | None = None
        self.given: Given | None = None  # what inner calls returned; None before there was one


class CallRecorder:
    """The stack of open calls, and the tally of finished ones. `index` has the modules' places by identity.

    `table` and `expected` are for attribution, without which there are module facts alone: they are told whose the
    autograd nodes are, and where gradients of what calls took and gave will arrive.

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
        self._homes = {identity: slots.of(owner, "forward") for identity, owner in index.items()}
        self._loss = slots.of(NOBODY, "loss")
        self._slots = slots
        self._table = SequenceTable() if table is None else table
        self._expected = expected
        self._thread = get_ident()
        # The tensor returned last; the number that the next node had then; and where its gradient arrives.
        self._latest: tuple[weakref.ref[Tensor], int, int] | None = None

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
        stack, expected = self.stack, self._expected
        if stack and stack[0].home is home:
            self._drop_stale()
        frame = Frame(home, home, task)
        tensor: Any = args[0] if len(args) == 1 else None
        if type(tensor) is not Tensor or tensor.is_nested:
            self._note_inputs(frame, tensors_in(args))
        else:
            wanted = tensor.requires_grad
            frame.inputs = tensor.shape, tensor.dtype, wanted
            if wanted and expected is not None and is_grad_enabled():
                self._expect_one(expected, frame, tensor)
        stack.append(frame)
        if expected is not None:
            self._table.push(next_sequence_number(), home.owner)

    def _enter_unusual(self, module: nn.Module, args: Any, home: Slot | None, task: int) -> None:
        """A loss outside the model; a module called inside a backward pass; or another thread, which numbers its nodes
        from 0."""
        here = get_ident() == self._thread
        if home is not None:
            # Within a backward pass another thread is a device's own, which works for the one that waits for it.
            if task == OUTSIDE_BACKWARD:
                self.foreign_threads += 1
                return
            frame = Frame(home, self._slots.of(home.owner, "recompute"), task)
            if self.stack and self.stack[0].home is home:
                self._drop_stale()
            self._note_inputs(frame, tensors_in(args))
        elif isinstance(module, _Loss):
            frame = Frame(self._loss, self._loss, task)
        else:
            return
        self.stack.append(frame)
        if here:
            self._table.push(next_sequence_number(), frame.slot.owner)

    def _drop_stale(self) -> None:
        """The outermost module is entered again: it calls itself, or an interrupt ended its call without saying so."""
        frame, live = sys._getframe(), 0
        while frame.f_back is not None:
            frame = frame.f_back
            live += frame.f_code is _CALL
        if live <= len(self.stack):  # the call that is just being entered is one of the live ones
            del self.stack[max(live - 1, 0) :]

    def _expect_one(self, expected: ExpectedGradients, frame: Frame, tensor: Tensor) -> None:
        latest = self._latest
        if latest is not None and latest[0]() is tensor and latest[1] == next_sequence_number():
            where = latest[2]  # nothing was done since that call returned it
        else:
            where = expected.place_of(tensor)
        frame.expected = {where: 0}
        if self.stack and self.stack[-1].expected:
            self.stack[-1].expected.pop(where, None)

    def _note_inputs(self, frame: Frame, tensors: Sequence[Tensor]) -> None:
        """Describe inputs of any kind, and expect their gradients; the frame is not, or no longer, on the stack."""
        first = len(frame.inputs) // 3
        frame.inputs += _described(tensors)
        if self._expected is None or not is_grad_enabled():
            return
        outer = self.stack[-1].expected if self.stack else None
        for position, tensor in enumerate(tensors, first):
            if tensor.requires_grad:
                where = self._expected.place_of(tensor)
                if frame.expected is None:
                    frame.expected = {}
                frame.expected[where] = position
                if outer:
                    outer.pop(where, None)

    # A call ends ------------------------------------------------------------------------------------------------------

    def _leave(self, module: nn.Module, args: Any, kwargs: dict[str, Any], result: Any = _RAISED) -> None:
        """Where forward raised, PyTorch leaves out `kwargs`, and gives None in its place."""
        if has_function_mode():
            with DisableTorchFunction():
                return self._leave(module, args, kwargs, result)
        home = self._homes.get(id(module))
        here = get_ident() == self._thread
        if home is None or not here:
            home = self._unusual(module, home)
        stack = self.stack
        if home is None or not stack or (stack[-1].home is not home and not self._unwind(home)):
            return
        frame = stack.pop()
        number = next_sequence_number()
        if result is not _RAISED and home is not self._loss:
            self._finish(frame, kwargs, result, number)
        if here and self._expected is not None:
            self._table.push(number, stack[-1].slot.owner if stack else NOBODY)

    def _unusual(self, module: nn.Module, home: Slot | None) -> Slot | None:
        """The loss's slot for a loss outside the model; None for what is not ours to see (see `_enter_unusual`)."""
        if home is None:
            return self._loss if isinstance(module, _Loss) else None
        return None if current_graph_task() == OUTSIDE_BACKWARD else home

    def _unwind(self, home: Slot) -> bool:
        """Drop calls that ended without saying so (an interrupt); False where this call began before the block."""
        stack = self.stack
        if not any(frame.home is home for frame in stack):
            return False
        while stack[-1].home is not home:
            stack.pop()
        return True

    def _finish(self, frame: Frame, kwargs: Any, result: Any, number: int) -> None:
        """Count a call that has ended; the next node will have that number."""
        if type(result) is not Tensor or kwargs or frame.given is not None or result.is_nested:
            self._finish_any(frame, kwargs, result, number)
            return
        stack, expected, wanted = self.stack, self._expected, result.requires_grad
        call = self.tally.add(frame.slot, frame.inputs, (result.shape, result.dtype, wanted), None)
        reference = weakref.ref(result)
        if stack:
            outer = stack[-1]
            if outer.given is None:
                outer.given = {}
            outer.given[id(result)] = reference
        if expected is None:
            return
        if wanted and frame.task == OUTSIDE_BACKWARD:
            where = expected.place_of(result)
            self._latest = (reference, number, where)
            expected.add_one(call, frame.expected, where)
        elif wanted or frame.expected:
            self._expect(expected, frame, call, (result,))

    def _finish_any(self, frame: Frame, kwargs: Any, result: Any, number: int) -> None:
        outputs = tensors_in(result)
        if kwargs:
            # Keyword inputs are only shown on the way out. One that was changed in place and returned has no node of
            # its own any more: it is described with the outputs alone.
            returned = {id(tensor) for tensor in outputs}
            self._note_inputs(frame, [tensor for tensor in tensors_in(kwargs) if id(tensor) not in returned])
        given = frame.given
        own = None if given is None else tuple([not _was_given(given, tensor) for tensor in outputs])
        call = self.tally.add(frame.slot, frame.inputs, _described(outputs), own)
        if self.stack:
            outer = self.stack[-1]
            if outer.given is None:
                outer.given = {}
            for tensor in outputs:
                outer.given[id(tensor)] = weakref.ref(tensor)
        if self._expected is not None:
            self._expect(self._expected, frame, call, outputs)

    def _expect(self, expected: ExpectedGradients, frame: Frame, call: int, outputs: Sequence[Tensor]) -> None:
        if frame.task != OUTSIDE_BACKWARD and frame.expected:
            self._leave_to_first_call(frame.expected, frame.slot.owner, expected)
        place_of = expected.place_of
        places = [(position, place_of(tensor)) for position, tensor in enumerate(outputs) if tensor.requires_grad]
        expected.add_call(call, frame.expected, places)

    def _leave_to_first_call(self, places: dict[int, int], owner: int, expected: ExpectedGradients) -> None:
        """A recomputed call is given the tensors of the forward one, which expects their gradients already."""
        for where in list(places):
            calls = [of_recipient(each) for each in expected.expected_at(where)]
            if any(kind == INPUT and self.tally.owner_of(call) == owner for call, kind, _ in calls):
                del places[where]


def _was_given(given: Given, tensor: Tensor) -> bool:
    """Whether an inner call returned this very tensor, whatever was written into it since."""
    reference = given.get(id(tensor))
    return reference is not None and reference() is tensor


def _described(tensors: Sequence[Tensor]) -> Seen:
    if len(tensors) == 1:  # as most modules take and give
        (tensor,) = tensors
        return tensor.shape, tensor.dtype, tensor.requires_grad
    return tuple([fact for tensor in tensors for fact in (tensor.shape, tensor.dtype, tensor.requires_grad)])
