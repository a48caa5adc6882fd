"""A claim of the document with its verdict."""

from __future__ import annotations

from dataclasses import dataclass

from ...theory.claims.records import Claim
from ..compare import ComparisonRow


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimRow:
    """A claim with its two answers: does it follow (`row.arithmetic`), and does it hold in the run (`row.verdict`)?

    `cause` is the part of the reason that it may share with other claims; `row.reason` is the whole.
    """

    claim: Claim
    row: ComparisonRow
    cause: str
