"""The tally of finished module calls. Equal calls are one, with a count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import compress, repeat
from typing import Any, Literal

import torch

from ...theory.tensor import TensorSpec
from ..records import CallFacts, GradientFacts
from .attribution import Slot, Slots
from .expected import OUTPUT, of_recipient
from .tensors import SpecTable

# Whether there is a torch.func transform (vmap, grad ...). Asking for the level of transforms instead would leave state
# behind in the thread, which every node of a backward pass would copy from then on.
has_transform: Callable[[], bool] = torch._C._are_functorch_transforms_active

Seen = tuple[Any, ...]
"""Tensors in passing, flat: shape, dtype, and whether it needs a gradient, of one after the other."""

Own = tuple[bool, ...] | None
"""Which outputs are a call's own: those that no call inside it had given already. None: all."""

LIMIT = 2**12  # of slots in a list; they are then summed up

_SLOTS = 2**24  # a call is the number of its look, times this, and the index of its slot


@dataclass(slots=True, eq=False)
class Alike:
    """Calls that look alike: the first one's number, and the slots that made them. `times` has those summed up."""

    first: int
    inputs: Seen
    outputs: Seen
    own: Own
    slots: list[Slot] = field(default_factory=list)
    times: Counter[Slot] = field(default_factory=Counter)


class CallTally:
    """How often each call was made: those that one slot made, and that look alike, are one.

    A call is an integer, put together from what it looks like and its slot: of a thousand equal layers nothing is to be
    looked up that stands apart for each.
    """

    def __init__(self, slots: Slots) -> None:
        self.alike: dict[tuple[Seen, Seen, Own], Alike] = {}
        self.transformed: set[int] = set()  # modules that were called inside a torch.func transform
        self._slots = slots.all

    def add(self, slot: Slot, inputs: Seen, outputs: Seen, own: Own) -> Alike:
        """Count a call that has ended."""
        alike = self.alike.get((inputs, outputs, own))
        if alike is None:
            alike = self.alike[inputs, outputs, own] = Alike(len(self.alike) * _SLOTS, inputs, outputs, own)
        elif len(alike.slots) >= LIMIT:
            alike.times.update(alike.slots)
            alike.slots.clear()
        alike.slots.append(slot)
        if has_transform():
            self.transformed.add(slot.owner)
        return alike

    def owner_of(self, call: int) -> int:
        """The module whose call it is."""
        return self._slots[call % _SLOTS].owner

    @property
    def finished(self) -> int:
        """How many calls have ended."""
        return sum(len(look.slots) + look.times.total() for look in self.alike.values())

    def facts(self, paths: tuple[str, ...], specs: SpecTable) -> tuple[CallFacts, ...]:
        """The calls as records."""
        return tuple(
            CallFacts(
                path=paths[slot.owner],
                phase=slot.phase,
                inputs=_specs(look.inputs, specs),
                inputs_need_grad=look.inputs[2::3],
                outputs=_specs(look.outputs, specs),
                own_outputs=tuple(compress(_specs(look.outputs, specs), look.own or repeat(True))),
                times=times,
            )
            for look in self.alike.values()
            for slot, times in (look.times + Counter(look.slots)).items()
        )

    def gradient_facts(
        self, arrived: Mapping[int, int], paths: tuple[str, ...], specs: SpecTable
    ) -> tuple[GradientFacts, ...]:
        """The gradients of inputs and outputs that arrived (recipient -> times), as records."""
        looks = tuple(self.alike.values())
        facts = []
        for who, times in sorted(arrived.items()):  # by call, then position
            call, kind, position = of_recipient(who)
            slot, look = self._slots[call % _SLOTS], looks[call // _SLOTS]
            of: Literal["input", "output"] = "output" if kind == OUTPUT else "input"
            shape, dtype, _ = (look.outputs if kind == OUTPUT else look.inputs)[3 * position : 3 * position + 3]
            facts.append(GradientFacts(paths[slot.owner], of, str(position), specs.one((shape, dtype)), times))
        return tuple(facts)


def _specs(seen: Seen, specs: SpecTable) -> tuple[TensorSpec, ...]:
    return specs.all(zip(seen[::3], seen[1::3], strict=True))
