"""A replayed step and what was learnt of the inside of its operators, put together into the stream of a real one.

Blocks get their categories by the rules by which a measured step's do: who holds them by name; what lived inside one
operator; else the phase they were opened in and who let go of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ...theory.phase import Phase
from ...theory.stream import Block, Category, Event, Stream
from ..capture.followed import Call, Closed, Entry, Followed
from ..capture.forms import Form
from ..capture.whose import Work
from .inside import Inside

Names = Mapping[Followed, tuple[Category, str]]
"""What a block is for and the path of the module it belongs to, where somebody holds it by name."""

_SEED = "aten.ones_like"  # what `loss.backward()` begins with


@dataclass(eq=False, slots=True)
class _Place:
    """A block while the stream is being made: what it is of, and where it was opened and closed."""

    bytes: int
    opened: Work
    call: Call | None = None
    followed: Followed | None = None
    closed: Work | None = None
    closed_node: int | None = None
    inside: bool = False  # closed in the call that opened it
    number: bool = False  # a Python number, made into a tensor before the operator began

    @property
    def operator(self) -> str:
        if self.followed is not None:
            return self.followed.operator
        return self.call.operator if self.call is not None and not self.number else ""


@dataclass(eq=False)
class Merged:
    """The events of a step; `strange` are the calls that gave new memory elsewhere than the real call did, `misshapen`
    those that gave other tensors."""

    before: Sequence[Followed]
    log: Iterable[Entry]
    learnt: Mapping[Form, Inside]
    strange: list[Call] = field(default_factory=list)
    misshapen: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._places: list[_Place] = []
        self._events: list[tuple[int, bool, Work]] = []
        self._of: dict[Followed, int] = {}
        for block in self.before:
            self._place(_Place(block.bytes, block.work, followed=block))
        self._first = len(self._places)
        for entry in self.log:
            if isinstance(entry, Closed):
                self._close(entry)
            else:
                self._call(entry)

    def stream(self, names: Names, paths: Sequence[str]) -> Stream:
        """The stream, with blocks of no bytes left out: nobody asks an allocator for those."""
        kept = [place for place, block in enumerate(self._places) if block.bytes]
        number = {place: index for index, place in enumerate(kept)}
        judged = [_judged(self._places[place], names, paths) for place in kept]
        return Stream(
            blocks=tuple(judged),
            before=tuple(range(sum(place < self._first for place in kept))),
            events=tuple(
                Event(number[place], opens, _path(work, judged[number[place]], opens, paths), work[1])
                for place, opens, work in self._events
                if place in number
            ),
        )

    def _place(self, place: _Place) -> int:
        self._places.append(place)
        if place.followed is not None:
            self._of[place.followed] = len(self._places) - 1
        return len(self._places) - 1

    def _open(self, size: int, call: Call, followed: Followed | None, *, number: bool = False) -> int:
        place = self._place(_Place(size, call.work, call, followed, number=number))
        self._events.append((place, True, call.work))
        return place

    def _close(self, entry: Closed) -> None:
        place = self._of.pop(entry.block, None)
        if place is not None:
            block = self._places[place]
            block.closed, block.closed_node = entry.work, entry.node
            self._events.append((place, False, entry.work))

    def _call(self, call: Call) -> None:
        inside = self.learnt.get(call.form)
        if inside is not None and call.layouts != inside.layouts:
            self.misshapen.append(call)
        if inside is not None and not _fits(call, inside):
            self.strange.append(call)
            inside = None
        if inside is None:
            for block in (*call.kept_numbers, *call.results):
                if block is not None:
                    self._open(block.bytes, call, block)
        else:
            self._expand(call, inside)

    def _expand(self, call: Call, inside: Inside) -> None:
        """The call's events as they were learnt. Numbers that autograd keeps, or had kept, are not the call's own."""
        outlive = {
            block: result for block, result in zip(inside.results, call.results, strict=True) if block is not None
        }
        outlive |= dict(zip(inside.numbers, call.kept_numbers, strict=False))
        left_out = set() if call.makes_numbers else set(inside.numbers)
        places: dict[int, int] = {}
        for event in inside.events:
            block = abs(event) - 1
            if block in left_out:
                continue
            if event > 0:
                places[block] = self._open(
                    inside.sizes[block],
                    call,
                    outlive.get(block),
                    number=block in inside.numbers and block not in outlive,
                )
            elif block not in outlive:
                self._end(places.pop(block), call)
        for block, place in places.items():
            if block not in outlive:  # the library keeps it; a later call of this kind does not ask again
                self._end(place, call)

    def _end(self, place: int, call: Call) -> None:
        self._places[place].closed, self._places[place].inside = call.work, True
        self._events.append((place, False, call.work))


def _fits(call: Call, inside: Inside) -> bool:
    """Whether the real call gave new memory just where the replayed one did; empty results have none."""
    if len(call.results) != len(inside.results):
        return False
    return all(
        (real is None) == (replayed is None) or (real is None and replayed is not None and not replayed.bytes)
        for real, replayed in zip(inside.results, call.results, strict=True)
    )


# Categories -----------------------------------------------------------------------------------------------------------


def _judged(place: _Place, names: Names, paths: Sequence[str]) -> Block:
    work = place.opened
    path, operator = _named(work[0], paths), place.operator
    category, held_by = names.get(place.followed, (None, "")) if place.followed is not None else (None, "")
    # The step may keep what it computed itself, or give it to the model again: that is no input.
    if category is not None and (category != "input" or work[1] == "outside"):
        return Block(place.bytes, category, held_by or path, work[1], operator)
    return Block(place.bytes, _by_story(place, work[1], operator), path, work[1], operator)


def _by_story(place: _Place, phase: Phase, operator: str) -> Category:
    if place.inside and not place.number:
        return "workspace"
    if phase == "optimizer":
        return "temporaries"
    node = None if place.call is None else place.call.node
    saved = (place.followed is not None and place.followed.saved) or _let_go_by_autograd(place, node)
    if not operator and phase != "outside":  # a Python number, or the state of the random numbers
        return "saved" if saved else "temporaries"
    if phase != "recompute" and node is not None:
        accumulated = place.closed is not None and place.closed[1] == "accumulation"
        return "parameter gradients" if accumulated else "activation gradients"
    if phase == "outside":
        return "temporaries"
    if phase == "loss" and operator == _SEED:
        return "activation gradients"
    return "saved" if saved else "activations"


def _let_go_by_autograd(place: _Place, node: int | None) -> bool:
    """Inside a node that needed it, and neither in what that node itself made nor in what it runs again."""
    if place.closed is None or place.closed_node is None or place.closed[1] == "recompute":
        return False
    return place.opened[1] == "recompute" or place.closed_node != node


def _named(owner: int, paths: Sequence[str]) -> str:
    return paths[owner] if owner >= 0 else ""


def _path(work: Work, block: Block, opens: bool, paths: Sequence[str]) -> str:
    """A gradient that is given back while it is accumulated counts where it was opened."""
    return block.path if work[1] == "accumulation" and not opens else _named(work[0], paths)
