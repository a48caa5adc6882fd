"""A run's tables, as columns: the ledger, theory against run, the walkthrough's claims, a bill, the environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...compare import ComparisonRow
from ...ledger import Ledger, Row
from ...memory import Memory
from ...rollup import including_children
from ..terminal import ORDER
from .columns import Json, Kind, figures, shapes, table, values, words

if TYPE_CHECKING:
    from ...audit.claim_row import ClaimRow

_NAMES = tuple(field.name for field in dataclasses.fields(Row))

# The ledger's columns that are shown at once; the rest are there when asked for.
_USUAL = (
    "path type phase calls output_shape parameters activation_bytes saved_bytes gradient_bytes flops seconds share "
    "unpriced"
).split()

_KINDS: dict[str, Kind] = {"flops": "flops", "seconds": "seconds", "share": "share"}


def ledger_table(ledger: Ledger) -> Json:
    """The columns of `to_frame()` in which anything is known; `inclusive` has those of `to_frame(inclusive=True)`."""
    rows = including_children(ledger.rows)
    inclusive = table(_known(_ledger_column(name, rows) for name in _NAMES))
    own = table(_ledger_column(column["name"], ledger.rows) for column in inclusive["columns"])
    return {**own, "inclusive": inclusive}


def _ledger_column(name: str, rows: Sequence[Row]) -> Json:
    column = _filled(name, [getattr(row, name) for row in rows])
    return column if name in _USUAL else {**column, "more": True}


def _filled(name: str, found: Sequence[Any]) -> Json:
    if name == "unpriced":
        return words(name, (", ".join(each) or None for each in found))
    if name.endswith("shape"):
        return shapes(name, found)
    if name in ("path", "type", "phase"):
        return words(
            name, found, label="module" if name == "path" else name, kind="path" if name == "path" else "words"
        )
    return figures(name, found, kind=_kind(name))


def _kind(name: str) -> Kind:
    unit = name.rpartition("_")[2]
    return "bytes" if unit == "bytes" else _KINDS.get(unit, "integer")


def comparison_table(rows: Iterable[ComparisonRow]) -> Json:
    """The columns of `compare().to_frame()` but those of claims, the gravest verdicts first."""
    rows = by_gravity(rows)
    return table(
        (
            words("path", (row.path for row in rows), label="module", kind="path"),
            words("phase", (row.phase for row in rows)),
            words("quantity", (row.quantity for row in rows)),
            *_witnesses(rows),
            words("verdict", (row.verdict for row in rows)),
            *_reasons(rows),
        )
    )


def _witnesses(rows: Sequence[ComparisonRow]) -> Iterable[Json]:
    names = ("theory", "count", "measured")
    return _known(values(name, (getattr(row, name) for row in rows)) for name in names)


def _reasons(rows: Sequence[ComparisonRow]) -> Iterable[Json]:
    return _known(
        (
            words("wrong", (row.wrong for row in rows), label="who errs"),
            {**words("reason", (row.reason or None for row in rows)), "note": True},
        )
    )


def _known(columns: Iterable[Json]) -> Iterable[Json]:
    """Those in which there is anything."""
    return (column for column in columns if any(cell is not None for cell in column["cells"]))


def by_gravity(rows: Iterable[ComparisonRow]) -> list[ComparisonRow]:
    """What does not agree first, otherwise in order."""
    return sorted(rows, key=lambda row: ORDER.index(row.verdict))


def claims_table(claims: Iterable[ClaimRow]) -> Json:
    """The walkthrough's claims with their verdicts, the gravest first."""
    claims = sorted(claims, key=lambda entry: ORDER.index(entry.row.verdict))
    rows = [entry.row for entry in claims]
    return table(
        (
            figures("line", (entry.claim.line for entry in claims)),
            {**words("section", (entry.claim.section for entry in claims)), "more": True},
            words("layer", (entry.claim.layer for entry in claims), kind="path"),
            words("phase", (entry.claim.phase or None for entry in claims)),
            words("quantity", (row.quantity for row in rows)),
            words("printed", (entry.claim.printed for entry in claims), label="claimed"),
            words("verdict", (row.verdict for row in rows)),
            words("arithmetic", (row.arithmetic for row in rows)),
            *_witnesses(rows),
            *_reasons(rows),
        )
    )


def bill_table(memory: Memory) -> Json:
    """What was live at the peak: `memory.bill`."""
    rows = sorted(((*key, size) for key, size in memory.stream.bill().items()), key=lambda row: (-row[2], row[0]))
    return table(
        (
            words("path", (path for path, _, _ in rows), label="module", kind="path"),
            words("category", (category for _, category, _ in rows)),
            figures("bytes", (size for _, _, size in rows), kind="bytes"),
        )
    )


def not_compared_table(reasons: Mapping[str, str]) -> Json:
    """Modules without a closed form that fits, and why."""
    return table(
        (
            words("path", reasons, label="module", kind="path"),
            words("reason", reasons.values()),
        )
    )


def environment_table(facts: Mapping[str, Any]) -> Json:
    """What the run took place on."""
    said = ("not known" if value is None else str(value) for value in facts.values())
    return table((words("fact", (name.replace("_", " ") for name in facts)), words("value", said)))
