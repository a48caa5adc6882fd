"""The module tree behind the icicle, from rows made by hand."""

from __future__ import annotations

from typing import Any

from torchtally.profiler.ledger import Coverage, Ledger, Row
from torchtally.profiler.report.html.modules import module_tree

NOTHING_LEFT_OUT = Coverage(calls=0, bytes=0, unpriced=())


def tree(*rows: Row) -> Any:
    return module_tree(Ledger(rows=rows, totals={}, coverage=NOTHING_LEFT_OUT))


def measure(content: Any, name: str) -> dict[str, list[Any]]:
    (found,) = (each["phases"] for each in content["measures"] if each["name"] == name)
    return dict(found)


def test_a_module_has_all_that_is_inside_it() -> None:
    content = tree(
        Row(path="", type="Net", phase="forward", flops=1),
        Row(path="a", type="Block", phase="forward", flops=10),
        Row(path="a.b", type="Linear", phase="forward", flops=100),
        Row(path="c", type="Linear", phase="forward", flops=1000),
    )
    assert content["paths"] == ["", "a", "a.b", "c"]
    assert content["parents"] == [None, 0, 1, 0]
    assert measure(content, "flops") == {"forward": [1 + 10 + 100 + 1000, 10 + 100, 100, 1000]}


def test_a_module_that_did_nothing_itself_has_what_is_inside_it() -> None:
    content = tree(
        Row(path="", type="Net", phase="forward", flops=0),
        Row(path="a", type="Linear", phase="forward", flops=2),
        Row(path="a", type="Linear", phase="backward", flops=4),
    )
    assert measure(content, "flops") == {"forward": [2, 2], "backward": [4, 4]}


def test_a_name_with_a_parent_that_is_no_module() -> None:
    content = tree(
        Row(path="", type="Net", phase="forward"),
        Row(path="heads.x.proj", type="Linear", phase="forward", flops=3),
    )
    assert content["parents"] == [None, 0]
    assert measure(content, "flops") == {"forward": [3, 3]}


def test_unknown_is_null_and_a_column_without_anything_has_no_phase() -> None:
    content = tree(
        Row(path="", type="Net", phase="forward", flops=1),
        Row(path="a", type="Linear", phase="forward"),
    )
    assert measure(content, "flops") == {"forward": [1, None]}
    assert measure(content, "seconds") == {}


def test_a_ledger_without_the_model_gets_one() -> None:
    content = tree(Row(path="a", type="Linear", phase="forward", flops=5))
    assert content["paths"] == ["", "a"]
    assert measure(content, "flops") == {"forward": [5, 5]}


def test_types_and_outputs() -> None:
    content = tree(
        Row(path="", type="Net", phase="forward", output_shape=(2, 3)),
        Row(path="a", type="Linear", phase="forward"),
    )
    assert [content["types"]["words"][cell] for cell in content["types"]["cells"]] == ["Net", "Linear"]
    assert content["outputs"]["words"] == ["2x3"]
    assert content["outputs"]["cells"] == [0, None]
