"""The autograd graph, walked once as a backward pass begins: where gradients will arrive, and what was saved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor
from torch._C import DisableTorchFunctionSubclass
from torch.utils.hooks import RemovableHandle

from .attribution import NOBODY, SequenceTable
from .autograd import (
    NO_SEQUENCE_NUMBER,
    OUTSIDE_BACKWARD,
    call_when_pass_ends,
    keeps_graph,
    next_sequence_number,
)
from .expected import LIMIT, Arrivals, ExpectedGradients, leaf_place, note, place
from .garbage import no_garbage_collection
from .reach import Reach, reach
from .saved import SavedTensors


@dataclass(slots=True, eq=False)
class _Pass:
    """A backward pass: the nodes and saved storages that it has, and where its gradients arrive, from which nodes.

    `started` is the number that the next node had then: nodes with lower ones were there, with all that they saved.
    """

    kept: bool
    started: int
    seen: dict[int, int] = field(default_factory=dict)  # numbers of the nodes walked -> whose they are
    storages: set[int] = field(default_factory=set)  # identities of those found saved
    arrivals: Arrivals = field(default_factory=dict)
    parameters: dict[int, int] = field(default_factory=dict)  # identity -> the first node that gives its gradient

    def add(self, found: Reach) -> None:
        """A part of what the pass runs: it may be met in several, where its first nodes do no work of their own."""
        if not self.arrivals:
            self.arrivals, self.parameters = found.arrivals, found.parameters
            return
        for where, givers in found.arrivals.items():
            for giver in givers if isinstance(givers, list) else (givers,):
                note(self.arrivals, where, giver)
        for identity, giver in found.parameters.items():
            self.parameters.setdefault(identity, giver)

    def until(self, last: int) -> _Pass:
        """What had arrived when the pass failed at the node of that number: nodes run from the highest number down."""
        return _Pass(
            self.kept,
            self.started,
            self.seen,
            self.storages,
            {at: by for at, by in self.arrivals.items() if (max(by) if isinstance(by, list) else by) > last},
            {identity: giver for identity, giver in self.parameters.items() if giver > last},
        )


class GraphWalker:
    """Walks each graph once per backward pass.

    `parameters` are the identities of the model's parameters; `saved` gets the nodes of each walk.
    """

    def __init__(
        self,
        table: SequenceTable,
        expected: ExpectedGradients,
        owner_of_call: Callable[[int], int],
        parameters: Collection[int],
        saved: SavedTensors,
    ) -> None:
        self.parameter_gradients: dict[int, int] = {}  # identity of the parameter -> times
        self._table = table
        self._expected = expected
        self._owner_of_call = owner_of_call
        self._parameters = parameters
        self._saved = saved
        self._thread = threading.get_ident()
        self._task = OUTSIDE_BACKWARD
        self._handles: list[RemovableHandle] = []
        self._passes: dict[int, _Pass] = {}  # backward passes that have not ended, by graph task
        self.seen: dict[int, int] = {}  # numbers of the nodes walked in this backward pass -> whose they are
        self._kept: set[int] = set()  # numbers of nodes in kept graphs: their saved tensors are counted once

    @property
    def met_function_tensors(self) -> bool:
        """Whether a graph had saved tensors of the user's kinds that have a `__torch_function__`."""
        return self._saved.met_function_tensors

    def visit(self, node: Any, number: int, task: int) -> None:
        """Walk what hangs on `node`, unless this backward pass has walked it already (see `seen`)."""
        if task != self._task:
            self._task = task
            this = self._passes.get(task)  # a pass inside this one may have come between
            self.seen = {} if this is None else this.seen
        if number not in self.seen:
            self._walk(node, number)

    def _walk(self, root: Any, number: int) -> None:
        kept = keeps_graph()
        this = self._passes.get(self._task)
        if this is None:
            this = self._passes[self._task] = _Pass(kept, self._next_number(number), self.seen)
            call_when_pass_ends(partial(self._ended, self._task))
            self.seen[NO_SEQUENCE_NUMBER] = NOBODY  # the leaves
        # A node that was looked at keeps its Python object for as long as it lives (from torch 2.13 on): thousands at
        # once, none of them garbage, which would set off one full collection after the other.
        with no_garbage_collection(), DisableTorchFunctionSubclass():
            nodes = self._follow(root, number, this)
        if kept:
            if len(self._kept) > LIMIT:
                self._kept = set()
            self._kept.update(nodes)

    def _follow(self, root: Any, number: int, this: _Pass) -> Collection[int]:
        """The numbers of the nodes there are, when all that they lead to and have saved is noted."""
        found = reach(root, number, self._parameters)
        this.add(found)
        for node, position, giver in found.doubtful:
            self._ask(node, position, giver, this)
        owners = self._table.owners(sorted(found.nodes))
        self.seen.update(owners)
        around = [(each.started, each.storages) for each in self._passes.values() if each is not this]
        if self._kept:
            owners = {number: owner for number, owner in owners.items() if number not in self._kept}
        self._saved.collect(found.nodes, owners, this.storages, around)
        return found.nodes.keys()

    def _next_number(self, root: int) -> int:
        """The number that the next node will have. Devices' threads, which run their backward, number apart: there, one
        that it surely has reached."""
        if threading.get_ident() == self._thread:
            return next_sequence_number()
        return max(root + 1, self._table.last)

    def _ended(self, task: int) -> None:
        """The pass has run all of its nodes: its gradients have arrived."""
        this = self._passes.pop(task, None)
        if this is not None:
            self._book(this)
        if not self._passes:
            self._forget_questions()

    def _book(self, this: _Pass) -> None:
        self._saved.remember(this.started, this.storages)
        self._expected.arrive(this.arrivals, this.seen, self._owner_of_call, kept=this.kept)
        gradients = self.parameter_gradients
        for identity in this.parameters:
            gradients[identity] = gradients.get(identity, 0) + 1

    def finish(self, last: int) -> None:
        """A pass that has not ended by now failed at the node numbered `last`."""
        for this in self._passes.values():
            self._book(this.until(last))
        self._passes.clear()
        self._forget_questions()

    def _ask(self, node: Any, position: int, giver: int, this: _Pass) -> None:
        """Have the node itself say whether a gradient arrives from a custom function."""
        number = node._sequence_nr()
        if number != NO_SEQUENCE_NUMBER:
            arrived: Callable[[], Any] = partial(note, this.arrivals, place(number, position), giver)
        elif id(node.variable) in self._parameters:
            arrived = partial(this.parameters.setdefault, id(node.variable), giver)
        else:
            arrived = partial(note, this.arrivals, leaf_place(node.variable), giver)
        self._handles.append(node.register_prehook(partial(_answered, arrived, position)))

    def _forget_questions(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _answered(arrived: Callable[[], Any], position: int, gradients: tuple[Tensor | None, ...]) -> None:
    if gradients[position] is not None:
        arrived()
