"""A step's memory for a terminal: its peak, and what is live then."""

from __future__ import annotations

from rich.console import Group, RenderableType

from ...theory.stream import CATEGORIES
from ..memory import Memory
from .terminal import new_table, text
from .units import bytes_text

_MOST = 5


def memory_view(memory: Memory) -> RenderableType:
    """Where the peak is, its bytes by category, the largest entries of the bill, and what could not be seen."""
    peak = memory.peak
    at = f"peak memory: {bytes_text(peak.bytes)} ({peak.bytes:,} B), in {peak.path or '(model)'}, {peak.phase}"
    bill = memory.stream.bill()
    kinds = new_table(("live at the peak", False), ("bytes", True))
    for category in CATEGORIES:
        size = sum(bytes for (_, kind), bytes in bill.items() if kind == category)
        if size:
            kinds.add_row(text(category), text(bytes_text(size)))
    for name, size in memory.reserved:
        kinds.add_row(text(f"beyond that, {name}"), text(bytes_text(size)))
    largest = sorted(bill.items(), key=lambda entry: -entry[1])[:_MOST]
    named = ", ".join(f"{path or '(model)'} {category} {bytes_text(size)}" for (path, category), size in largest)
    return Group(text(at), kinds, text(f"largest: {named}"), *(text(f"note: {note}") for note in memory.notes))
