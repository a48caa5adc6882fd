"""Malformed tables are refused, and the message names the row, the column and what stands there."""

from __future__ import annotations

from fractions import Fraction

import pytest

from torchtally.theory.claims.reader import COLUMNS, ClaimError, read_claims
from torchtally.theory.claims.records import Claim, Range

GOOD = {
    "id": "L007.fc.forward.activation_bytes",
    "line": "7",
    "cell": "",
    "occurrence": "1",
    "section": "Forward / FC",
    "layer": "fc",
    "phase": "forward",
    "quantity": "activation_bytes",
    "relation": "equal",
    "printed": "1.25 KB",
    "value": "1280",
    "precision": "10.24",
    "unit": "bytes",
    "parts": "",
}
SHAPE = {"id": "L007.fc.forward.output_shape", "quantity": "output_shape", "unit": "shape", "precision": ""}


def table(*rows: dict[str, str]) -> str:
    return "\n".join("\t".join(cells) for cells in [COLUMNS, *(tuple(row.values()) for row in rows)]) + "\n"


def one(**changes: str) -> Claim:
    (claim,) = read_claims(table(GOOD | changes))
    return claim


def test_a_row_becomes_a_claim() -> None:
    assert one() == Claim(
        id="L007.fc.forward.activation_bytes",
        line=7,
        cell=None,
        occurrence=1,
        section="Forward / FC",
        layer="fc",
        phase="forward",
        quantity="activation_bytes",
        relation="equal",
        printed="1.25 KB",
        value=1280,
        precision=Fraction(1024, 100),
        unit="bytes",
    )


def test_values_are_exact() -> None:
    assert one(value="23278387.2", precision="104857.6").value == Fraction(232783872, 10)
    assert one(value="8..9", precision="1", relation="range").value == Range(8, 9)
    assert one(value="(32, 10)", **SHAPE).value == (32, 10)
    assert one(value="(10,)", **SHAPE).value == (10,)


def test_an_empty_table_has_no_claims() -> None:
    assert read_claims(table()) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"line": "seven"}, "row 2 .*: line 'seven': expected a positive integer"),
        ({"line": "0"}, "line '0': expected a positive integer"),
        ({"cell": "-1"}, "cell '-1': expected a positive integer"),
        ({"occurrence": ""}, "occurrence '': expected a positive integer"),
        ({"section": ""}, "section '': expected text"),
        ({"printed": " 1.25 KB"}, "printed ' 1.25 KB': expected text, without spaces around it"),
        ({"phase": "sideways"}, "phase 'sideways': expected one of '', 'forward', 'backward', 'training'"),
        ({"quantity": "bites"}, "quantity 'bites': expected one of"),
        (
            {"relation": "roughly"},
            "relation 'roughly': expected one of 'equal', 'about', 'at least', 'range'",
        ),
        ({"unit": "FLOPs"}, "unit 'FLOPs': expected one of 'bytes'"),
        ({"value": "1,280"}, "value '1,280': expected an exact decimal number, without separators"),
        ({"value": "nan"}, "value 'nan': expected an exact decimal number"),
        ({"value": "inf"}, "value 'inf': expected an exact decimal number"),
        ({"value": "(32, 10)"}, r"value '\(32, 10\)': expected an exact decimal number"),
        ({"value": "8..9"}, "value '8..9': expected an exact decimal number"),
        ({"relation": "range"}, "value '1280': expected a range such as 8..9"),
        ({"relation": "range", "value": "9..8"}, "value '9..8': a range goes from low to high"),
        ({"value": "32, 10", **SHAPE}, "value '32, 10': expected a shape"),
        ({"value": "(10)", **SHAPE}, "value '.10.': expected a shape"),
        ({"precision": ""}, "precision '': numbers have a precision"),
        ({"precision": "0"}, "precision '0': expected a precision above 0"),
        ({"precision": "1000"}, "precision '1000': the value 1280 is no multiple of it"),
        ({"value": "(10,)", **SHAPE, "precision": "1"}, "precision '1': .* shapes and rules have none"),
        ({"id": "L008.fc.forward.activation_bytes"}, "id 'L008.*the id must start with .*: L007.fc.forward"),
        ({"id": ""}, "id '': expected text"),
        ({"parts": "L001.fc.flops"}, "parts: there is no claim 'L001.fc.flops' before it"),
        ({"parts": GOOD["id"]}, "parts: there is no claim .* before it"),
    ],
)
def test_what_is_malformed_is_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ClaimError, match=message):
        one(**changes)


def test_a_rule_must_be_a_known_one() -> None:
    rule = {"id": "L007.fc.forward.rule", "quantity": "rule", "unit": "rule", "precision": ""}
    assert one(value="linear.weight_gradient", **rule).value == "linear.weight_gradient"
    with pytest.raises(ClaimError, match=r"value 'linear\.magic': expected one of"):
        one(value="linear.magic", **rule)


def test_ids_are_given_once() -> None:
    with pytest.raises(ClaimError, match=r"L007\.fc\.forward\.activation_bytes: this id is given twice"):
        read_claims(table(GOOD, GOOD))


def test_parts_have_the_unit_of_the_whole() -> None:
    part = GOOD | SHAPE | {"value": "(32, 10)"}
    with pytest.raises(ClaimError, match=r"parts: L007\.fc\.forward\.output_shape is in shape, not bytes"):
        read_claims(table(part, GOOD | {"parts": part["id"]}))


def test_a_row_has_all_columns() -> None:
    with pytest.raises(ClaimError, match="row 3: expected 14 tab-separated columns, got 1"):
        read_claims(table(GOOD) + "L008\n")


@pytest.mark.parametrize("text", ["", "id,line\n", "id\tline\n"])
def test_the_header_names_the_columns(text: str) -> None:
    with pytest.raises(ClaimError, match="row 1: the header must be id, line, cell"):
        read_claims(text)
