"""The ledger as files that other programs read as one table: CSV and Parquet."""

from __future__ import annotations

import io
from importlib.util import find_spec

import pandas as pd

from ..errors import UsageError
from ..ledger import Ledger
from .frame import ledger_frame
from .units import shape_text

_SHAPES = ("input_shape", "output_shape")


def ledger_csv(ledger: Ledger, *, inclusive: bool) -> str:
    """The columns of `to_frame()`: shapes as 32x3x224x224, operators without a price apart by spaces. An empty cell
    is what was not measured; the model's own path is empty too."""
    frame = ledger_frame(ledger, inclusive=inclusive)
    for name in _SHAPES:
        frame[name] = frame[name].map(shape_text)
    frame["unpriced"] = frame["unpriced"].map(" ".join)
    return str(frame.to_csv(index=False, lineterminator="\n"))


def ledger_parquet(ledger: Ledger, *, inclusive: bool) -> bytes:
    """The same columns with their types: shapes and operators as lists. Raises UsageError without pyarrow."""
    if find_spec("pyarrow") is None:
        raise UsageError("Parquet files need pyarrow, which is not installed: python -m pip install pyarrow")
    buffer = io.BytesIO()
    _listed(ledger_frame(ledger, inclusive=inclusive)).to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _listed(frame: pd.DataFrame) -> pd.DataFrame:
    for name in (*_SHAPES, "unpriced"):
        frame[name] = frame[name].map(lambda items: None if items is None else list(items))
    return frame
