"""The audit as JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..audit.claim_row import ClaimRow
    from ..audit.walkthrough import Audit
    from ..compare import ComparisonRow

SCHEMA = 1

_CLAIM_COLUMNS = (
    "id",
    "line",
    "section",
    "layer",
    "phase",
    "quantity",
    "printed",
    "claim",
    "theory",
    "count",
    "measured",
    "arithmetic",
    "verdict",
    "wrong",
    "reason",
)


def audit_json(audit: Audit) -> str:
    """The whole audit: `{"schema", "environment", "summary", "claims", "seconds", "layers", "comparison"}`.

    `seconds` has claims as the clock answers them, `layers` is the ledger of the run, `comparison` its rows with
    verdicts. Shapes are lists; ratios are floats; what
    was not measured is null.
    """
    content = {
        "schema": SCHEMA,
        "environment": dict(audit.environment),
        "summary": audit.summary(),
        "claims": [_claim(entry) for entry in audit.claims],
        "seconds": [_claim(entry) for entry in audit.seconds],
        "layers": [_plain_row(dataclasses.asdict(row)) for row in audit.observed.ledger.rows],
        "comparison": [_plain_row(dataclasses.asdict(row)) for row in audit.layers],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def audit_csv(audit: Audit) -> str:
    """Claims, those of seconds, then layers, one line each, with the columns of the JSON's claims."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _CLAIM_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_cells(_claim(entry)) for entry in (*audit.claims, *audit.seconds))
    writer.writerows(_cells(_layer(row)) for row in audit.layers)
    return buffer.getvalue()


def _claim(entry: ClaimRow) -> dict[str, Any]:
    claim, row = entry.claim, entry.row
    return _plain_row(
        {
            "id": claim.id,
            "line": claim.line,
            "section": claim.section,
            "layer": claim.layer,
            "phase": claim.phase,
            "quantity": row.quantity,
            "printed": claim.printed,
            "claim": claim.value,
            "theory": row.theory,
            "count": row.count,
            "measured": row.measured,
            "arithmetic": row.arithmetic,
            "verdict": row.verdict,
            "wrong": row.wrong,
            "reason": row.reason,
        }
    )


def _layer(row: ComparisonRow) -> dict[str, Any]:
    columns = dataclasses.asdict(row)
    return _plain_row({"layer": columns.pop("path"), **columns})


def _plain_row(row: dict[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    """Values as JSON has them."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    if hasattr(value, "low") and hasattr(value, "high"):
        return [_plain(value.low), _plain(value.high)]
    return value


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: "x".join(map(str, value)) if isinstance(value, list) else value
        for key, value in row.items()
        if key in _CLAIM_COLUMNS
    }
