"""Rows with their children: what a block costs, where the ledger says what each module does itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from .ledger import Row
from .records import PHASES

# Columns that add up over modules. Shapes, calls and types are a module's own.
_ADDITIVE = tuple(
    entry.name for entry in fields(Row) if entry.name not in ("path", "type", "phase", "calls", "unpriced")
    and not entry.name.endswith("shape")
)  # fmt: skip


def including_children(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Each row with the sums over its module and all modules inside it, in the same phase; and rows for modules that do
    nothing themselves in a phase in which modules inside them do.

    Parameters that several modules of a block share are added for each. A figure that no module has stays missing.
    """
    rows = _with_containers(tuple(rows))
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    unpriced: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for path in _with_parents(row.path):
            key = (path, row.phase)
            unpriced.setdefault(key, set()).update(row.unpriced)
            total = sums.setdefault(key, {})
            for name in _ADDITIVE:
                figure = getattr(row, name)
                if figure is not None:
                    total[name] = total.get(name, 0) + figure
    return tuple(_with(row, sums[row.path, row.phase], unpriced[row.path, row.phase]) for row in rows)


def _with_containers(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """In the order of modules, then phases."""
    types = {row.path: row.type for row in reversed(rows)}
    found = {(row.path, row.phase): row for row in rows}
    for row in rows:
        for path in _with_parents(row.path):
            if path in types:
                found.setdefault((path, row.phase), Row(path=path, type=types[path], phase=row.phase))
    order = {path: place for place, path in enumerate(dict.fromkeys(row.path for row in rows))}
    return tuple(sorted(found.values(), key=lambda row: (order[row.path], PHASES.index(row.phase))))


def _with(row: Row, total: dict[str, Any], unpriced: set[str]) -> Row:
    return replace(row, unpriced=tuple(sorted(unpriced)), **total)


def _with_parents(path: str) -> Iterable[str]:
    """`a.b` -> `a.b`, `a`, "" """
    yield path
    while path:
        path = path.rpartition(".")[0]
        yield path
