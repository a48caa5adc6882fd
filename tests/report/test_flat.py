"""CSV and Parquet, as other programs read them."""

from __future__ import annotations

import csv
import io
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from torchtally.profiler.errors import UsageError
from torchtally.profiler.report import flat

from .runs import CLASSES, OUT, SIDE, N, trained


def test_csv_has_the_frame_s_rows(tmp_path: Path) -> None:
    run = trained()
    text = run.to_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == text.encode()
    rows = list(csv.DictReader(io.StringIO(text)))
    frame = run.to_frame()
    assert list(rows[0]) == list(frame.columns) and len(rows) == len(frame)
    linear = next(row for row in rows if (row["path"], row["phase"]) == ("3", "forward"))
    assert (linear["input_shape"], linear["output_shape"]) == (f"{N}x{OUT * SIDE * SIDE}", f"{N}x{CLASSES}")
    assert linear["flops"] == str(2 * N * OUT * SIDE * SIDE * CLASSES)
    assert linear["gradient_bytes"] == "", "not measured is empty, and no 0"


def test_csv_with_children() -> None:
    rows = list(csv.DictReader(io.StringIO(trained().to_csv(inclusive=True))))
    whole = next(row for row in rows if (row["path"], row["phase"]) == ("", "forward"))
    assert whole["flops"] == str(trained().totals["forward_flops"])


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow")
def test_parquet_keeps_types(tmp_path: Path) -> None:
    run = trained()
    run.to_parquet(tmp_path / "a.parquet")
    frame = pd.read_parquet(tmp_path / "a.parquet")
    linear = frame[(frame.path == "3") & (frame.phase == "forward")].iloc[0]
    assert list(linear.output_shape) == [N, CLASSES] and linear.flops == 2 * N * OUT * SIDE * SIDE * CLASSES
    assert frame.gradient_bytes.isna().any() and frame.flops.dtype == "Int64"


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"need pyarrow.*pip install pyarrow"):
        trained().to_parquet(tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []
