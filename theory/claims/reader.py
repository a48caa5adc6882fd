"""Reads claims from the tab-separated table they are kept in. Every malformed row is refused, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import TypeVar

from .quantities import RULES, UNITS
from .records import PHASES, RELATIONS, Claim, Number, Range, Shape, Value, whole

WALKTHROUGH = "walkthrough.tsv"
COLUMNS = (
    "id", "line", "cell", "occurrence", "section", "layer", "phase",
    "quantity", "relation", "printed", "value", "precision", "unit", "parts",
)  # fmt: skip
T = TypeVar("T")


class ClaimError(ValueError):
    """A table of claims that cannot be read. The message names the row, the column and what stands there."""


@cache
def load_claims() -> tuple[Claim, ...]:
    """The walkthrough's claims, in the document's order."""
    return read_claims(files(__package__).joinpath(WALKTHROUGH).read_text(encoding="utf-8"))


def read_claims(text: str) -> tuple[Claim, ...]:
    """The claims of a table: a header of `COLUMNS`, then one claim a line. Raises ClaimError."""
    header, *lines = text.splitlines() or [""]
    if tuple(header.split("\t")) != COLUMNS:
        raise ClaimError(f"row 1: the header must be {', '.join(COLUMNS)}, got {header!r}")
    claims = tuple(_read(number, line) for number, line in enumerate(lines, start=2))
    _check_ids(claims)
    return claims


def _read(number: int, line: str) -> Claim:
    cells = line.split("\t")
    if len(cells) != len(COLUMNS):
        raise ClaimError(f"row {number}: expected {len(COLUMNS)} tab-separated columns, got {len(cells)}")
    row = dict(zip(COLUMNS, cells, strict=True))

    def get(column: str, read: Callable[[str], T]) -> T:
        try:
            return read(row[column])
        except ValueError as error:
            raise ClaimError(f"row {number} ({row['id']}): {column} {row[column]!r}: {error}") from error

    claim = Claim(
        id=get("id", _present),
        line=get("line", _positive),
        cell=get("cell", _optional(_positive)),
        occurrence=get("occurrence", _positive),
        section=get("section", _present),
        layer=row["layer"],
        phase=get("phase", _one_of(PHASES)),
        quantity=get("quantity", _one_of(tuple(UNITS))),
        relation=get("relation", _one_of(RELATIONS)),
        printed=get("printed", _present),
        value=get("value", _value(row["unit"], row["relation"])),
        precision=get("precision", _optional(_number)),
        unit=get("unit", _one_of((UNITS[row["quantity"]],))),
        parts=tuple(row["parts"].split()),
    )
    get("precision", lambda _: _check_precision(claim))
    get("id", lambda _: _check_id(claim))
    return claim


def _present(text: str) -> str:
    if not text or text != text.strip():
        raise ValueError("expected text, without spaces around it")
    return text


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]*", text):
        raise ValueError("expected a positive integer")
    return int(text)


def _number(text: str) -> Number:
    """An exact decimal without separators: an int where it is whole, else a Fraction."""
    try:
        return whole(Fraction(Decimal(text)))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ValueError("expected an exact decimal number, without separators") from error


def _shape(text: str) -> Shape:
    """(32, 128), and (10,) for one dimension."""
    if not re.fullmatch(r"\(\d+,\)|\(\d+(, \d+)+\)", text):
        raise ValueError("expected a shape such as (32, 128) or (10,)")
    return tuple(int(size) for size in re.findall(r"\d+", text))


def _range(text: str) -> Range:
    low, separator, high = text.partition("..")
    if not separator:
        raise ValueError("expected a range such as 8..9")
    return Range(_number(low), _number(high))


def _value(unit: str, relation: str) -> Callable[[str], Value]:
    if unit == "rule":
        return _one_of(tuple(RULES))
    if unit == "shape":
        return _shape
    return _range if relation == "range" else _number


def _optional(read: Callable[[str], T]) -> Callable[[str], T | None]:
    return lambda text: read(text) if text else None


def _one_of(known: Sequence[T]) -> Callable[[str], T]:
    def read(text: str) -> T:
        for each in known:
            if each == text:
                return each
        raise ValueError(f"expected one of {', '.join(repr(each) for each in known)}")

    return read


def _ends(value: Value) -> tuple[Number, ...]:
    """The numbers of a value: none for a shape or a rule."""
    if isinstance(value, Range):
        return value.low, value.high
    return (value,) if isinstance(value, int | Fraction) else ()


def _check_precision(claim: Claim) -> None:
    numbers = _ends(claim.value)
    if (claim.precision is None) is bool(numbers):
        raise ValueError("numbers have a precision; shapes and rules have none")
    if claim.precision is not None:
        if claim.precision <= 0:
            raise ValueError("expected a precision above 0")
        if any(Fraction(number) % claim.precision for number in numbers):
            raise ValueError(f"the value {claim.value} is no multiple of it")


def _check_id(claim: Claim) -> None:
    named = (f"L{claim.line:03}", claim.layer or "network", claim.phase, claim.quantity)
    start = ".".join(part for part in named if part)
    if not claim.id.startswith(start):
        raise ValueError(f"the id must start with line, layer, phase and quantity: {start}")


def _check_ids(claims: Iterable[Claim]) -> None:
    """Ids are given once; parts stand before what adds them up, so that nothing adds up itself."""
    units: dict[str, str] = {}
    for claim in claims:
        if claim.id in units:
            raise ClaimError(f"{claim.id}: this id is given twice")
        for part in claim.parts:
            if part not in units:
                raise ClaimError(f"{claim.id}: parts: there is no claim {part!r} before it")
            if units[part] != claim.unit:
                raise ClaimError(f"{claim.id}: parts: {part} is in {units[part]}, not {claim.unit}")
        units[claim.id] = claim.unit
