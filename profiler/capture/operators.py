"""Operators, where the dispatcher sees them: each counted by signature, for the module and phase it belongs to."""

from __future__ import annotations

from collections import Counter
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

from ..records import Argument, Phase, Signature
from .attribution import BEFORE, NOBODY, SequenceTable
from .autograd import (
    NO_SEQUENCE_NUMBER,
    OUTSIDE_BACKWARD,
    current_graph_task,
    current_node,
    next_sequence_number,
)
from .modules import CallRecorder
from .tensors import SpecTable, tensors_in

Slot = tuple[int, Phase]

_OUTSIDE: Slot = (NOBODY, "outside")
_LOSS: Slot = (NOBODY, "loss")
_OPTIMIZER: Slot = (NOBODY, "optimizer")

# Autograd sums gradients that meet with these, while the node that gave the later one is still current.
_GRADIENT_SUMS = frozenset({"aten.add.Tensor", "aten.add_.Tensor"})


class OperatorRecorder(TorchDispatchMode):
    """Counts operators by (owner, phase) and signature. `ignored` says by name which are not worth recording."""

    supports_higher_order_operators = True

    def __init__(
        self,
        calls: CallRecorder,
        table: SequenceTable,
        specs: SpecTable,
        parameter_owner: dict[int, int],
        ignored: Callable[[str], bool],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.signatures: list[Signature] = []
        self.counts: Counter[tuple[Slot, int]] = Counter()
        self._calls = calls
        self._table = table
        self._specs = specs
        self._parameter_owner = parameter_owner
        self._ignored = ignored
        self._names: dict[Any, str] = {}  # operator -> its name, "" for ignored ones
        self._known: dict[Any, int] = {}  # what a call looks like -> its signature's index
        self._optimizing = 0
        self._in_backward = False
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
        name = self._names.get(func)
        if name is None:
            name = self._meet(func)
        if name == "":
            if self._in_backward and torch.is_grad_enabled():
                self._where(name, args)  # it may make nodes of a second-order graph
            return func(*args, **kwargs) if kwargs else func(*args)
        if torch.is_inference_mode_enabled() and isinstance(func, torch._ops.OpOverload):
            # Composite operators are not taken apart before they get here, as they otherwise are.
            with self:
                result = func.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        slot = self._where(name, args)
        result = func(*args, **kwargs) if kwargs else func(*args)
        key = (func, _look(args), _look(result), _look(tuple(kwargs.items())) if kwargs else None)
        index = self._known.get(key)
        if index is None:
            index = self._known[key] = len(self.signatures)
            self.signatures.append(self._describe(name, args, kwargs or {}, result))
        self.counts[slot, index] += 1
        return result

    def _meet(self, func: Any) -> str:
        name = str(func)
        self._names[func] = name = "" if self._ignored(name) else name
        return name

    def _where(self, name: str, args: Any) -> Slot:
        """Whose work the operator about to run is."""
        task = current_graph_task()
        stack = self._calls.stack
        if task == OUTSIDE_BACKWARD:
            if self._in_backward:
                self._leave_backward()
            if stack:
                return stack[-1].owner, stack[-1].phase
            if self._optimizing:
                return _OPTIMIZER
            return _LOSS if any(tensor.requires_grad for tensor in tensors_in(args)) else _OUTSIDE
        if stack and stack[-1].task == task:
            return stack[-1].owner, stack[-1].phase
        node = current_node()
        if node is None:
            return _OUTSIDE
        number = node._sequence_nr()
        if number == NO_SEQUENCE_NUMBER:
            return self._accumulating(node)
        if number != self._number or not self._in_backward:
            self._enter_node(number)
        if name in _GRADIENT_SUMS and _is_gradient_sum(node, args):
            return self._slot[0], "accumulation"
        return self._slot

    def _enter_node(self, number: int) -> None:
        owner = self._table.owner(number)
        self._in_backward = True
        self._number = number
        self._slot = _LOSS if owner == NOBODY else _OUTSIDE if owner == BEFORE else (owner, "backward")
        if torch.is_grad_enabled():  # nodes of a second-order graph belong to whoever made this node
            self._table.push(next_sequence_number(), owner)

    def _leave_backward(self) -> None:
        self._in_backward = False
        stack = self._calls.stack
        self._table.push(next_sequence_number(), stack[-1].owner if stack else NOBODY)

    def _accumulating(self, node: Any) -> Slot:
        variable = getattr(node, "variable", None)
        return self._parameter_owner.get(id(variable), NOBODY), "accumulation"

    def _describe(self, name: str, args: Any, kwargs: dict[str, Any], result: Any) -> Signature:
        return Signature(
            operator=name,
            arguments=tuple(self._argument(value) for value in args),
            keywords={key: self._argument(value) for key, value in kwargs.items()},
            outputs=tuple(self._specs.of(tensor) for tensor in tensors_in(result)),
        )

    def _argument(self, value: Any) -> Argument:
        if isinstance(value, Tensor):
            return self._specs.of(value)
        if isinstance(value, (list, tuple)):
            return tuple(self._argument(item) for item in value)
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return None
        return str(value)


def _look(value: Any) -> Any:
    """What a price can depend on, hashable and cheap. Floats are left out: they change from step to step."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    kind = type(value)
    if kind is tuple or kind is list:
        return tuple([_look(item) for item in value])
    if kind is float:
        return None
    return value if kind in _PLAIN else kind.__name__


_PLAIN = frozenset({int, bool, str, type(None), torch.dtype, torch.layout, torch.memory_format, torch.device})


def _is_gradient_sum(node: Any, args: Any) -> bool:
    """Two tensors of one shape added while a built-in node is current: no built-in derivative of a layer does that,
    but the engine does where gradients meet. A custom function's own backward may, and keeps its work."""
    if len(args) != 2 or isinstance(node, torch.autograd.function.BackwardCFunction):
        return False
    first, second = args
    return isinstance(first, Tensor) and isinstance(second, Tensor) and first.shape == second.shape
