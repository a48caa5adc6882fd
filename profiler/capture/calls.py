"""The tally of finished module calls. Equal calls are one, with a count."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress, repeat
from typing import Any, Literal

import torch

from ...theory.tensor import TensorSpec
from ..records import CallFacts, GradientFacts
from .attribution import Slot
from .expected import OUTPUT, of_recipient
from .tensors import SpecTable

# While there is a torch.func transform (vmap, grad ...), this key is. Asking for the level of transforms would leave
# state behind in the thread, which every node of a backward pass would copy from then on.
_TRANSFORMS = torch._C.DispatchKey.FuncTorchDynamicLayerFrontMode

Seen = tuple[Any, ...]
"""Tensors in passing, flat: shape, dtype, and whether it needs a gradient, of one after the other."""

Own = tuple[bool, ...] | None
"""Which outputs are a call's own: those that no call inside it had given already. None: all."""


class CallTally:
    """Distinct calls, by their place in the tally. `owners` has the module whose call each one is.

    Like operators, calls are looked up by what they look like, and only then by slot: of a thousand equal layers there
    are no thousand tuples of shapes, from far apart in memory, to compare with.
    """

    def __init__(self) -> None:
        self.owners: list[int] = []
        self.transformed: set[int] = set()  # modules that were called inside a torch.func transform
        self._times: list[int] = []
        self._calls: list[tuple[Slot, Seen, Seen, Own]] = []
        self._places: dict[tuple[Seen, Seen, Own], dict[Slot, int]] = {}

    def add(self, slot: Slot, inputs: Seen, outputs: Seen, own: Own) -> int:
        """Count a call that has ended; gives its place."""
        places = self._places.get((inputs, outputs, own))
        if places is None:
            places = self._places[inputs, outputs, own] = {}
        index = places.get(slot)
        if index is None:
            index = places[slot] = len(self._calls)
            self._calls.append((slot, inputs, outputs, own))
            self._times.append(0)
            self.owners.append(slot.owner)
            if torch._C._dispatch_tls_is_dispatch_key_included(_TRANSFORMS):
                self.transformed.add(slot.owner)
        self._times[index] += 1
        return index

    @property
    def finished(self) -> int:
        """How many calls have ended."""
        return sum(self._times)

    def facts(self, paths: tuple[str, ...], specs: SpecTable) -> tuple[CallFacts, ...]:
        """The calls as records."""
        return tuple(
            CallFacts(
                path=paths[slot.owner],
                phase=slot.phase,
                inputs=_specs(inputs, specs),
                inputs_need_grad=inputs[2::3],
                outputs=_specs(outputs, specs),
                own_outputs=tuple(compress(_specs(outputs, specs), own or repeat(True))),
                times=times,
            )
            for (slot, inputs, outputs, own), times in zip(self._calls, self._times, strict=True)
        )

    def gradient_facts(
        self, arrived: Mapping[int, int], paths: tuple[str, ...], specs: SpecTable
    ) -> tuple[GradientFacts, ...]:
        """The gradients of inputs and outputs that arrived (recipient -> times), as records."""
        facts = []
        for who, times in sorted(arrived.items()):  # by call, then position
            index, kind, position = of_recipient(who)
            slot, inputs, outputs, _ = self._calls[index]
            of: Literal["input", "output"] = "output" if kind == OUTPUT else "input"
            shape, dtype, _ = (outputs if kind == OUTPUT else inputs)[3 * position : 3 * position + 3]
            facts.append(GradientFacts(paths[slot.owner], of, str(position), specs.one((shape, dtype)), times))
        return tuple(facts)


def _specs(seen: Seen, specs: SpecTable) -> tuple[TensorSpec, ...]:
    return specs.all(zip(seen[::3], seen[1::3], strict=True))
