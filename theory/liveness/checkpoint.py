"""Activation checkpointing (`torch.utils.checkpoint`, not reentrant): a block's forward saves nothing but its input and
the state of the random numbers, and runs again when backward first asks for what it would have saved.

The second run stops as soon as the last saved tensor is there. What it saved is handed out node by node, and dies
inside each node; with the last one go the input and the state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..network import Named
from .heap import Heap, Storage, Tensor

RANDOM_STATE = 5_056  # bytes of the CPU generator's state


@dataclass(eq=False)
class Frame:
    """One checkpointed call: its layers, what it was given, and what it `holds` on to. `asks` says of each operator in
    it whether its node will ask for what it would have saved; `saved` is that, of the second run."""

    path: str
    layers: tuple[Named, ...]
    given: Tensor
    holds: tuple[Storage, ...]
    asks: list[bool] = field(default_factory=list)
    saved: list[tuple[Storage, ...]] = field(default_factory=list)
    answered: int = 0
    ran_again: bool = False

    def ask(self, heap: Heap, run_again: Callable[[Frame], Tensor]) -> tuple[Storage, ...]:
        """What the next node in backward would have saved: the last in forward asks first. The second run ends in an
        exception, which holds on to the variable of the module that it comes from, until it is caught."""
        if not self.ran_again:
            state = random_state(heap)
            variable = run_again(self)
            heap.drop(state)
            heap.drop(variable.storage)
            self.ran_again = True
        return self.saved.pop()

    def release(self, heap: Heap) -> None:
        """One node less; with the last that asks, all is let go of."""
        self.answered += 1
        if self.answered == sum(self.asks):
            for storage in self.holds:
                heap.drop(storage)


def random_state(heap: Heap) -> Storage:
    """A copy of the random numbers' state, so that dropout draws the same again."""
    return heap.open(RANDOM_STATE, "temporaries", "")
