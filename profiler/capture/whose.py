"""Whose work is going on, at any moment of a replayed step: also when nothing is dispatched, as when memory dies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ..records import Phase
from .attribution import NOBODY, SequenceTable
from .autograd import NO_SEQUENCE_NUMBER, OUTSIDE_BACKWARD, current_graph_task, current_node, next_sequence_number
from .tensors import tensors_in

Work: TypeAlias = tuple[int, Phase]
"""Whose, by the module's place among all (NOBODY: of none), and in which phase."""

OUTSIDE: Work = (NOBODY, "outside")


class Whose:
    """Follows the calls of the model's modules, and through autograd's numbers their backward.

    `given` is told of every tensor that the model is given.
    """

    def __init__(self, model: nn.Module, given: Callable[[Tensor], None]) -> None:
        self.optimizers: dict[int, Optimizer] = {}  # those that made a step
        self._owners = {id(module): owner for owner, module in enumerate(model.modules())}
        self._given = given
        self._table = SequenceTable()
        self._open: list[tuple[Work, int]] = []  # calls, each with the backward pass that it is made in
        self._between: Phase = "outside"  # what happens outside any call, node or optimizer
        self._optimizing = 0
        self._latest = NOBODY  # whose backward ran last
        self._task = OUTSIDE_BACKWARD

    def install(self, exits: ExitStack) -> None:
        """Follow calls and optimizers; `exits` takes it back."""
        self._table.push(next_sequence_number(), NOBODY)
        exits.callback(register_optimizer_step_pre_hook(self._step_begins).remove)
        exits.callback(register_optimizer_step_post_hook(self._step_ends).remove)
        exits.callback(torch_modules.register_module_forward_pre_hook(self._enter).remove)
        handle = torch_modules.register_module_forward_hook(self._leave, with_kwargs=True, always_call=True)
        exits.callback(torch_modules._global_forward_hooks_with_kwargs.pop, handle.id, None)  # its handle forgets this
        exits.callback(handle.remove)

    def __call__(self) -> Work:
        """The module and the phase."""
        task = current_graph_task()
        if task != self._task:
            if task == OUTSIDE_BACKWARD:
                self._between = "outside"
            self._task = task
        if self._open and self._open[-1][1] == task:
            return self._open[-1][0]
        node = None if task == OUTSIDE_BACKWARD else current_node()
        if node is not None:
            return self._in_node(node._sequence_nr())
        if self._optimizing:
            return NOBODY, "optimizer"
        return NOBODY, self._between

    def _in_node(self, number: int) -> Work:
        if number == NO_SEQUENCE_NUMBER:
            return self._latest, "accumulation"
        owner = self._table.owner(number)
        self._latest = max(owner, NOBODY)
        return self._latest, "backward" if owner >= 0 else "loss" if owner == NOBODY else "outside"

    def _enter(self, module: nn.Module, args: Any) -> None:
        owner = self._owners.get(id(module))
        if owner is None:
            return
        task = current_graph_task()
        if not self._open and task == OUTSIDE_BACKWARD:
            for tensor in tensors_in(args):
                self._given(tensor)
        self._open.append(((owner, "forward" if task == OUTSIDE_BACKWARD else "recompute"), task))
        self._table.push(next_sequence_number(), owner)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, result: Any = None) -> None:
        owner = self._owners.get(id(module))
        if not any(work[0] == owner for work, _ in self._open):
            return
        while self._open.pop()[0][0] != owner:  # calls inside that ended without saying so
            pass
        self._table.push(next_sequence_number(), self._open[-1][0][0] if self._open else NOBODY)
        if not self._open and current_graph_task() == OUTSIDE_BACKWARD:
            for tensor in tensors_in(kwargs):
                self._given(tensor)
            self._task = OUTSIDE_BACKWARD
            self._between = "loss" if any(tensor.requires_grad for tensor in tensors_in(result)) else "outside"

    def _step_begins(self, *_: Any) -> None:
        self._optimizing += 1

    def _step_ends(self, optimizer: Optimizer, *_: Any) -> None:
        self._optimizing -= 1
        self.optimizers.setdefault(id(optimizer), optimizer)
