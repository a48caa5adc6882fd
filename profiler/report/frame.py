"""Ledgers and comparisons as pandas DataFrames."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..compare import COLUMNS as COMPARISON_COLUMNS
from ..compare import ComparisonRow
from ..ledger import COLUMNS as ROW_COLUMNS
from ..ledger import Ledger, Row
from ..memory import Memory
from ..rollup import including_children
from ..seconds.roofed import ROOF_COLUMNS, RoofRow
from ..seconds.timing import Timing

_KINDS = {"int | None": "Int64", "float | None": "Float64"}
_NULLABLE = {entry.name: _KINDS[str(entry.type)] for entry in dataclasses.fields(Row) if str(entry.type) in _KINDS}


def ledger_frame(ledger: Ledger, *, inclusive: bool = False) -> pd.DataFrame:
    """One row per module path and phase, with its children's figures where `inclusive`. Figures are of pandas'
    nullable Int64 and Float64, so that missing is not zero, and stay so in a column where nothing was measured."""
    rows = including_children(ledger.rows) if inclusive else ledger.rows
    frame = _frame([dataclasses.asdict(row) for row in rows], ROW_COLUMNS)
    return frame.astype(_NULLABLE)


def comparison_frame(rows: Sequence[ComparisonRow]) -> pd.DataFrame:
    """One row per path, phase and quantity. Figures are of mixed kinds (integers, shapes), and None where silent."""
    return _frame([dataclasses.asdict(row) for row in rows], COMPARISON_COLUMNS)


def _frame(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Columns of objects: pandas would make floats of integers with gaps between them."""
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in columns})


def bill_frame(memory: Memory) -> pd.DataFrame:
    """What was live at the peak, by module path and category, largest first."""
    rows = sorted(((*key, size) for key, size in memory.stream.bill().items()), key=lambda row: (-row[2], row[0]))
    return pd.DataFrame(rows, columns=["path", "category", "bytes"])


def timeline_frame(memory: Memory) -> pd.DataFrame:
    """A row per event of the stream."""
    stream = memory.stream
    rows = [
        (number, event.path, event.phase, block.category, block.operator, stream.signed(event), live)
        for number, (event, live) in enumerate(zip(stream.events, stream.live_bytes[1:], strict=True))
        for block in (stream.blocks[event.block],)
    ]
    return pd.DataFrame(rows, columns=["event", "path", "phase", "category", "operator", "bytes", "live_bytes"])


def timing_frame(timing: Timing) -> pd.DataFrame:
    """A row per place of the step."""
    rows = [
        (path, what, timing.spent(path, what), timing.share(path, what), sample.median, sample.spread)
        for path, what in timing.places
        for sample in (timing.sample(path, what),)
    ]
    return pd.DataFrame(rows, columns=["path", "phase", "seconds", "share", "median", "spread"])


def roofline_frame(rows: Sequence[RoofRow]) -> pd.DataFrame:
    """A row per module path and phase; what was not measured is missing."""
    frame = _frame([dataclasses.asdict(row) for row in rows], ROOF_COLUMNS)
    figures = dict.fromkeys(("intensity", "least_seconds", "seconds", "share"), "Float64")
    return frame.astype({"flops": "Int64", "bytes": "Int64", **figures})
