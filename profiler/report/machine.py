"""A machine's ceilings for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from .terminal import new_table, text
from .units import bytes_text, count_text, flops_text, seconds_text

if TYPE_CHECKING:
    from ..machine.record import Machine

_MOST_KINDS = 12


def machine_view(machine: Machine) -> RenderableType:
    """Where it was measured; products, memory, overheads; and how many operators of which kind were timed."""
    said = ", ".join(f"{name} {value}" for name, value in machine.environment.items() if name != "format")
    ceilings = machine.ceilings
    products = new_table(("products in", False), ("FLOP/s", True))
    for dtype, rate in ceilings.flops.items():
        products.add_row(text(dtype), text(flops_text(round(rate))))
    memory = new_table(("work on", True), ("bytes/s", True))
    for size, rate in ceilings.bandwidth:
        memory.add_row(text(bytes_text(size)), text(bytes_text(round(rate))))
    besides = new_table(("besides, in a step", False), ("takes", True))
    for name, seconds in sorted(machine.overheads.items()):
        besides.add_row(text(name), text(seconds_text(seconds)))
    least = f"starting an operator takes at least {seconds_text(ceilings.overhead)}"
    return Group(text(said), products, memory, text(least), besides, text(_timed(machine)))


def _timed(machine: Machine) -> str:
    kinds = Counter(sample.features.kind for sample in machine.samples)
    named = ", ".join(f"{kind} ({count_text(count)})" for kind, count in kinds.most_common(_MOST_KINDS))
    return f"{count_text(len(machine.samples))} operators of {len(kinds)} kinds were timed, most of them {named}"
