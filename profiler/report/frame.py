"""Ledgers and comparisons as pandas DataFrames."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from ..ledger import COLUMNS, Ledger


def ledger_frame(ledger: Ledger) -> pd.DataFrame:
    """One row per module path and phase. Integers are pandas' nullable Int64, so that missing is not zero."""
    return _frame([dataclasses.asdict(row) for row in ledger.rows], COLUMNS)


def _frame(rows: Sequence[dict[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(columns)).astype(object)
    for column in frame.columns:
        present = [value for value in frame[column] if value is not None]
        if present and all(isinstance(value, int) and not isinstance(value, bool) for value in present):
            frame[column] = frame[column].astype("Int64")
    return frame
