"""A step written by hand: ranges with the nanoseconds that each piece of them takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torchtally.profiler.capture.attribution import NOBODY, SequenceTable
from torchtally.profiler.capture.clock import attribute
from torchtally.profiler.capture.entries import NO_NUMBER, Entry, Moment, Span
from torchtally.profiler.capture.memory import MODULE, NOTE, Note
from torchtally.profiler.capture.spent import Spent

NODE = "autograd::engine::evaluate_function: "
ACCUMULATE = NODE + "torch::autograd::AccumulateGrad"
BEGINNING = 1_000_000  # the profiler's clock does not begin at 0


class Tape:
    """Writes entries as the profiler would. `spend` lets time pass; a range lasts as long as what is in it."""

    def __init__(self, *paths: str, thread: int = 1) -> None:
        self.paths = paths
        self.table = SequenceTable()
        self.table.push(0, NOBODY)
        self.notes: list[Note] = []
        self.entries: list[Entry] = []
        self.thread = thread
        self._at = BEGINNING
        self._inner: Span | None = None
        self._next = 0  # autograd number of the next node
        self._owners = [NOBODY]

    @property
    def now(self) -> int:
        return self._at

    def spend(self, nanoseconds: int) -> None:
        self._at += nanoseconds

    @contextmanager
    def range(self, name: str, number: int = NO_NUMBER) -> Iterator[None]:
        span = Span(name, number, self._inner)
        self._inner = span
        self.entries.append(Moment("begins", span, self._at, self.thread))
        yield
        self.entries.append(Moment("ends", span, self._at, self.thread))
        self._inner = span.outer

    @contextmanager
    def module(self, path: str) -> Iterator[None]:
        owner = self.paths.index(path)
        with self.range(f"{MODULE}{owner}"):
            self._own(owner)
            yield
        self._own(None)

    def _own(self, owner: int | None) -> None:
        if owner is None:
            self._owners.pop()
        else:
            self._owners.append(owner)
        self.table.push(self._next, self._owners[-1])

    def operator(self, nanoseconds: int, name: str = "aten::relu") -> int:
        """An operator that can be differentiated; the number of its node."""
        with self.range(name, self._next):
            self.spend(nanoseconds)
        self._next += 1
        return self._next - 1

    def node(self, number: int, nanoseconds: int, name: str = "ReluBackward0") -> None:
        with self.range(NODE + name, number):
            self.spend(nanoseconds)

    def accumulate(self, nanoseconds: int) -> None:
        with self.range(ACCUMULATE):
            self.spend(nanoseconds)

    def note(self, note: Note, nanoseconds: int = 0) -> None:
        with self.range(f"{NOTE}{len(self.notes)}"):
            self.spend(nanoseconds)
        self.notes.append(note)

    def boundary(self, nanoseconds: int = 0) -> None:
        self.note(Note("boundary"), nanoseconds)

    def returned(self, *, expects_loss: bool = True) -> None:
        self.note(Note("returned", expects_loss=expects_loss))

    def steps(self, *others: Sequence[Entry]) -> list[Spent]:
        """What the clock makes of it, with other threads' entries among its own."""
        entries = [*self.entries, *(entry for found in others for entry in found)]
        entries.sort(key=lambda entry: entry.at if isinstance(entry, Moment) else 0)
        return attribute(entries, self.paths, self.table, self.notes)

    def step(self) -> Spent:
        (only,) = self.steps()
        return only
