"""A run against its machine's roofline, as a picture in logarithms and the table behind it."""

from __future__ import annotations

from collections.abc import Sequence

from ....theory.roofline import Ceilings
from ...seconds.roofed import RoofRow
from .columns import Json, figures, table, words


def roofline_view(rows: Sequence[RoofRow], ceilings: Ceilings) -> Json:
    """Rows that took longest first. `peaks` are FLOPs per second by dtype; `slopes` bytes per second, named: the
    fastest that was seen, which is a cache's, and that of the largest size, which is memory's."""
    rows = sorted(rows, key=lambda row: -(row.seconds or 0.0))
    fastest, memory = max(rate for _, rate in ceilings.bandwidth), ceilings.bandwidth[-1][1]
    return {
        "peaks": dict(ceilings.flops),
        "slopes": {"cache": fastest, "memory": memory} if fastest > memory else {"memory": memory},
        "table": _table(rows),
    }


def _table(rows: Sequence[RoofRow]) -> Json:
    """The columns of `run.roofline()`, and the rate that was achieved in products."""
    return table(
        (
            words("path", (row.path for row in rows), label="module", kind="path"),
            {**words("type", (row.type for row in rows)), "more": True},
            words("phase", (row.phase for row in rows)),
            words("bound", (row.bound for row in rows)),
            figures("flops", (row.flops for row in rows), label="product flops", kind="flops"),
            figures("bytes", (row.bytes for row in rows), label="bytes moved", kind="bytes"),
            figures("intensity", (row.intensity for row in rows), label="flops per byte", kind="number"),
            figures("rate", map(_rate, rows), label="flops per second", kind="flops"),
            figures("least_seconds", (row.least_seconds for row in rows), label="at least", kind="seconds"),
            figures("seconds", (row.seconds for row in rows), kind="seconds"),
            figures("share", (row.share for row in rows), label="of the roof", kind="share"),
            {**words("failure", (row.failure or None for row in rows)), "note": True},
            {**words("note", (row.note or None for row in rows)), "note": True},
        )
    )


def _rate(row: RoofRow) -> float | None:
    return row.flops / row.seconds if row.seconds else None
