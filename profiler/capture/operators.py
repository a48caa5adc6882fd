"""Operators, where the dispatcher sees them: each counted by signature, for the module and phase it belongs to.

This runs at every operator of the user's step. A call is looked up by what a price can depend on (operator, shapes,
dtypes, integer settings); only the first of its kind is described.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from ..records import Argument, OperatorFacts, Signature
from .attribution import NOBODY, SequenceTable
from .autograd import (
    NO_SEQUENCE_NUMBER,
    OUTSIDE_BACKWARD,
    current_graph_task,
    current_node,
    next_sequence_number,
)
from .graph import GraphWalker
from .modules import CallRecorder, Slot
from .tensors import SpecTable, look, tensors_in

_OUTSIDE: Slot = (NOBODY, "outside")
_LOSS: Slot = (NOBODY, "loss")
_OPTIMIZER: Slot = (NOBODY, "optimizer")

# Autograd sums gradients that meet with these, while the node that gave the later one is still current.
_GRADIENT_SUMS = frozenset({"aten.add.Tensor", "aten.add_.Tensor"})

_TENSORS = frozenset({torch.Tensor, torch.nn.Parameter})
_PLAIN = frozenset({int, bool, str, type(None), torch.dtype, torch.layout, torch.memory_format, torch.device})

# What asking a nested tensor for its shape raises, by layout.
_Nested = (RuntimeError, TypeError)

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd

_FREE = ""  # instead of the name of an operator that is not recorded


class OperatorRecorder(TorchDispatchMode):
    """Counts operators by (owner, phase) and signature. `ignored` says by name which are not worth recording."""

    supports_higher_order_operators = True

    def __init__(
        self,
        calls: CallRecorder,
        table: SequenceTable,
        walker: GraphWalker,
        parameter_owner: dict[int, int],
        ignored: Callable[[str], bool],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls = calls
        self._stack = calls.stack
        self._table = table
        self._walker = walker
        self._parameter_owner = parameter_owner
        self._ignored = ignored
        self._specs = SpecTable()
        self._names: dict[int, str] = {}
        self._signatures: list[Signature] = []
        self._known: dict[tuple[Any, ...], int] = {}  # what a call looks like -> its signature's index
        self._slots: dict[Slot, dict[int, int]] = {}  # -> signature's index -> times
        self._optimizing = 0
        self.second_order = False  # whether a backward pass made a graph of its own
        self._task = OUTSIDE_BACKWARD  # the backward pass last seen
        self._pass = OUTSIDE_BACKWARD  # the one last walked
        self._number = -1  # of the autograd node last looked up ...
        self._slot: Slot = _OUTSIDE  # ... and where its work goes

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
        name = self._names.get(id(func))  # operators are slow to hash, and live as long as the process
        if name is None:
            name = self._meet(func)
        task = current_graph_task()
        if name is _FREE:
            if task != OUTSIDE_BACKWARD or self._task != OUTSIDE_BACKWARD:
                self._pass_by(task, name, args)
            return func(*args, **kwargs) if kwargs else func(*args)
        stack = self._stack
        simple = stack and task == self._task == OUTSIDE_BACKWARD
        slot = stack[-1].slot if simple else self._where(task, name, args)
        if torch.is_inference_mode_enabled():
            # Composite operators are not taken apart before they get here, as they otherwise are.
            result = self._taken_apart(func, args, kwargs or {})
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs) if kwargs else func(*args)
        self._count(slot, name, args, kwargs, result)
        return result

    def _meet(self, func: Any) -> str:
        """The operator's name, or _FREE."""
        name = str(func)
        self._names[id(func)] = name = _FREE if self._ignored(name) else name
        return name

    def _taken_apart(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """By PyTorch's own composite kernel; its decompositions in Python would do other work."""
        if not isinstance(func, torch._ops.OpOverload):
            return NotImplemented
        if not torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE):
            return NotImplemented
        with self:
            return func._op_dk(_COMPOSITE, *args, **kwargs)

    def _count(self, slot: Slot, name: str, args: Any, kwargs: dict[str, Any] | None, result: Any) -> None:
        try:
            key = _key(name, args, kwargs, result)
        except _Nested:
            name = f"nested tensors: {name}"
            key = (name,)
        index = self._known.get(key)
        if index is None:
            index = self._known[key] = len(self._signatures)
            self._signatures.append(self._describe(name, args, kwargs or {}, result))
        counts = self._slots.get(slot)
        if counts is None:
            counts = self._slots[slot] = {}
        counts[index] = counts.get(index, 0) + 1

    # Whose work is it? ------------------------------------------------------------------------------------------------

    def _where(self, task: int, name: str, args: Any) -> Slot:
        if task != OUTSIDE_BACKWARD:
            return self._in_backward(task, name, args)
        if self._task != OUTSIDE_BACKWARD:
            self._leave_backward()
        stack = self._stack
        if stack:
            return stack[-1].slot
        if self._optimizing:
            return _OPTIMIZER
        return _LOSS if any(tensor.requires_grad for tensor in tensors_in(args)) else _OUTSIDE

    def _pass_by(self, task: int, name: str, args: Any) -> None:
        """A free operator: it matters where backward begins or ends, and where it may make nodes of its own."""
        node = current_node()
        known = node is not None and task == self._task and node._sequence_nr() in self._walker.seen
        if not known or torch.is_grad_enabled():
            self._where(task, name, args)

    def _in_backward(self, task: int, name: str, args: Any) -> Slot:
        stack = self._stack
        if stack and stack[-1].task == task:  # a module called inside backward
            return stack[-1].slot
        node = current_node()
        if node is None:
            return _OUTSIDE
        number = node._sequence_nr()
        if number == NO_SEQUENCE_NUMBER:
            self._task = task
            return self._parameter_owner.get(id(getattr(node, "variable", None)), NOBODY), "accumulation"
        if number != self._number or task != self._task:
            self._enter_node(node, number, task)
        if name in _GRADIENT_SUMS and _is_gradient_sum(node, args):
            return self._slot[0], "accumulation"
        return self._slot

    def _enter_node(self, node: Any, number: int, task: int) -> None:
        owner = self._table.owner(number)
        self._task = task
        self._number = number
        self._slot = (owner, "backward") if owner >= 0 else _LOSS if owner == NOBODY else _OUTSIDE
        if task != self._pass or number not in self._walker.seen:
            self._pass = task
            self._walker.visit(node, number, task)
        if torch.is_grad_enabled():  # nodes of a second-order graph belong to whoever made this node
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
        self._table.push(next_sequence_number(), stack[-1].slot[0] if stack else NOBODY)

    # Facts ------------------------------------------------------------------------------------------------------------

    def _describe(self, name: str, args: Any, kwargs: dict[str, Any], result: Any) -> Signature:
        return Signature(
            operator=name,
            arguments=tuple(self._argument(value) for value in args),
            keywords={key: self._argument(value) for key, value in kwargs.items()},
            outputs=tuple(self._specs.of(tensor) for tensor in tensors_in(result)),
        )

    def _argument(self, value: Any) -> Argument:
        if isinstance(value, Tensor):
            return "nested tensor" if value.is_nested else self._specs.of(value)
        if isinstance(value, (list, tuple)):
            return tuple(self._argument(item) for item in value)
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return None
        return str(value)

    def facts(self, paths: tuple[str, ...]) -> tuple[OperatorFacts, ...]:
        """The operators, as records; work of no module has the path ""."""
        return tuple(
            OperatorFacts(paths[owner] if owner >= 0 else "", phase, self._signatures[index], times)
            for (owner, phase), counts in self._slots.items()
            for index, times in counts.items()
        )


