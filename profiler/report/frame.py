"""Ledgers and comparisons as pandas DataFrames."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..compare import COLUMNS as COMPARISON_COLUMNS
from ..compare import ComparisonRow
from ..ledger import COLUMNS as ROW_COLUMNS
from ..ledger import Ledger


def ledger_frame(ledger: Ledger) -> pd.DataFrame:
    """One row per module path and phase. Integers are pandas' nullable Int64, so that missing is not zero."""
    return _frame([dataclasses.asdict(row) for row in ledger.rows], ROW_COLUMNS)


def comparison_frame(rows: Sequence[ComparisonRow]) -> pd.DataFrame:
    """One row per path, phase and quantity. Figures are of mixed kinds (integers, shapes), and None where silent."""
    return _frame([dataclasses.asdict(row) for row in rows], COMPARISON_COLUMNS)


def _frame(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({name: _series([row[name] for row in rows]) for name in columns})


def _series(values: list[Any]) -> pd.Series[Any]:
    present = [value for value in values if value is not None]
    integers = bool(present) and all(type(value) is int for value in present)
    return pd.Series(values, dtype="Int64" if integers else object)
