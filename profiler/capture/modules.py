"""Module calls: which one is running, and what went in and out.

The hooks are PyTorch's global module hooks, filtered by identity. Hooks on the modules themselves would switch off the
fast paths of some of them, break pickling, stay in copies, and be refused by ScriptModules.

This runs on every module call of the user's step: facts are kept as plain tuples of shapes and dtypes, and become
records only when the block has ended.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from threading import get_ident
from typing import Any

from torch import Tensor, is_grad_enabled, nn
from torch.nn.modules import module as torch_modules
from torch.nn.modules.loss import _Loss

from .attribution import NOBODY, SequenceTable, Slot, Slots
from .autograd import OUTSIDE_BACKWARD, current_graph_task, next_sequence_number
from .calls import CallTally, Seen
from .expected import INPUT, PLACES, ExpectedGradients, of_recipient
from .tensors import tensors_in

_CALL = nn.Module._call_impl.__code__

_RAISED: Any = object()  # instead of the result of a call that raised


class Frame:
    """One open module call."""

    __slots__ = ("expected", "given", "inputs", "slot", "start", "task")

    def __init__(self, slot: Slot, task: int, start: int) -> None:
        self.slot = slot
        self.task = task  # the backward pass inside which the call started, if any
        self.start = start  # the number of the first autograd node made in it
        self.inputs: Seen = ()
        # Where the inputs' gradients will arrive, and each one's position. An inner call that is given the same tensor
        # takes the entry over: the gradient is then its, not ours.
        self.expected: dict[int, int] = {}
        # Tensors that inner calls returned and that no autograd node tells apart; None before there was an inner call.
        # Weak, so that nothing lives longer than it would.
        self.given: dict[int, weakref.ref[Tensor]] | None = None


class CallRecorder:
    """The stack of open calls, and the tally of finished ones. `index` has the modules' places by identity.

    `_take` and `_finish` have a short way each, for one tensor that needs a gradient: it must say what the long way
    would.
    """

    def __init__(self, index: dict[int, int], slots: Slots, table: SequenceTable, expected: ExpectedGradients) -> None:
        self.stack: list[Frame] = []
        self.foreign_threads = 0
        self.tally = CallTally()
        self._homes = {identity: slots.of(owner, "forward") for identity, owner in index.items()}
        self._loss = slots.of(NOBODY, "loss")
        self._slots = slots
        self._table = table
        self._expected = expected
        self._thread = get_ident()

    def install(self, exits: ExitStack) -> None:
        """Register the global hooks; `exits` takes them back."""
        exits.callback(self.stack.clear)
        exits.callback(torch_modules.register_module_forward_pre_hook(self._enter).remove)
        handle = torch_modules.register_module_forward_hook(self._leave, with_kwargs=True, always_call=True)
        # The handle forgets one of the places that register_module_forward_hook writes to.
        exits.callback(torch_modules._global_forward_hooks_with_kwargs.pop, handle.id, None)
        exits.callback(handle.remove)

    def _enter(self, module: nn.Module, args: Any) -> None:
        slot = self._homes.get(id(module))
        here = get_ident() == self._thread
        if slot is None or not here:
            self.foreign_threads += slot is not None and current_graph_task() == OUTSIDE_BACKWARD
            slot = self._unusual(module, slot)
            if slot is None:
                return
        task = current_graph_task()
        start = next_sequence_number()
        stack = self.stack
        if slot is self._loss:
            stack.append(Frame(slot, task, start))
        else:
            if stack and stack[0].slot.owner == slot.owner:
                self._drop_stale()
            frame = Frame(slot if task == OUTSIDE_BACKWARD else self._slots.of(slot.owner, "recompute"), task, start)
            self._take(frame, args, stack[-1] if stack else None)
            stack.append(frame)
        if here:  # each thread numbers its nodes from 0
            self._table.push(start, slot.owner)

    def _unusual(self, module: nn.Module, slot: Slot | None) -> Slot | None:
        """The loss's slot for a loss outside the model; None for what is not ours to see."""
        if slot is None:
            return self._loss if isinstance(module, _Loss) else None
        # Within a backward pass it is a device's own thread, which works for the one that waits for it.
        return None if current_graph_task() == OUTSIDE_BACKWARD else slot

    def _leave(self, module: nn.Module, args: Any, kwargs: dict[str, Any], result: Any = _RAISED) -> None:
        """Where forward raised, PyTorch leaves out `kwargs`, and gives None in its place."""
        slot = self._homes.get(id(module))
        here = get_ident() == self._thread
        if slot is None or not here:
            slot = self._unusual(module, slot)
        stack = self.stack
        if slot is None or not stack or (stack[-1].slot.owner != slot.owner and not self._unwind(slot.owner)):
            return
        frame = stack.pop()
        outer = stack[-1] if stack else None
        if result is not _RAISED and slot is not self._loss:
            self._finish(frame, kwargs, result, outer)
        if here:
            self._table.push(next_sequence_number(), NOBODY if outer is None else outer.slot.owner)

    def _unwind(self, owner: int) -> bool:
        """Drop calls that ended without saying so (an interrupt); False where this call began before the block."""
        stack = self.stack
        if not any(frame.slot.owner == owner for frame in stack):
            return False
        while stack[-1].slot.owner != owner:
            stack.pop()
        return True

    def _drop_stale(self) -> None:
        """The outermost module is entered again: it calls itself, or an interrupt ended its call without saying so."""
        frame, live = sys._getframe(), 0
        while frame.f_back is not None:
            frame = frame.f_back
            live += frame.f_code is _CALL
        if live <= len(self.stack):  # the call that is just being entered is one of the live ones
            del self.stack[max(live - 1, 0) :]

    def _take(self, frame: Frame, args: Any, outer: Frame | None) -> None:
        """Describe inputs before the module can change them in place, and expect their gradients."""
        tensor: Any = args[0] if len(args) == 1 else None
        node = tensor.grad_fn if type(tensor) is Tensor else None
        if node is None or tensor.is_nested or not is_grad_enabled():
            self._note_inputs(frame, tensors_in(args), outer)
            return
        # The short way for what most calls are given: one tensor that needs a gradient, and is no leaf.
        frame.inputs = tensor.shape, tensor.dtype, True
        where = node._sequence_nr() * PLACES + tensor.output_nr
        frame.expected[where] = 0
        if outer is not None and outer.expected:
            outer.expected.pop(where, None)

    def _note_inputs(self, frame: Frame, tensors: Sequence[Tensor], outer: Frame | None) -> None:
        first = len(frame.inputs) // 3
        frame.inputs += _described(tensors)
        if not is_grad_enabled():
            return
        for position, tensor in enumerate(tensors, first):
            if tensor.requires_grad:
                where = self._expected.place_of(tensor)
                frame.expected[where] = position
                if outer is not None:
                    outer.expected.pop(where, None)

    def _finish(self, frame: Frame, kwargs: dict[str, Any], result: Any, outer: Frame | None) -> None:
        node = result.grad_fn if type(result) is Tensor else None
        if node is None or kwargs or frame.given is not None or result.is_nested or frame.task != OUTSIDE_BACKWARD:
            self._finish_any(frame, kwargs, result, outer)
            return
        # The short way for what most calls give: one tensor that needs a gradient, from no inner call.
        call = self.tally.add(frame.slot, frame.inputs, (result.shape, result.dtype, True), None)
        if outer is not None and outer.given is None:
            outer.given = {}
        self._expected.add_call(call, frame.expected, ((0, node._sequence_nr() * PLACES + result.output_nr),))

    def _finish_any(self, frame: Frame, kwargs: dict[str, Any], result: Any, outer: Frame | None) -> None:
        outputs = tensors_in(result)
        if kwargs:
            # Keyword inputs are only shown on the way out. One that was changed in place and returned has no node of
            # its own any more: it is described with the outputs alone.
            returned = {id(tensor) for tensor in outputs}
            self._note_inputs(frame, [tensor for tensor in tensors_in(kwargs) if id(tensor) not in returned], outer)
        own = None if frame.given is None else tuple([not self._was_given(frame, tensor) for tensor in outputs])
        call = self.tally.add(frame.slot, frame.inputs, _described(outputs), own)
        if outer is not None:
            self._give(outer, outputs)
        if frame.task != OUTSIDE_BACKWARD:
            self._leave_to_first_call(frame)
        place_of = self._expected.place_of
        places = [(position, place_of(tensor)) for position, tensor in enumerate(outputs) if tensor.requires_grad]
        self._expected.add_call(call, frame.expected, places)

    def _give(self, outer: Frame, outputs: Sequence[Tensor]) -> None:
        """Let the call around this one know what it was given."""
        if outer.given is None:
            outer.given = {}
        for tensor in outputs:
            if not tensor.requires_grad:
                outer.given[id(tensor)] = weakref.ref(tensor)

    def _leave_to_first_call(self, frame: Frame) -> None:
        """A recomputed call is given the tensors of the forward one, which expects their gradients already."""
        for where in list(frame.expected):
            calls = [of_recipient(each) for each in self._expected.expected_at(where)]
            if any(kind == INPUT and self.tally.owners[call] == frame.slot.owner for call, kind, _ in calls):
                del frame.expected[where]

    def _was_given(self, frame: Frame, tensor: Tensor) -> bool:
        """Whether an inner call returned this very tensor: its node was made in this call, but in another module's."""
        if tensor.requires_grad:
            node = tensor.grad_fn
            number = -1 if node is None else node._sequence_nr()
            return number >= frame.start and self._table.owner(number) != frame.slot.owner
        reference = frame.given.get(id(tensor)) if frame.given else None
        return reference is not None and reference() is tensor


def _described(tensors: Sequence[Tensor]) -> Seen:
    if len(tensors) == 1:  # as most modules take and give
        (tensor,) = tensors
        return tensor.shape, tensor.dtype, tensor.requires_grad
    return tuple([fact for tensor in tensors for fact in (tensor.shape, tensor.dtype, tensor.requires_grad)])
