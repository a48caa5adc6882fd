"""Two runs side by side, for a terminal: totals first, then the layers that changed most."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from ..diff import Change, Difference
from .terminal import new_table, text
from .units import bytes_text, count_text, flops_text, shape_text

_MOST = 40


def difference_view(found: Difference, *, everything: bool = False) -> RenderableType:
    """Totals, layers, what is new or gone, and what else may explain it."""
    notes = [text(f"note: {note}", "yellow") for note in found.notes]
    if not found.rows:
        return Group(text("no figure differs", "bold green"), *notes)
    layers = [change for change in found.rows if change.path is not None]
    shown = layers if everything else sorted(layers, key=_weight)[:_MOST]
    parts: list[RenderableType] = []
    if found.totals:
        parts.append(_table("total", found.totals))
    parts += [
        text(f"{word}: {_paths(paths)}") for word, paths in (("new", found.added), ("gone", found.removed)) if paths
    ]
    if shown:
        parts.append(_table("module", shown))
    if len(shown) < len(layers):
        parts.append(text(f"{len(layers) - len(shown):,} more figures differ; --all shows them", "dim"))
    return Group(*parts, *notes)


def _weight(change: Change) -> float:
    """The largest first: by how much of the larger figure changed, words before numbers."""
    difference = change.difference
    return float("-inf") if difference is None else -abs(difference)


def _table(what: str, changes: Sequence[Change]) -> Table:
    table = new_table((what, False), ("quantity", False), ("before", True), ("after", True), ("difference", True))
    for change in changes:
        table.add_row(
            text("" if change.path is None else change.path or "(model)"),
            text(change.quantity.replace("_", " ")),
            text(_figure(change.quantity, change.before)),
            text(_figure(change.quantity, change.after)),
            text(_difference(change)),
        )
    return table


def _figure(quantity: str, value: object) -> str:
    if isinstance(value, tuple):
        return shape_text(value)
    return _number(quantity, value) if isinstance(value, int) else str(value or "")


def _number(quantity: str, value: int) -> str:
    """In full where it is small, so that a small difference shows."""
    if quantity.endswith("bytes"):
        return bytes_text(value)
    return flops_text(value) if quantity.endswith("flops") else count_text(value)


def _difference(change: Change) -> str:
    difference = change.difference
    if difference is None:
        return ""
    share = f" ({difference / change.before:+.1%})" if isinstance(change.before, int) and change.before else ""
    return f"{'+' if difference > 0 else '-'}{_number(change.quantity, abs(difference))}{share}"


def _paths(paths: Sequence[str]) -> str:
    more = len(paths) - 8
    return ", ".join(paths[:8]) + (f" and {more} more" if more > 0 else "")
