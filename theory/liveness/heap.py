"""Memory by reference counting: a storage is open for as long as somebody holds it. What is done here is written down,
event by event, as a `Stream`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from ..phase import Phase
from ..stream import Block, Category, Event, Stream
from ..tensor import TensorSpec


@dataclass(eq=False)
class Storage:
    """Memory that tensors share: so many bytes, in the hands of so many holders. Its category is known when it is
    opened, but for results of forward, which turn from "activations" to "saved" when autograd takes hold of them."""

    place: int
    bytes: int
    category: Category
    path: str
    phase: Phase
    operator: str
    holders: int = 1


class Tensor(NamedTuple):
    """A storage, seen as a tensor."""

    spec: TensorSpec
    storage: Storage


class Heap:
    """Opens and closes storages. `path` and `phase` say where the step is; who opens a storage is its first holder.

    Between the calls of a step, on its own lines, `phase` is set as the step goes on: "loss" from the moment when the
    model has returned something that can be differentiated until backward has run, else "outside".
    """

    def __init__(self) -> None:
        self.path = ""
        self.phase: Phase = "outside"
        self._storages: list[Storage] = []
        self._before: list[int] = []
        self._events: list[Event] = []

    @contextmanager
    def at(self, path: str, phase: Phase) -> Iterator[None]:
        """What happens inside happens in that module and phase."""
        here = self.path, self.phase
        self.path, self.phase = path, phase
        yield
        self.path, self.phase = here

    def find(self, size: int, category: Category, path: str) -> Storage:
        """A storage that was there before the step began."""
        storage = self._new(size, category, path, "outside", "")
        self._before.append(storage.place)
        return storage

    def open(self, size: int, category: Category, operator: str) -> Storage:
        """A new storage, held once: by the caller."""
        storage = self._new(size, category, self.path, self.phase, operator)
        self._event(storage, opens=True)
        return storage

    def hold(self, storage: Storage) -> Storage:
        """One holder more."""
        storage.holders += 1
        return storage

    def drop(self, storage: Storage) -> None:
        """One holder less; with the last, the storage is closed."""
        storage.holders -= 1
        if not storage.holders:
            self._event(storage, opens=False)

    def stream(self) -> Stream:
        """What happened."""
        blocks = (Block(each.bytes, each.category, each.path, each.phase, each.operator) for each in self._storages)
        return Stream(tuple(blocks), tuple(self._before), tuple(self._events))

    def _new(self, size: int, category: Category, path: str, phase: Phase, operator: str) -> Storage:
        storage = Storage(len(self._storages), size, category, path, phase, operator)
        self._storages.append(storage)
        return storage

    def _event(self, storage: Storage, *, opens: bool) -> None:
        self._events.append(Event(storage.place, opens, self.path, self.phase))
