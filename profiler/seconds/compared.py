"""Seconds as rows of a comparison: what was measured, against the least that the machine allows."""

from __future__ import annotations

from collections.abc import Iterable

from ..compare import ComparisonRow
from .roofed import RoofRow


def seconds_rows(roofs: Iterable[RoofRow]) -> Iterable[ComparisonRow]:
    """A row for each module and phase that was timed. `theory` has the roofline's least seconds, which a step can only
    exceed; where it was beaten, theory or calibration errs, and never the clock."""
    return (_row(roof) for roof in roofs if roof.seconds is not None and roof.share is not None)


def _row(roof: RoofRow) -> ComparisonRow:
    return ComparisonRow(
        path=roof.path,
        phase=roof.phase,
        quantity="seconds",
        theory=roof.least_seconds,
        measured=roof.seconds,
        verdict="contradicted" if roof.failure else "agrees",
        wrong="theory" if roof.failure else None,
        reason=roof.failure or f"the least, bound by {roof.bound}, is {roof.share:.0%} of it",
    )
