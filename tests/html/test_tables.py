"""The tables behind the page, from rows made by hand."""

from __future__ import annotations

from typing import Any

from torchtally.profiler.compare import ComparisonRow
from torchtally.profiler.ledger import Coverage, Ledger, Row
from torchtally.profiler.report.html.roofline import roofline_view
from torchtally.profiler.report.html.tables import comparison_table, environment_table, ledger_table
from torchtally.profiler.seconds.roofed import RoofRow
from torchtally.profiler.verdict import Verdict
from torchtally.theory.roofline import Ceilings


def cells(table: Any, name: str) -> list[Any]:
    (column,) = (each for each in table["columns"] if each["name"] == name)
    return [column["words"][cell] if "words" in column and cell is not None else cell for cell in column["cells"]]


def names(table: Any) -> list[str]:
    return [column["name"] for column in table["columns"]]


# The ledger -----------------------------------------------------------------------------------------------------------

LEDGER = Ledger(
    rows=(
        Row(path="", type="Net", phase="forward", flops=1),
        Row(path="a", type="Linear", phase="forward", flops=20, matmul_flops=16, output_shape=(2, 3)),
        Row(path="a", type="Linear", phase="backward", flops=40, unpriced=("aten.x.default", "aten.y.default")),
    ),
    totals={},
    coverage=Coverage(calls=0, bytes=0, unpriced=()),
)


def test_columns_without_anything_are_left_out_and_the_others_are_the_rows() -> None:
    table = ledger_table(LEDGER)
    assert names(table) == ["path", "type", "phase", "output_shape", "flops", "matmul_flops", "unpriced"]
    assert table["length"] == 3
    assert cells(table, "flops") == [1, 20, 40]
    assert cells(table, "matmul_flops") == [None, 16, None]
    assert cells(table, "output_shape") == [None, "2x3", None]
    assert cells(table, "unpriced") == [None, None, "aten.x.default, aten.y.default"]


def test_the_other_table_has_sums_over_what_is_inside() -> None:
    table = ledger_table(LEDGER)
    whole = table["inclusive"]
    assert names(whole) == names(table)
    rows = zip(cells(whole, "path"), cells(whole, "phase"), cells(whole, "flops"), strict=True)
    assert {(path, phase): flops for path, phase, flops in rows} == {
        ("", "forward"): 1 + 20,
        ("", "backward"): 40,
        ("a", "forward"): 20,
        ("a", "backward"): 40,
    }


def test_columns_that_are_not_asked_for_every_day_wait() -> None:
    columns = {column["name"]: column for column in ledger_table(LEDGER)["columns"]}
    assert columns["matmul_flops"]["more"] is True
    assert "more" not in columns["flops"]


# Theory against run ---------------------------------------------------------------------------------------------------


def row(path: str, verdict: Verdict, **more: Any) -> ComparisonRow:
    return ComparisonRow(path=path, phase="forward", quantity="flops", verdict=verdict, **more)


def test_the_gravest_comes_first_and_otherwise_the_order_stays() -> None:
    verdicts: tuple[Verdict, ...] = ("agrees", "contradicted", "agrees", "unexplained", "not measured", "within")
    table = comparison_table(row(str(number), verdict) for number, verdict in enumerate(verdicts))
    assert cells(table, "path") == ["3", "1", "4", "5", "0", "2"]


def test_a_witness_that_never_spoke_has_no_column() -> None:
    table = comparison_table([row("a", "agrees", theory=5, count=5), row("b", "agrees", theory=(2, 3), count=(2, 3))])
    assert names(table) == ["path", "phase", "quantity", "theory", "count", "verdict"]
    assert cells(table, "theory") == [5, "2x3"]


def test_a_reason_stands_below_its_row() -> None:
    table = comparison_table([row("a", "contradicted", theory=5, count=6, wrong="theory", reason="off by one")])
    (reason,) = (column for column in table["columns"] if column["name"] == "reason")
    assert reason["note"] is True
    assert cells(table, "reason") == ["off by one"]
    assert cells(table, "wrong") == ["theory"]


def test_what_is_not_known_of_the_environment_is_said() -> None:
    table = environment_table({"cuda": None, "cpu_capability": "AVX2", "threads": 3})
    assert cells(table, "fact") == ["cuda", "cpu capability", "threads"]
    assert cells(table, "value") == ["not known", "AVX2", "3"]


# The roofline ---------------------------------------------------------------------------------------------------------


def roofed(path: str, flops: int, seconds: float | None) -> RoofRow:
    return RoofRow(
        path=path,
        type="Linear",
        phase="forward",
        flops=flops,
        bytes=10,
        intensity=flops / 10,
        bound="compute",
        least_seconds=0.5,
        seconds=seconds,
        share=None if seconds is None else 0.5 / seconds,
        failure="",
        note="",
    )


def test_rates_are_flops_over_seconds_and_the_longest_comes_first() -> None:
    ceilings = Ceilings(flops={"float32": 100.0}, bandwidth=((1, 7.0), (2, 30.0), (4, 20.0)), overhead=1e-6)
    view = roofline_view([roofed("a", 10, 2.0), roofed("b", 30, None), roofed("c", 40, 4.0)], ceilings)
    assert cells(view["table"], "path") == ["c", "a", "b"]
    assert cells(view["table"], "rate") == [40 / 4.0, 10 / 2.0, None]
    assert view["peaks"] == {"float32": 100.0}
    assert view["slopes"] == {"cache": 30.0, "memory": 20.0}


def test_memory_without_a_faster_cache_is_one_slope() -> None:
    ceilings = Ceilings(flops={"float32": 100.0}, bandwidth=((1, 7.0), (2, 30.0)), overhead=1e-6)
    assert roofline_view([], ceilings)["slopes"] == {"memory": 30.0}
