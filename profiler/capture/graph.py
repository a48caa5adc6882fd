"""The autograd graph, walked once as a backward pass begins: what it has saved, and where gradients will arrive.

Reading `next_functions` and the raw saved variables dispatches nothing, keeps nothing alive and leaves autograd's
check of in-place changes on, which saved-tensor hooks would turn off.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils.checkpoint import _Holder
from torch.utils.hooks import RemovableHandle

from ..records import Phase, SavedFacts, SavedRole
from .attribution import BEFORE, NOBODY, SequenceTable
from .autograd import (
    NO_SEQUENCE_NUMBER,
    OUTSIDE_BACKWARD,
    call_when_pass_ends,
    keeps_graph,
    next_sequence_number,
    will_execute,
)
from .expected import LIMIT, PLACES, Arrivals, ExpectedGradients, leaf_place, place
from .tensors import SpecTable, tensors_in

_PREFIX = "_raw_saved_"
_FACTOR = f"{_PREFIX}other"
_STATISTICS = frozenset({"result1", "result2", "mean", "rstd", "save_mean", "save_var", "save_invstd", "logsumexp"})
_MASKS = frozenset({"mask", "noise"})
_RESULTS = frozenset({"result", "result0", "output", "out", "values"})

# A Python number in a formula (x * 0.5) is kept as a tensor without dimensions that gives way to any other in type
# promotion: here to these, of which each is narrower than the dtype that it stands for.
_NARROWER = {torch.float64: torch.float32, torch.int64: torch.int32, torch.complex128: torch.complex64}

_PACKED = "tensors packed by a saved-tensors hook"
_CHECKPOINTED = f"{_PACKED} (activation checkpointing)"

# Owner, whether in a recomputed call, autograd's name for it, shape, dtype, and the storage's bytes.
_Saved = tuple[int, bool, str, torch.Size, torch.dtype, int]

_PASSES = 8  # that have ended and are remembered


@dataclass(slots=True, eq=False)
class _Pass:
    """A backward pass: the nodes and saved storages that it has, and where its gradients arrive, from which nodes.

    `started` is the number that the next node had then: nodes with lower ones were there, with all that they saved.
    """

    kept: bool
    started: int
    seen: set[int] = field(default_factory=set)  # numbers of the nodes walked
    storages: set[int] = field(default_factory=set)  # identities of those found saved
    arrivals: Arrivals = field(default_factory=dict)
    parameters: dict[int, int] = field(default_factory=dict)  # identity -> the first node that gives its gradient

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

    `parameters` are the identities of the model's parameters, `storages` those of the storages that hold parameters and
    buffers, which are not counted as saved. `dropouts` are the owners that drop elements out: what they multiply by is
    a mask, whatever its dtype.
    """

    def __init__(
        self,
        table: SequenceTable,
        expected: ExpectedGradients,
        owner_of_call: Callable[[int], int],
        parameters: Collection[int],
        storages: set[int],
        dropouts: Collection[int] = (),
    ) -> None:
        self.parameter_gradients: dict[int, int] = {}  # identity of the parameter -> times
        self._table = table
        self._expected = expected
        self._owner_of_call = owner_of_call
        self._parameters = parameters
        self._held = storages
        self._dropouts = dropouts
        self._attributes: dict[type, tuple[str, ...]] = {}
        self._counts: dict[_Saved, int] = {}
        self._unreadable: dict[tuple[int, str], int] = {}  # owner and what -> times
        self._thread = threading.get_ident()
        self._task = OUTSIDE_BACKWARD
        self._handles: list[RemovableHandle] = []
        self._passes: dict[int, _Pass] = {}  # backward passes that have not ended, by graph task
        self.seen: set[int] = set()  # numbers of the nodes walked in this backward pass
        self._ended_passes: deque[tuple[int, set[int]]] = deque(maxlen=_PASSES)  # when each started, and its storages
        self._kept: set[int] = set()  # numbers of nodes in kept graphs: their saved tensors are counted once

    def visit(self, node: Any, number: int, task: int) -> None:
        """Walk what hangs on `node`, unless this backward pass has walked it already (see `seen`)."""
        if task != self._task:
            self._task = task
            this = self._passes.get(task)  # a pass inside this one may have come between
            self.seen = set() if this is None else this.seen
        if number not in self.seen:
            self._walk(node, number)

    def _walk(self, root: Any, number: int) -> None:
        kept = keeps_graph()
        this = self._passes.get(self._task)
        if this is None:
            this = self._passes[self._task] = _Pass(kept, self._next_number(number), self.seen)
            call_when_pass_ends(partial(self._ended, self._task))
        nodes = self._reachable(root, number, this)
        self._collect(nodes, this)
        if kept:
            if len(self._kept) > LIMIT:
                self._kept = set()
            self._kept.update(nodes)

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
        if this.storages:
            self._ended_passes.append((this.started, this.storages))
        self._expected.arrive(this.arrivals, self._table.owner, self._owner_of_call, kept=this.kept)
        gradients = self.parameter_gradients
        for identity in this.parameters:
            gradients[identity] = gradients.get(identity, 0) + 1

    def finish(self, last: int) -> None:
        """A pass that has not ended by now failed at the node numbered `last`."""
        for this in self._passes.values():
            self._book(this.until(last))
        self._passes.clear()
        self._forget_questions()

    def _reachable(self, root: Any, number: int, this: _Pass) -> dict[int, Any]:
        """The nodes that this backward pass will run, by number; adds where gradients will arrive, from which nodes.

        A pass may be walked in several parts, where its first nodes do no work of their own and so are not seen.
        """
        nodes: dict[int, Any] = {number: root}
        arrivals, parameters, own = this.arrivals, this.parameters, self._parameters
        arrivals.setdefault(place(number, 0), number)
        skipped: set[Any] = set()
        met, waiting = {root}, [root]
        while waiting:
            node = waiting.pop()
            giver = node._sequence_nr()
            doubtful = isinstance(node, BackwardCFunction)  # may return None for a gradient, as no other node does
            for following, position in node.next_functions:
                if following is None or following in skipped:
                    continue
                number = following._sequence_nr()
                if following not in met:
                    if not _runs(following):
                        skipped.add(following)
                        continue
                    met.add(following)
                    if number != NO_SEQUENCE_NUMBER:
                        waiting.append(following)
                        nodes[number] = following
                if doubtful:
                    self._ask(following, number, position, giver)
                    continue
                if number != NO_SEQUENCE_NUMBER:
                    where = number * PLACES + position
                elif (identity := id(following.variable)) in own:
                    parameters.setdefault(identity, giver)
                    continue
                else:
                    where = leaf_place(following.variable)
                others = arrivals.get(where)
                if others is None:
                    arrivals[where] = giver
                elif isinstance(others, list):
                    others.append(giver)
                else:
                    arrivals[where] = [others, giver]
        self.seen.update(nodes)
        return nodes

    def _ask(self, node: Any, number: int, position: int, giver: int) -> None:
        """Have the node itself say whether a gradient arrives from a custom function."""
        answer = _Pass(keeps_graph(), 0)
        if number != NO_SEQUENCE_NUMBER:
            answer.arrivals[place(number, position)] = giver
        elif id(node.variable) in self._parameters:
            answer.parameters[id(node.variable)] = giver
        else:
            answer.arrivals[leaf_place(node.variable)] = giver
        self._handles.append(node.register_prehook(partial(self._answered, answer, position)))

    def _answered(self, answer: _Pass, position: int, gradients: tuple[Tensor | None, ...]) -> None:
        if gradients[position] is not None:
            self._book(answer)

    def _forget_questions(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _collect(self, nodes: dict[int, Any], this: _Pass) -> None:
        """Give each storage to the first node, in forward order, that saved it. No unpacking hook is run.

        Two nodes that were there when a pass started share what both saved, though the second is walked in a later one.
        """
        attributes, kept = self._attributes, self._kept
        around = [each for each in self._passes.values() if each is not this]
        recomputed_from = min((each.started for each in around), default=NO_SEQUENCE_NUMBER)
        lowest = min(nodes)
        passes = (*self._ended_passes, *((each.started, each.storages) for each in around))
        earlier = [(started, storages) for started, storages in passes if started > lowest]
        for number in sorted(nodes):
            if number in kept:
                continue
            shared = [storages for started, storages in earlier if started > number] if earlier else []
            node = nodes[number]
            kind = type(node)
            names = attributes.get(kind)
            if names is None:
                names = attributes[kind] = tuple(name for name in dir(node) if name.startswith(_PREFIX))
            if names:
                self._collect_from(node, number, names, this.storages, shared, number >= recomputed_from)
            elif kind.__name__ == "CopySlices":
                self._cannot_read(number, "what an in-place write into a view saved (CopySlices)")
            if isinstance(node, BackwardCFunction) and self._keeps_attributes(node, this.storages):
                self._cannot_read(number, f"what {kind.__name__} keeps as attributes")

    def _collect_from(
        self,
        node: Any,
        number: int,
        names: tuple[str, ...],
        storages: set[int],
        shared: Collection[set[int]],
        recomputed: bool,
    ) -> None:
        held = self._held
        try:
            for name in names:
                raw = getattr(node, name)
                for variable in raw if type(raw) is tuple or type(raw) is list else (raw,):
                    data = None if variable is None else variable.data
                    if data is None:
                        continue
                    if not isinstance(data, Tensor):
                        self._cannot_read(number, _CHECKPOINTED if isinstance(data, _Holder) else _PACKED)
                        continue
                    if not data.ndim and _is_number(data):
                        continue
                    storage = data.untyped_storage()
                    identity = storage._cdata
                    if identity not in storages and identity not in held:
                        storages.add(identity)
                        if shared and any(identity in others for others in shared):
                            continue
                        key = (self._table.owner(number), recomputed, name, data.shape, data.dtype, storage.nbytes())
                        self._counts[key] = self._counts.get(key, 0) + 1
        except (RuntimeError, NotImplementedError):  # released already; or sparse, opaque, functorch tensors
            self._cannot_read(number, f"the saved tensors of {node.name()}")

    def _keeps_attributes(self, node: Any, storages: set[int]) -> bool:
        """Whether a custom function keeps tensors besides those that autograd saved for it. Called after those."""
        held = self._held
        for value in vars(node).values():
            for tensor in tensors_in(value):
                identity = tensor.untyped_storage()._cdata
                if identity not in storages and identity not in held:
                    return True
        return False

    def _cannot_read(self, number: int, what: str) -> None:
        key = (self._table.owner(number), what)
        self._unreadable[key] = self._unreadable.get(key, 0) + 1

    def facts(self, paths: tuple[str, ...], specs: SpecTable) -> tuple[SavedFacts, ...]:
        """What was saved, as records; a storage of the loss, or of other work, has no path of a module."""
        return tuple(
            SavedFacts(
                path=paths[owner] if owner >= 0 else "",
                phase="recompute" if recomputed and owner >= 0 else _phase(owner),
                role="mask" if owner in self._dropouts and name == _FACTOR else _role(name, dtype),
                tensor=specs.one((shape, dtype)),
                bytes=nbytes,
                times=times,
            )
            for (owner, recomputed, name, shape, dtype, nbytes), times in self._counts.items()
        )

    def unknown(self, paths: tuple[str, ...]) -> tuple[tuple[str, Phase], ...]:
        """Path and phase of rows whose saved tensors could not all be seen.

        What a checkpoint itself keeps, its inputs, hangs on no node; any module around the checkpointed one may have
        called it.
        """
        found: dict[tuple[str, Phase], None] = {}
        for owner, what in self._unreadable:
            path = paths[owner] if owner >= 0 else ""
            found[path, _phase(owner)] = None
            if what == _CHECKPOINTED and owner >= 0:
                found.update(dict.fromkeys((each, "forward") for each in _above(path)))
        return tuple(found)

    def notes(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        """What could not be seen, and where."""
        return tuple(
            f"{paths[owner] or '(model)' if owner >= 0 else 'outside the model'}: {what} cannot be seen, "
            f"{times} times; "
            "saved_bytes leaves them out"
            for (owner, what), times in self._unreadable.items()
        )


def _runs(node: Any) -> bool:
    """Whether the pass comes to this node. Autograd refuses to say so of a leaf that autograd.grad will return: it
    does."""
    try:
        return will_execute(node)
    except RuntimeError:
        return True


def _is_number(data: Tensor) -> bool:
    """Whether a tensor without dimensions stands for a Python number: nobody made that tensor."""
    narrower = _NARROWER.get(data.dtype)
    if narrower is None:
        return False
    try:
        return torch.result_type(data, torch.empty((), dtype=narrower, device=data.device)) == narrower
    except (AssertionError, RuntimeError):  # a fake tensor outside its mode
        return False


def _above(path: str) -> Iterable[str]:
    """`a.b.c` -> `a.b`, `a` and "" """
    while path:
        path = path.rpartition(".")[0]
        yield path


def _phase(owner: int) -> Phase:
    return "loss" if owner == NOBODY else "outside" if owner == BEFORE else "forward"


def _role(attribute: str, dtype: torch.dtype) -> SavedRole:
    """What a tensor is to the node that saved it, from autograd's name for it and its dtype."""
    name = attribute.removeprefix(_PREFIX)
    if dtype in (torch.bool, torch.uint8) or name in _MASKS:
        return "mask"
    if not dtype.is_floating_point and not dtype.is_complex:
        return "index"
    if name in _STATISTICS:
        return "statistics"
    return "output" if name in _RESULTS else "input"
