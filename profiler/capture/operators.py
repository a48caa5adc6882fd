"""Operators, where the dispatcher sees them: each counted by signature, for the module and phase it belongs to.

This runs at every operator of the user's step. A call is looked up by what a price can depend on (operator, shapes,
dtypes, integer settings); only the first of its kind is described.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, is_grad_enabled, is_inference_mode_enabled
from torch._C import DisableTorchFunctionSubclass
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from .attribution import BEFORE, NOBODY, SequenceTable, Slot, Slots
from .autograd import (
    NO_SEQUENCE_NUMBER,
    OUTSIDE_BACKWARD,
    current_graph_task,
    current_node,
    next_sequence_number,
)
from .graph import GraphWalker
from .modules import CallRecorder
from .signatures import LIMIT, Operator, Signatures, looks_like
from .tensors import tensors_in

is_torch_function_enabled: Callable[[], bool] = torch._C._is_torch_function_enabled

# Autograd sums gradients that meet with these, while the node that gave the later one is still current.
_GRADIENT_SUMS = frozenset({"aten.add.Tensor", "aten.add_.Tensor"})


class OperatorRecorder(TorchDispatchMode):
    """Counts operators by (owner, phase) and signature. `ignored` says by name which are not worth recording."""

    supports_higher_order_operators = True

    def __init__(
        self,
        calls: CallRecorder,
        slots: Slots,
        table: SequenceTable,
        walker: GraphWalker,
        parameter_owner: dict[int, int],
        ignored: Callable[[str], bool],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stack = calls.stack
        self._slots = slots
        self._outside = slots.of(NOBODY, "outside")
        # Where the work of a node goes, by the owner of the node.
        self._backward = {NOBODY: slots.of(NOBODY, "loss"), BEFORE: self._outside}
        self._table = table
        self._walker = walker
        self._parameter_owner = parameter_owner
        self._ignored = ignored
        # By identity: operators are slow to hash, and live as long as the process.
        self._operators: dict[int, Operator] = {}
        self.signatures = Signatures()
        # Whether backward meets tensors of the user's kinds that hear what is called with them, `__torch_function__`:
        # autograd calls operators beneath that, and so must we.
        self._hears = False
        self._optimizing = 0
        self.second_order = False  # whether a backward pass made a graph of its own
        self._task = OUTSIDE_BACKWARD  # the backward pass last seen
        self._pass = OUTSIDE_BACKWARD  # the one last walked
        self._number = -1  # of the autograd node last looked up ...
        self._slot = self._outside  # ... and where its work goes

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else every dispatch imports and consults torch._dynamo

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True

    def install(self, exits: ExitStack) -> None:
        """Become the active mode and follow optimizer steps; `exits` undoes both."""
        exits.callback(register_optimizer_step_pre_hook(self._step_begins).remove)
        exits.callback(register_optimizer_step_post_hook(self._step_ends).remove)
        exits.enter_context(self)

    def _step_begins(self, *_: Any) -> None:
        self._optimizing += 1

    def _step_ends(self, *_: Any) -> None:
        self._optimizing -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        operator = self._operators.get(id(func))
        if operator is None:
            operator = self._meet(func)
        task = current_graph_task()
        if operator.free:
            # It matters where backward begins or ends, and where it may make nodes of its own.
            if task == OUTSIDE_BACKWARD:
                if self._task != OUTSIDE_BACKWARD:
                    self._leave_backward()
            elif (
                task != self._pass
                or (node := current_node()) is None
                or (
                    (number := node._sequence_nr()) != self._number
                    and (number not in self._walker.seen or is_grad_enabled())
                )
            ):
                self._in_backward(task, operator, args)
            if self._hears and is_torch_function_enabled():
                return self._unheard(func, types, args, kwargs)
            return operator.func(*args, **kwargs) if kwargs else operator.run(*args)
        if task != OUTSIDE_BACKWARD:
            slot = self._in_backward(task, operator, args)
        elif self._stack and self._task == OUTSIDE_BACKWARD:
            slot = self._stack[-1].slot
        else:
            slot = self._outside_backward(args)
        if self._hears and is_torch_function_enabled():
            return self._unheard(func, types, args, kwargs)
        if operator.composite and is_inference_mode_enabled():
            with self:
                return operator.taken_apart(*args, **kwargs or {})
        result = operator.func(*args, **kwargs) if kwargs else operator.run(*args)
        key = looks_like(args, kwargs, None if operator.determined else result)
        tally = operator.tallies.get(key)
        if tally is None:
            tally = self.signatures.add(operator, key, args, kwargs, result)
        tally.append(slot)
        if len(tally) >= LIMIT:
            self.signatures.sum_up()
        return result

    def _unheard(self, *call: Any) -> Any:
        with DisableTorchFunctionSubclass():
            return self.__torch_dispatch__(*call)

    def _meet(self, func: Any) -> Operator:
        name = str(func)
        operator = self._operators[id(func)] = Operator(
            func, name, free=self._ignored(name), sums=name in _GRADIENT_SUMS
        )
        return operator

    # Whose work is it? ------------------------------------------------------------------------------------------------

    def _outside_backward(self, args: Any) -> Slot:
        if self._task != OUTSIDE_BACKWARD:
            self._leave_backward()
        if self._stack:
            return self._stack[-1].slot
        if self._optimizing:
            return self._slots.of(NOBODY, "optimizer")
        wanted = any(tensor.requires_grad for tensor in tensors_in(args))
        return self._slots.of(NOBODY, "loss") if wanted else self._outside

    def _in_backward(self, task: int, operator: Operator, args: Any) -> Slot:
        stack = self._stack
        if stack and stack[-1].task == task:  # a module called inside backward
            return stack[-1].slot
        node = current_node()
        if node is None:
            return self._outside
        number = node._sequence_nr()
        if number == NO_SEQUENCE_NUMBER:
            self._task = task
            owner = self._parameter_owner.get(id(getattr(node, "variable", None)), NOBODY)
            return self._slots.of(owner, "accumulation")
        if number != self._number or task != self._task:
            self._enter_node(node, number, task)
        if operator.sums and _is_gradient_sum(node, args):
            return self._slots.of(self._slot.owner, "accumulation")
        return self._slot

    def _enter_node(self, node: Any, number: int, task: int) -> None:
        self._task = task
        self._number = number
        if task != self._pass or number not in self._walker.seen:
            self._pass = task
            self._walker.visit(node, number, task)
            self._hears = self._walker.met_function_tensors
        owner = self._walker.seen[number]
        slot = self._backward.get(owner)
        if slot is None:
            slot = self._backward[owner] = self._slots.of(owner, "backward")
        self._slot = slot
        if is_grad_enabled():  # nodes of a second-order graph belong to whoever made this node
            self._table.push(next_sequence_number(), owner)
            self.second_order = True

    def finish(self) -> None:
        """The block has ended: so has any backward pass in it."""
        if self._task != OUTSIDE_BACKWARD:
            self._leave_backward()

    def _leave_backward(self) -> None:
        self._walker.finish(self._number)
        self._task = OUTSIDE_BACKWARD
        self._number = -1
        stack = self._stack
        self._table.push(next_sequence_number(), stack[-1].slot.owner if stack else NOBODY)


def _is_gradient_sum(node: Any, args: Any) -> bool:
    """Two tensors of one shape added while a built-in node is current: no built-in derivative of a layer does that,
    but the engine does where gradients meet. A custom function's own backward may, and keeps its work."""
    if len(args) != 2 or isinstance(node, torch.autograd.function.BackwardCFunction):
        return False
    first, second = args
    return isinstance(first, Tensor) and isinstance(second, Tensor) and first.shape == second.shape
