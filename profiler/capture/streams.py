"""From the allocator's account to streams of blocks: whose each request is, and what for.

A block is judged when all is known of it: where it was opened and closed, and who named its address in between. In this
order: what somebody holds by name (parameters, state, gradients, input); what was opened and closed inside one
operator (workspace); else by the phase it was opened in, and by who let go of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...theory.stream import Block, Category, Event, Stream
from .attribution import SequenceTable
from .contexts import Context, Contexts
from .entries import Entry, Request
from .memory import Note
from .whereabouts import Whereabouts

_SEED = "aten::ones_like"  # what `loss.backward()` begins with


@dataclass(slots=True)
class _Open:
    """A block while its story is being read."""

    bytes: int
    opened: Context | None  # None: older than the account
    closed: Context | None = None
    named: list[Whereabouts] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Step:
    """Where a step lies among the events, and what was open when it began, by address."""

    first_event: int
    before: dict[int, int]


class Reader:
    """Reads an account once, and then says what each step in it was."""

    def __init__(self, paths: Sequence[str], table: SequenceTable, notes: Sequence[Note]) -> None:
        self._contexts = Contexts(paths, table, notes)
        self._blocks: list[_Open] = []
        self._events: list[tuple[int, bool, Context]] = []
        self._open: dict[int, int] = {}
        self._steps: list[_Step] = []

    def read(self, entries: Iterable[Entry]) -> None:
        """Follow the account from beginning to end."""
        for entry in entries:
            if isinstance(entry, Request):
                self._request(entry)
            elif (note := self._contexts.follow(entry)) is not None:
                self._noted(note)

    @property
    def steps(self) -> int:
        """How many steps began and ended."""
        return max(len(self._steps) - 1, 0)

    def sizes(self, step: int) -> list[int]:
        """What a step asked for and gave back, in order."""
        first, last = self._range(step)
        return [self._blocks[block].bytes * (1 if opens else -1) for block, opens, _ in self._events[first:last]]

    def learn(self, step: int, like: int) -> None:
        """Take over what is known of the blocks of `like`, a step with the same requests, for those of `step`."""
        for (block, opens, _), (other, _, _) in zip(self._of(step), self._of(like), strict=True):
            if opens:
                self._blocks[block].named += self._blocks[other].named

    def stream(self, step: int) -> Stream:
        """The stream of one step."""
        before = [*self._steps[step].before.values()]
        events = self._of(step)
        places = {block: place for place, block in enumerate(dict.fromkeys([*before, *(e[0] for e in events)]))}
        return Stream(
            blocks=tuple(_judged(self._blocks[block]) for block in places),
            before=tuple(places[block] for block in before),
            events=tuple(Event(places[block], opens, at.path, at.phase) for block, opens, at in events),
        )

    def _range(self, step: int) -> tuple[int, int]:
        return self._steps[step].first_event, self._steps[step + 1].first_event

    def _of(self, step: int) -> list[tuple[int, bool, Context]]:
        first, last = self._range(step)
        return self._events[first:last]

    # Following ---------------------------------------------------------------------------------------------------

    def _request(self, request: Request) -> None:
        context = self._contexts.of(request.span)
        if request.bytes > 0:
            self._close(request.pointer, context)  # an old block whose end the allocator did not report
            self._open[request.pointer] = len(self._blocks)
            self._events.append((len(self._blocks), True, context))
            self._blocks.append(_Open(request.bytes, context))
        else:
            self._close(request.pointer, context)

    def _close(self, pointer: int, context: Context) -> None:
        block = self._open.pop(pointer, None)
        if block is None:
            return
        self._blocks[block].closed = context
        if context.phase == "accumulation":  # of which parameter, only the gradient knows
            context = Context(self._path_of(block), context.phase, context.operator, context.node)
        self._events.append((block, False, context))

    def _path_of(self, block: int) -> str:
        opened = self._blocks[block].opened
        return opened.path if opened else ""

    def _noted(self, note: Note) -> None:
        if note.what == "boundary":
            self._forget({where.pointer for where in note.known})
        for where in note.known:
            self._name(where)
        if note.what == "boundary":
            self._steps.append(_Step(len(self._events), dict(self._open)))

    def _forget(self, held: set[int]) -> None:
        """What is older than the account, and no longer held by anybody known, is gone: nobody reports its end."""
        gone = [at for at, block in self._open.items() if self._blocks[block].opened is None and at not in held]
        for pointer in gone:
            del self._open[pointer]

    def _name(self, where: Whereabouts) -> None:
        """Somebody holds what lies there. If the account never saw it come, then it is older, and was there before."""
        block = self._open.get(where.pointer)
        if block is None:
            block = self._open[where.pointer] = len(self._blocks)
            self._blocks.append(_Open(where.bytes, None))
            if self._steps:
                self._steps[-1].before[where.pointer] = block
        self._blocks[block].named.append(where)


# The lasting categories, in the order in which they win: a parameter that autograd also saves stays a parameter.
_BY_NAME: tuple[Category, ...] = (
    "parameters",
    "buffers",
    "optimizer state",
    "parameter gradients",
    "input",
)


def _judged(block: _Open) -> Block:
    opened = block.opened
    named = {where.category: where.path for where in reversed(block.named)}
    for category in _BY_NAME:
        if category in named and not (category == "input" and _computed(opened)):
            path = named[category] or (opened.path if opened else "")
            return Block(block.bytes, category, path, opened.phase if opened else "outside", _operator(opened))
    if opened is None:
        return Block(block.bytes, "unattributed", "", "outside")
    return Block(block.bytes, _by_story(block, opened, "saved" in named), opened.path, opened.phase, _operator(opened))


def _computed(opened: Context | None) -> bool:
    """Whether the step itself made it, in or after the model: it may keep it, or give it to the model again."""
    return opened is not None and opened.phase != "outside"


def _by_story(block: _Open, opened: Context, saved: bool) -> Category:
    closed = block.closed
    if closed is not None and opened.operator is not None and closed.operator is opened.operator:
        return "workspace"
    if opened.phase == "optimizer":
        return "temporaries"
    if opened.operator is None and opened.phase != "outside":  # a number on its way into an operator, a random state
        return "saved" if saved else "temporaries"
    saved = saved or _let_go_by_autograd(opened, closed)
    if opened.phase != "recompute" and opened.node is not None:  # inside a node of backward, the loss's too
        accumulated = closed is not None and closed.phase == "accumulation"
        return "parameter gradients" if accumulated else "activation gradients"
    if opened.phase == "outside":
        return "temporaries" if closed is not None or opened.operator is not None else "unattributed"
    if opened.phase == "loss" and opened.operator is not None and opened.operator.name == _SEED:
        return "activation gradients"
    return "saved" if saved else "activations"


def _let_go_by_autograd(opened: Context, closed: Context | None) -> bool:
    """Inside a node that needed it, and neither in what that node itself made nor in what it runs again."""
    if closed is None or closed.node is None or closed.phase == "recompute":
        return False
    return opened.phase == "recompute" or closed.node is not opened.node


def _operator(context: Context | None) -> str:
    return context.operator.name.replace("::", ".", 1) if context and context.operator else ""
