"""A ledger with seconds: each row has those of its module and phase."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..ledger import Ledger, Row
from ..records import PHASES
from .timing import Timing


def with_seconds(ledger: Ledger, timing: Timing) -> Ledger:
    """The same ledger, and rows of their own for phases that the clock alone saw: autograd adds gradients without an
    operator, or a module's range is all there is of it."""
    rows: dict[str, list[Row]] = {}
    for row in ledger.rows:
        rows.setdefault(row.path, []).append(_timed(row, timing))
    for path, phase in timing.places:
        known = rows.setdefault(path, [])
        if phase in PHASES and all(row.phase != phase for row in known):
            type = known[0].type if known else ""
            known.append(_timed(Row(path=path, type=type, phase=phase), timing))
    return replace(ledger, rows=tuple(row for found in rows.values() for row in _in_order(found)), timing=timing)


def _timed(row: Row, timing: Timing) -> Row:
    if (row.path, row.phase) not in timing.places:
        return row
    return replace(row, seconds=timing.spent(row.path, row.phase), share=timing.share(row.path, row.phase))


def _in_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: PHASES.index(row.phase))