def _key(name: str, args: Any, kwargs: dict[str, Any] | None, result: Any) -> tuple[Any, ...]:
    """What a call looks like. Raises one of `_Nested` for a tensor that has no shape."""
    parts = [
        (value.shape, value.dtype) if type(value) in _TENSORS else value if type(value) in _PLAIN else _look(value)
        for value in args
    ]
    parts.append((result.shape, result.dtype) if type(result) is Tensor else _look(result))
    if kwargs:
        parts.append(_look(tuple(kwargs.items())))
    return name, *parts


def _look(value: Any) -> Any:
    """What a price can depend on, hashable and cheap. Floats are left out: they change from step to step."""
    if isinstance(value, Tensor):
        if value.is_nested:
            raise TypeError("a nested tensor has no shape")
        return look(value)
    kind = type(value)
    if kind is tuple or kind is list:
        return tuple([_look(item) for item in value])
    return value if kind in _PLAIN else kind


def _is_gradient_sum(node: Any, args: Any) -> bool:
    """Two tensors of one shape added while a built-in node is current: no built-in derivative of a layer does that,
    but the engine does where gradients meet. A custom function's own backward may, and keeps its work."""
    if len(args) != 2 or isinstance(node, torch.autograd.function.BackwardCFunction):
        return False
    first, second = args
    return isinstance(first, Tensor) and isinstance(second, Tensor) and first.shape == second.shape
