"""Where in the step a moment of the account was: in which module, phase, operator and autograd node.

Ranges lie in one another. From the innermost outwards, the first module call or autograd node decides; the outermost
operator inside it is the one that the dispatcher saw. Between all calls, the step's own course decides: after the model
has returned something that can be differentiated comes the loss, until backward has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from ...theory.phase import Phase
from .attribution import NOBODY, SequenceTable
from .entries import Moment, Span
from .memory import MODULE, NOTE, Note

_NODE = "autograd::engine::evaluate_function: "
_ACCUMULATE = _NODE + "torch::autograd::AccumulateGrad"
_OPTIMIZERS = "Optimizer."
_OPTIMIZER = _OPTIMIZERS + "step#"


@dataclass(frozen=True, slots=True)
class Context:
    """Where a request was made: module, phase, the operator around it, and the autograd node around that."""

    path: str
    phase: Phase
    operator: Span | None
    node: Span | None
    lasts: bool = True  # whether it is so for as long as the range is open


class Contexts:
    """Follows an account from moment to moment. `paths` are the modules', `table` has whose numbers are whose."""

    def __init__(self, paths: Sequence[str], table: SequenceTable, notes: Sequence[Note]) -> None:
        self._paths = paths
        self._table = table
        self._notes = notes
        self._known: dict[Span | None, Context] = {}
        self._passing: dict[Span | None, Context] = {}  # between calls: true until the step goes on
        self._numbers: dict[Span, int] = {}
        self._between: Phase = "outside"  # what happens outside any call, node or optimizer
        self._latest = ""  # the module whose backward ran last

    def follow(self, moment: Moment) -> Note | None:
        """A span begins or ends; the note that was made there, if one was."""
        span = moment.span
        if moment.what == "ends":
            if is_node(span) and _around(span, _NODE) is None:
                self._now_between("outside")
            return None
        if span.name.startswith(NOTE):
            return self._noted(self._notes[int(span.name.removeprefix(NOTE))])
        self._number(span)
        return None

    def of(self, span: Span | None) -> Context:
        """Where the step is while `span` is the innermost range; None outside all."""
        context = self._known.get(span) or self._passing.get(span)
        if context is None:
            context = self._look(span)
            (self._known if context.lasts else self._passing)[span] = context
        return context

    def _noted(self, note: Note) -> Note:
        if note.what == "returned":
            self._now_between("loss" if note.expects_loss else "outside")
        elif note.what == "boundary":
            self._now_between("outside")
        return note

    def _number(self, span: Span) -> None:
        """In some versions the range around a node has no number, and the node in it has."""
        outer = span.outer
        if span.number >= 0 and outer is not None and outer.name.startswith(_NODE) and outer not in self._numbers:
            self._numbers[outer] = span.number
            self._known.pop(outer, None)

    def _now_between(self, phase: Phase) -> None:
        self._between = phase
        self._passing.clear()

    def _look(self, span: Span | None) -> Context:
        operator: Span | None = None
        while span is not None:
            if span.name.startswith(MODULE):
                node = _around(span, _NODE)
                path = self._paths[int(span.name.removeprefix(MODULE))]
                return Context(path, "forward" if node is None else "recompute", operator, node)
            if span.name.startswith(_NODE):
                return self._in_node(span, operator)
            if span.name.startswith(_OPTIMIZER):
                return Context("", "optimizer", operator, None)
            if span.name.startswith(_OPTIMIZERS):
                return Context("", "outside", operator, None)
            if _is_operator(span.name):
                operator = span
            span = span.outer
        return Context("", self._between, operator, None, lasts=False)

    def _in_node(self, node: Span, operator: Span | None) -> Context:
        if node.name == _ACCUMULATE:
            return Context(self._latest, "accumulation", operator, node)
        owner = self._table.owner(node.number if node.number >= 0 else self._numbers.get(node, -1))
        self._latest = self._paths[owner] if owner >= 0 else ""
        phase: Phase = "backward" if owner >= 0 else "loss" if owner == NOBODY else "outside"
        return Context(self._latest, phase, operator, node)


def is_node(span: Span) -> bool:
    """Whether autograd evaluates a node in it."""
    return span.name.startswith(_NODE)


def is_remark(span: Span) -> bool:
    """Whether the range says something of the work in it, and is none itself: `record_function`, a note of ours."""
    name = span.name
    return not ("::" in name or name.startswith((MODULE, _OPTIMIZERS)))


def _around(span: Span, name: str) -> Span | None:
    outer = span.outer
    while outer is not None and not outer.name.startswith(name):
        outer = outer.outer
    return outer


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@cache
def _is_operator(name: str) -> bool:
    """Whether a range is an operator that the dispatcher sees. Composite ones are taken apart before it does, though
    some have an overload of their own for results that are handed in (`out`), which no range of a step is of."""
    schemas = torch._C._jit_get_schemas_for_operator(name) if "::" in name else ()
    overloads = [schema.overload_name for schema in schemas]
    usual = [each for each in overloads if not each.endswith("out")] or overloads
    return any(_is_dispatched(f"{name}.{overload}".rstrip(".")) for overload in usual)


def _is_dispatched(operator: str) -> bool:
    try:
        return not torch._C._dispatch_has_kernel_for_dispatch_key(operator, _COMPOSITE)
    except RuntimeError:  # TorchScript's own, which the dispatcher does not know
        return False
