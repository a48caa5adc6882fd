"""Module calls: which one is running, and what went in and out.

The hooks are PyTorch's global module hooks, filtered by identity. Hooks on the modules themselves would switch off the
fast paths of some of them, break pickling, stay in copies, and be refused by ScriptModules.

This runs on every module call of the user's step: facts are kept as plain tuples of shapes and dtypes, and become
records only when the block has ended.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.nn.modules.loss import _Loss

from ..records import CallFacts, GradientFacts, Phase
from .attribution import NOBODY, SequenceTable
from .autograd import OUTSIDE_BACKWARD, current_graph_task, next_sequence_number
from .expected import INPUT, OUTPUT, PASSED, ExpectedGradients, of_recipient, recipient
from .tensors import SpecTable, tensors_in

_CALL = nn.Module._call_impl.__code__

Slot = tuple[int, Phase]
"""Whose work, and in which phase."""

_Seen = tuple[torch.Size, torch.dtype, bool]
"""A tensor in passing: shape, dtype, whether it needs a gradient."""

_Call = tuple[Slot, tuple[_Seen, ...], tuple[_Seen, ...], tuple[bool, ...] | None]
"""What makes two calls the same: slot, inputs, outputs, and which outputs are its own (None: all)."""


class Frame:
    """One open module call."""

    __slots__ = ("expected", "given", "inputs", "slot", "start", "task")

    def __init__(self, slot: Slot, task: int, start: int) -> None:
        self.slot = slot
        self.task = task  # the backward pass inside which the call started, if any
        self.start = start  # the number of the first autograd node made in it
        self.inputs: tuple[_Seen, ...] = ()
        # Where the inputs' gradients will arrive, and each one's position. An inner call that is given the same tensor
        # takes the entry over: the gradient is then its, not ours.
        self.expected: dict[int, int] | None = None
        # Tensors that inner calls returned and that no autograd node tells apart; None before there was an inner call.
        # Weak, so that nothing lives longer than it would.
        self.given: dict[int, weakref.ref[Tensor]] | None = None


class CallRecorder:
    """The stack of open calls, and the tally of finished ones."""

    def __init__(self, index: dict[int, int], table: SequenceTable, expected: ExpectedGradients) -> None:
        self.stack: list[Frame] = []
        self.foreign_threads = 0
        self._calls: dict[_Call, int] = {}  # -> its place in the next
        self._times: list[int] = []
        self._owners: list[int] = []
        self._index = index
        self._table = table
        self._expected = expected
        self._thread = threading.get_ident()

    def install(self, exits: ExitStack) -> None:
        """Register the global hooks; `exits` takes them back."""
        exits.callback(self.stack.clear)
        exits.callback(torch_modules.register_module_forward_pre_hook(self._enter).remove)
        handle = torch_modules.register_module_forward_hook(self._leave, with_kwargs=True, always_call=True)
        # The handle forgets one of the places that register_module_forward_hook writes to.
        exits.callback(torch_modules._global_forward_hooks_with_kwargs.pop, handle.id, None)
        exits.callback(handle.remove)

    def _enter(self, module: nn.Module, args: Any) -> None:
        owner = self._index.get(id(module))
        if owner is None or threading.get_ident() != self._thread:
            self.foreign_threads += owner is not None and current_graph_task() == OUTSIDE_BACKWARD
            owner = self._unusual(module, owner)
            if owner is None:
                return
        task = current_graph_task()
        stack = self.stack
        start = next_sequence_number()
        if owner == NOBODY:
            frame = Frame((NOBODY, "loss"), task, start)
        else:
            if stack and stack[0].slot[0] == owner:
                self._drop_stale()
            frame = Frame((owner, "forward" if task == OUTSIDE_BACKWARD else "recompute"), task, start)
            self._note_inputs(frame, tensors_in(args), stack[-1] if stack else None)
        stack.append(frame)
        if threading.get_ident() == self._thread:  # each thread numbers its nodes from 0
            self._table.push(start, owner)

    def _unusual(self, module: nn.Module, owner: int | None) -> int | None:
        """NOBODY for a loss outside the model; None for what is not ours to see."""
        if owner is None:
            return NOBODY if isinstance(module, _Loss) else None
        # Within a backward pass it is a device's own thread, which works for the one that waits for it.
        return None if current_graph_task() == OUTSIDE_BACKWARD else owner

    def _leave(self, module: nn.Module, args: Any, *rest: Any) -> None:
        """`rest` is (kwargs, result), or (result,) when forward raised."""
        owner = self._index.get(id(module))
        if owner is None or threading.get_ident() != self._thread:
            owner = self._unusual(module, owner)
        stack = self.stack
        if owner is None or not stack or (stack[-1].slot[0] != owner and not self._unwind(owner)):
            return
        frame = stack.pop()
        outer = stack[-1] if stack else None
        if owner != NOBODY and len(rest) == 2:
            self._finish(frame, rest[0], rest[1], outer)
        if threading.get_ident() == self._thread:
            self._table.push(next_sequence_number(), NOBODY if outer is None else outer.slot[0])

    def _unwind(self, owner: int) -> bool:
        """Drop calls that ended without saying so (an interrupt); False where this call began before the block."""
        stack = self.stack
        if not any(frame.slot[0] == owner for frame in stack):
            return False
        while stack[-1].slot[0] != owner:
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

    def _note_inputs(self, frame: Frame, tensors: Sequence[Tensor], outer: Frame | None) -> None:
        """Describe inputs before the module can change them in place, and expect their gradients."""
        first = len(frame.inputs)
        seen = tuple([(tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in tensors])
        frame.inputs = frame.inputs + seen if first else seen
        for position, tensor in enumerate(tensors, first):
            if seen[position - first][2] and torch.is_grad_enabled():
                where = self._expected.place_of(tensor)
                if frame.expected is None:
                    frame.expected = {where: position}
                else:
                    frame.expected[where] = position
                if outer is not None and outer.expected:
                    outer.expected.pop(where, None)

    def _finish(self, frame: Frame, kwargs: dict[str, Any], result: Any, outer: Frame | None) -> None:
        outputs = tensors_in(result)
        if kwargs:
            # Keyword inputs are only shown on the way out. One that was changed in place and returned has no node of
            # its own any more: it is described with the outputs alone.
            returned = {id(tensor) for tensor in outputs}
            self._note_inputs(frame, [tensor for tensor in tensors_in(kwargs) if id(tensor) not in returned], outer)
        seen = tuple([(tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in outputs])
        own = None if frame.given is None else tuple([not self._was_given(frame, tensor) for tensor in outputs])
        key = (frame.slot, frame.inputs, seen, own)
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = len(self._times)
            self._times.append(0)
            self._owners.append(frame.slot[0])
        self._times[call] += 1
        if outer is not None:
            self._give(outer, outputs, seen)
        if frame.slot[1] == "recompute":
            self._leave_to_first_call(frame)
        self._expect(call, frame.expected, outputs, seen)

    def _give(self, outer: Frame, outputs: Sequence[Tensor], seen: tuple[_Seen, ...]) -> None:
        """Let the call around this one know what it was given."""
        if outer.given is None:
            outer.given = {}
        for position, tensor in enumerate(outputs):
            if not seen[position][2]:
                outer.given[id(tensor)] = weakref.ref(tensor)

    def _leave_to_first_call(self, frame: Frame) -> None:
        """A recomputed call is given the tensors of the forward one, which expects their gradients already."""
        for where in list(frame.expected or ()):
            calls = [of_recipient(each) for each in self._expected.expected_at(where)]
            if any(kind == INPUT and self._owners[call] == frame.slot[0] for call, kind, _ in calls):
                del frame.expected[where]  # type: ignore[union-attr]

    def _was_given(self, frame: Frame, tensor: Tensor) -> bool:
        """Whether an inner call returned this very tensor: its node was made in this call, but in another module's."""
        if tensor.requires_grad:
            node = tensor.grad_fn
            number = -1 if node is None else node._sequence_nr()
            return number >= frame.start and self._table.owner(number) != frame.slot[0]
        reference = frame.given.get(id(tensor)) if frame.given else None
        return reference is not None and reference() is tensor

    def _expect(
        self, call: int, inputs: dict[int, int] | None, outputs: Sequence[Tensor], seen: tuple[_Seen, ...]
    ) -> None:
        """Expect the gradients of the inputs that no inner call took over, and of the outputs."""
        expected = self._expected
        for position, tensor in enumerate(outputs):
            if seen[position][2]:
                where = expected.place_of(tensor)
                if inputs and where in inputs:
                    expected.add(where, recipient(call, inputs.pop(where), PASSED))
                expected.add(where, recipient(call, position, OUTPUT))
        if inputs:
            for where, position in inputs.items():
                expected.add(where, recipient(call, position, INPUT))

    @property
    def finished(self) -> int:
        """How many calls have ended."""
        return sum(self._times)

    def owner_of(self, call: int) -> int:
        """The module whose call that was."""
        return self._owners[call]

    def facts(self, paths: tuple[str, ...], specs: SpecTable) -> tuple[CallFacts, ...]:
        """The finished calls as records."""

        def all_of(seen: tuple[_Seen, ...]) -> tuple[Any, ...]:
            return tuple(specs.one((shape, dtype)) for shape, dtype, _ in seen)

        return tuple(
            CallFacts(
                path=paths[owner],
                phase=phase,
                inputs=all_of(inputs),
                inputs_need_grad=tuple(needs for _, _, needs in inputs),
                outputs=all_of(outputs),
                own_outputs=all_of(
                    tuple(out for out, is_own in zip(outputs, own or (True,) * len(outputs), strict=True) if is_own)
                ),
                times=self._times[index],
            )
            for ((owner, phase), inputs, outputs, own), index in self._calls.items()
        )

    def gradient_facts(self, paths: tuple[str, ...], specs: SpecTable) -> tuple[GradientFacts, ...]:
        """The gradients of inputs and outputs that arrived, as records."""
        calls = list(self._calls)
        facts = []
        for who, times in sorted(self._expected.arrived.items()):  # by call, then position
            index, kind, position = of_recipient(who)
            (owner, _), inputs, outputs, _ = calls[index]
            of: Literal["input", "output"] = "output" if kind == OUTPUT else "input"
            shape, dtype, _ = (outputs if kind == OUTPUT else inputs)[position]
            facts.append(GradientFacts(paths[owner], of, str(position), specs.one((shape, dtype)), times))
        return tuple(facts)
