"""The audit for a terminal: what does not simply agree, findings with one cause together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from ..audit.claim_row import ClaimRow
from ..audit.walkthrough import Audit
from ..verdict import Verdict
from .terminal import ORDER, STYLES, layer_view, new_table, text
from .units import value_text

# line, layer and phase, quantity, claimed, run, arithmetic: together they leave room for a frame in 100 columns.
_WIDTHS = (4, 25, 26, 17, 14, 8)

_BY_THE_CLOCK = "The same claims by the clock: FLOPs and seconds are different claims"

_TITLES: dict[Verdict, str] = {
    "unexplained": "Unexplained: no two witnesses agree against the rest",
    "contradicted": "Contradicted by the run",
    "not measured": "Not measured yet, and what it would take",
    "within": "Within tolerance",
    "agrees": "Agrees",
}


def audit_view(audit: Audit, *, everything: bool = False) -> RenderableType:
    """The summary, then what does not simply agree; with `everything`, all rows."""
    shown = [entry for entry in audit.claims if everything or _notable(entry)]
    layers = [row for row in audit.layers if everything or row.verdict != "agrees"]
    parts: list[RenderableType] = [text(_where(audit), "bold"), _summary(audit)]
    for verdict in ORDER:
        entries = [entry for entry in shown if entry.row.verdict == verdict]
        if entries:
            parts += [
                "",
                text(f"{_title(verdict, everything)} ({len(entries)})", f"bold {STYLES[verdict]}"),
                *_findings(entries),
            ]
    if layers:
        parts += ["", layer_view(layers, title="Layers: theory against the run")]
    if audit.seconds:
        parts += ["", text(_BY_THE_CLOCK, "bold"), _by_the_clock(audit)]
    parts += ["", text(conclusion(audit), "bold green" if audit.ok else "bold red")]
    return Group(*parts)


def _by_the_clock(audit: Audit) -> Table:
    """What the count says of each claim beside what the clock says."""
    counted = {entry.claim.id: entry.row for entry in audit.claims}
    foreseen = [("foreseen", True)] if any(entry.row.theory is not None for entry in audit.seconds) else []
    table = new_table(
        ("line", True),
        ("layer", False),
        ("claimed", False),
        ("counted", True),
        ("clock", True),
        *foreseen,
        ("verdict", False),
    )
    for entry in audit.seconds:
        row, exact = entry.row, counted[entry.claim.id]
        figures = [exact.count if exact.count is not None else exact.measured, row.measured]
        figures += [row.theory] if foreseen else []
        table.add_row(
            str(entry.claim.line),
            f"{row.path or 'network'} {row.phase or _in_words(row.quantity)}",
            str(row.claim),
            *(value_text(figure) for figure in figures),
            text(row.verdict, STYLES[row.verdict]),
        )
    return table


def _title(verdict: Verdict, everything: bool) -> str:
    """Among what is shown for a reason, a claim that agrees is there for its arithmetic."""
    alone = verdict == "agrees" and not everything
    return "Agrees with the run, but not with the document's own rules" if alone else _TITLES[verdict]


def _notable(entry: ClaimRow) -> bool:
    return entry.row.verdict not in ("agrees", "within") or entry.row.arithmetic in ("drift", "wrong")


def _where(audit: Audit) -> str:
    facts, seen = audit.environment, audit.observed
    height, width = seen.config.resolution
    device = facts.get("device_name", facts["device"])
    return (
        f"CNN, N = {seen.batch_size}, {seen.config.in_channels}x{height}x{width}, forward and backward, on {device}, "
        f"torch {facts['torch']}"
    )


def _summary(audit: Audit) -> Table:
    table = new_table(("verdict", False), ("claims", True), ("layers", True))
    for verdict in reversed(ORDER):
        claims = sum(entry.row.verdict == verdict for entry in audit.claims)
        layers = sum(row.verdict == verdict for row in audit.layers)
        if claims or layers:
            table.add_row(text(verdict, STYLES[verdict]), str(claims), str(layers))
    return table


def _findings(entries: Sequence[ClaimRow]) -> Iterable[RenderableType]:
    """Claims with one cause stand together above it."""
    by_cause: dict[str, list[ClaimRow]] = {}
    for entry in entries:
        by_cause.setdefault(entry.cause, []).append(entry)
    for cause, together in by_cause.items():
        grid = Table.grid(padding=(0, 1))
        for width in _WIDTHS:
            grid.add_column(width=width, overflow="fold")
        for entry in together:
            grid.add_row(*(text(cell) for cell in _cells(entry)))
        yield Padding(grid, (1, 0, 0, 0) if cause else 0)
        if cause:
            yield Padding(text(cause, "italic"), (0, 0, 0, 5))


def _cells(entry: ClaimRow) -> tuple[str, ...]:
    row = entry.row
    run = row.count if row.count is not None else row.measured
    return (
        str(entry.claim.line),
        f"{row.path or 'network'} {row.phase}".strip(),
        _in_words(row.quantity),
        str(row.claim),
        value_text(run),
        row.arithmetic or "",
    )


def _in_words(quantity: str) -> str:
    return quantity.replace("_", " ")


def conclusion(audit: Audit) -> str:
    """Whether all tallies, in a sentence; where not, which rows do not."""
    if audit.ok and not audit.claims:
        return (
            "Theory, count and storage tally. The document's claims are of N = 32 and 32x32 images, and were left out."
        )
    if audit.ok:
        return "Theory, count and storage tally. What is contradicted is the document's, or a listed defect."
    names = ", ".join(f"{row.path or 'network'} {row.phase} {row.quantity}" for row in audit.failures[:5])
    return f"{len(audit.failures)} rows do not tally: {names}"
