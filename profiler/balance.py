"""Do two accounts of one step balance: what theory says of its memory, and what a run showed? Event by event.

Two streams are the same where they open and close blocks of the same bytes in the same order, and every close is of the
block that the same event opened. A block from before the step is known by its bytes. Paths, phases and categories are
held apart: they say where an event belongs, and are compared once the events are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from ..theory.stream import Category, Event, Stream

WORKSPACE: Category = "workspace"
BEFORE = -1  # which event opened a block that was there before


@dataclass(frozen=True, slots=True)
class Row:
    """One event of one stream, with all that is said of it. `opener` is the event that opened the block."""

    bytes: int
    opener: int
    path: str
    phase: str
    category: Category
    operator: str

    @property
    def fact(self) -> tuple[int, int]:
        """What has to agree: the signed bytes, and which block they are of."""
        return self.bytes, self.opener

    @property
    def label(self) -> tuple[str, str, Category]:
        """Where it belongs."""
        return self.path, self.phase, self.category

    def __str__(self) -> str:
        sign = "+" if self.bytes > 0 else "-"
        whose = "" if self.bytes > 0 else " from before" if self.opener == BEFORE else f" of event {self.opener}"
        where = ", ".join(filter(None, (self.path or "no module", self.phase, self.operator)))
        return f"{sign}{abs(self.bytes):,} B {self.category}{whose} ({where})"


@dataclass(frozen=True, slots=True)
class Pair:
    """The event of that number on either side; None where a stream has ended."""

    event: int
    theory: Row | None
    measured: Row | None

    @property
    def same(self) -> bool:
        """Whether the facts agree."""
        return self.theory is not None and self.measured is not None and self.theory.fact == self.measured.fact

    @property
    def same_label(self) -> bool:
        """Whether the labels do."""
        return self.theory is not None and self.measured is not None and self.theory.label == self.measured.label

    def __str__(self) -> str:
        return f"event {self.event}: theory {self.theory or 'has ended'}; the run {self.measured or 'has ended'}"


@dataclass(frozen=True)
class Balance:
    """Two streams side by side."""

    theory: Stream
    measured: Stream

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """All events, workspace included."""
        return _pairs(self.theory, self.measured)

    @cached_property
    def framework_pairs(self) -> tuple[Pair, ...]:
        """All events but those of workspace, which belongs to a backend."""
        return _pairs(self.theory.without(WORKSPACE), self.measured.without(WORKSPACE))

    @property
    def exact(self) -> bool:
        """Whether the streams are the same, from what was there before to the last event."""
        return not self._before() and all(pair.same for pair in self.pairs)

    @property
    def framework_exact(self) -> bool:
        """Whether they are without workspace, and no workspace outlives its operator."""
        return not self._before() and not self.crossing and all(pair.same for pair in self.framework_pairs)

    @property
    def labelled_alike(self) -> bool:
        """Whether all but workspace belongs to the same path, phase and category on both sides, from before on."""
        return not self.label_difference

    @cached_property
    def crossing(self) -> tuple[str, ...]:
        """Workspace that was open while something happened in another module, phase or operator, in words."""
        return (*_crossing("theory", self.theory), *_crossing("the run", self.measured))

    @property
    def difference(self) -> str:
        """The first thing that is not the same, in words; "" where everything is."""
        return self._before() or next((str(pair) for pair in self.pairs if not pair.same), "")

    @property
    def framework_difference(self) -> str:
        """The first thing that is not the same without workspace; "" where everything is."""
        unlike = (str(pair) for pair in self.framework_pairs if not pair.same)
        return self._before() or next(iter(self.crossing), "") or next(unlike, "")

    @property
    def label_difference(self) -> str:
        """The first that belongs elsewhere on the other side, or is not there; "" where nothing does."""
        theory, measured = _labels_before(self.theory), _labels_before(self.measured)
        if theory != measured:
            return f"before the step: theory has {_labels(theory - measured)}; the run {_labels(measured - theory)}"
        return next((str(pair) for pair in self.framework_pairs if not pair.same_label), "")

    def table(self, *, around: int = 3) -> str:
        """The events next to the first difference, side by side; of equal streams the first ones."""
        first = next((pair.event for pair in self.pairs if not pair.same), 0)
        return "\n".join(
            f"{' ' if pair.same else '!'} {pair.event:>5}  {pair.theory or '-'!s:<90} {pair.measured or '-'}"
            for pair in self.pairs[max(first - around, 0) : first + around + 1]
        )

    def _before(self) -> str:
        theory, measured = (Counter(each.blocks[place].bytes for place in each.before) for each in self)
        if theory == measured:
            return ""
        return (
            f"before the step: theory has {theory.total()} blocks of {self.theory.live_bytes[0]:,} B, the run "
            f"{measured.total()} of {self.measured.live_bytes[0]:,} B; theory alone has {_sizes(theory - measured)}, "
            f"the run alone {_sizes(measured - theory)}"
        )

    def __iter__(self) -> Iterator[Stream]:
        return iter((self.theory, self.measured))


def balance(theory: Stream, measured: Stream) -> Balance:
    """Hold what theory says of a step to what a run showed."""
    return Balance(theory, measured)


def _pairs(theory: Stream, measured: Stream) -> tuple[Pair, ...]:
    both = zip_longest(_rows(theory), _rows(measured))
    return tuple(Pair(number, *rows) for number, rows in enumerate(both))


def _rows(stream: Stream) -> Iterator[Row]:
    openers: dict[int, int] = {}
    for number, event in enumerate(stream.events):
        if event.opens:
            openers[event.block] = number
        block = stream.blocks[event.block]
        opener = openers.get(event.block, BEFORE)
        yield Row(stream.signed(event), opener, event.path, event.phase, block.category, block.operator)


def _labels_before(stream: Stream) -> Counter[tuple[int, str, Category]]:
    blocks = (stream.blocks[place] for place in stream.before)
    return Counter((block.bytes, block.path, block.category) for block in blocks)


def _labels(blocks: Counter[tuple[int, str, Category]]) -> str:
    return "; ".join(f"{times} x {size:,} B {what} of {path}" for (size, path, what), times in blocks.items()) or "none"


def _crossing(whose: str, stream: Stream) -> Iterator[str]:
    """What happens while workspace is open happens where it was opened; no workspace is left open."""
    open_now: dict[int, Event] = {}
    for number, event in enumerate(stream.events):
        block = stream.blocks[event.block]
        for other, opened in open_now.items():
            same_place = (opened.path, opened.phase) == (event.path, event.phase)
            same_operator = not event.opens or block.operator == stream.blocks[other].operator
            if not (same_place and same_operator):
                yield f"{whose}: event {number} ({event.path}, {event.phase}) finds {stream.blocks[other]} still open"
        if block.category == WORKSPACE:
            open_now = {**open_now, event.block: event} if event.opens else _except(open_now, event.block)
    yield from (f"{whose}: the step ends with {stream.blocks[other]} open" for other in open_now)


def _except(open_now: dict[int, Event], block: int) -> dict[int, Event]:
    return {other: event for other, event in open_now.items() if other != block}


def _sizes(blocks: Counter[int]) -> str:
    return ", ".join(f"{times} x {size:,} B" for size, times in sorted(blocks.items())) or "none more"
