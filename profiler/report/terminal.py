"""Tables for a terminal. Written with rich, which measures the terminal, wraps, and honours NO_COLOR and pipes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..ledger import Ledger, Row
from ..rollup import including_children
from ..verdict import Verdict
from .remarks import time_remarks
from .units import bytes_text, count_text, flops_text, seconds_text, shape_text, share_text, value_text

if TYPE_CHECKING:
    from ..compare import Comparison, ComparisonRow

_T = TypeVar("_T")

WIDTH = 100  # of what is not drawn on a terminal

STYLES: dict[Verdict, str] = {
    "agrees": "green",
    "within": "green",
    "contradicted": "yellow",
    "unexplained": "bold red",
    "not measured": "dim",
}
ORDER: tuple[Verdict, ...] = ("unexplained", "contradicted", "not measured", "within", "agrees")


def console() -> Console:
    """Standard output: as wide as the terminal, or `WIDTH` where it is none; plain text where NO_COLOR is set."""
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    found = Console(highlight=False, color_system=colours)
    return found if found.is_terminal else Console(highlight=False, color_system=colours, width=WIDTH)


def plain_text(content: RenderableType, width: int = WIDTH) -> str:
    """The same without colour, for `str()`."""
    buffer = io.StringIO()
    Console(file=buffer, width=width, highlight=False, color_system=None).print(content)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")


def show(content: RenderableType) -> None:
    """Print to standard output: drawn on a terminal, plain lines without padding into a pipe or file."""
    out = console()
    if out.is_terminal:
        out.print(content)
    else:
        out.print(text(plain_text(content)), soft_wrap=True)


def new_table(*columns: tuple[str, bool], title: str | None = None) -> Table:
    """Columns by name; True for those aligned right, as numbers are."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
    )
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


_CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


def text(words: str, style: str = "") -> Text:
    """Names and reasons are data, never markup, and never a command to the terminal."""
    return Text(words.translate(_CONTROL), style=style)


# A run ----------------------------------------------------------------------------------------------------------------


def ledger_text(ledger: Ledger) -> str:
    """The ledger as a table, one line per module, with totals and coverage."""
    return plain_text(ledger_view(ledger))


_HEADINGS = (
    ("module", False),
    ("type", False),
    ("output", False),
    ("parameters", True),
    ("activations", True),
    ("forward FLOPs", True),
    ("backward FLOPs", True),
)
_TIME_HEADINGS = (("time", True), ("share", True))
_MAKE_ROOM = (1, 4)  # of the columns, for those


def ledger_view(ledger: Ledger) -> RenderableType:
    """Modules in order, each with its children, forward and backward side by side; work of no module below them."""
    table = new_table(*_with_time(ledger, _HEADINGS, _TIME_HEADINGS))
    table.columns[0].no_wrap = True  # a broken line would break the tree
    if ledger.timing is None:
        table.columns[1].no_wrap = True
        table.columns[1].overflow = "ellipsis"
    rows = including_children(ledger.rows)
    backward = {row.path: row for row in rows if row.phase == "backward"}
    for row in rows:
        if row.phase == "forward":
            cells = _module_cells(row, backward.get(row.path))
            table.add_row(*_with_time(ledger, cells, _time_cells(row.path, rows)))
    table.add_section()
    table.add_row(*_with_time(ledger, _total_cells(ledger), ()), style="bold")
    return Group(table, *map(text, time_remarks(ledger)), *_apart(ledger), *_coverage(ledger))


def _with_time(ledger: Ledger, cells: Sequence[_T], more: Sequence[_T]) -> list[_T]:
    """Where time was measured it is shown, in the place of other columns."""
    if ledger.timing is None:
        return [*cells]
    return [*(cell for place, cell in enumerate(cells) if place not in _MAKE_ROOM), *more]


def _module_cells(row: Row, backward: Row | None) -> list[Text]:
    depth = row.path.count(".") + 1 if row.path else 0
    name = row.path.rpartition(".")[2] or "(model)"
    return [
        text("  " * depth + name),
        text(row.type),
        text(shape_text(row.output_shape)),
        text(count_text(row.parameters) if row.parameters else ""),
        text(bytes_text(row.activation_bytes) if row.activation_bytes else ""),
        text(_flops(row)),
        text(_flops(backward)),
    ]


def _time_cells(path: str, rows: Iterable[Row]) -> list[Text]:
    """Of all phases together."""
    timed = [(row.seconds, row.share or 0.0) for row in rows if row.path == path and row.seconds is not None]
    if not timed:
        return [text(""), text("")]
    return [text(seconds_text(sum(each for each, _ in timed))), text(share_text(sum(each for _, each in timed)))]


def _flops(row: Row | None) -> str:
    if row is None or row.flops is None:
        return ""
    bound = ">= " if row.unpriced else ""
    return bound + flops_text(row.flops) if row.flops or row.unpriced else ""


def _total_cells(ledger: Ledger) -> list[Text]:
    totals = ledger.totals
    bound = ">= " if ledger.coverage.unpriced else ""
    return [
        text("total"),
        text(""),
        text(""),
        text(count_text(totals["parameters"])),
        text(bytes_text(totals.get("activation_bytes"))),
        text(bound + flops_text(totals["forward_flops"]) if "forward_flops" in totals else ""),
        text(bound + flops_text(totals["backward_flops"]) if "backward_flops" in totals else ""),
    ]


def apart_text(ledger: Ledger) -> str:
    """Phases that are in neither total, or nothing."""
    apart = {
        phase: ledger.totals[f"{phase}_flops"]
        for phase in ("recompute", "loss", "accumulation", "optimizer", "outside")
        if ledger.totals.get(f"{phase}_flops")
    }
    return "apart: " + ", ".join(f"{phase} {flops_text(flops)}" for phase, flops in apart.items()) if apart else ""


def _apart(ledger: Ledger) -> Iterable[Text]:
    apart = apart_text(ledger)
    if apart:
        yield text(apart)
    yield text("modules include their children; 1 multiply-add = 2 FLOPs", "dim")


def _coverage(ledger: Ledger) -> Iterable[Text]:
    for entry in ledger.coverage.unpriced:
        yield text(
            f"unpriced: {entry.operator}, {entry.calls} calls, {bytes_text(entry.bytes)} in and out, in "
            + ", ".join(path or "(model)" for path in entry.paths[:3]),
            "yellow",
        )
    for note in ledger.coverage.notes:
        yield text(f"note: {note}", "yellow")


# A comparison ---------------------------------------------------------------------------------------------------------


def comparison_text(comparison: Comparison) -> str:
    """The summary, and every row that does not simply agree."""
    return plain_text(comparison_view(comparison))


def comparison_view(comparison: Comparison) -> RenderableType:
    parts: list[RenderableType] = [text(summary_line(comparison.summary()), "bold")]
    rows = [row for row in comparison.rows if row.verdict != "agrees"]
    if rows:
        parts.append(layer_view(rows))
    if comparison.covered:
        parts.append(text(covered_text(comparison)))
    for path, why in comparison.not_compared.items():
        parts.append(text(f"not compared: {path or '(model)'}: {why}", "dim"))
    return Group(*parts)


def covered_text(comparison: Comparison) -> str:
    """How much of the run closed forms cover; nothing where that is not known."""
    shares = (f"{float(share):.1%} of {name.replace('_', ' ')}" for name, share in comparison.covered.items())
    return "closed forms that agree cover " + ", ".join(shares) if comparison.covered else ""


def summary_line(summary: dict[str, int]) -> str:
    """783 agree, 45 contradicted, ..."""
    said = [f"{summary[verdict]} {verdict}" for verdict in reversed(ORDER) if summary.get(verdict)]
    return ", ".join(said) or "nothing was compared"


def layer_view(rows: Sequence[ComparisonRow], title: str | None = None) -> RenderableType:
    """Witnesses side by side; below, each reason once, with the rows that it explains."""
    table = new_table(
        ("layer", False),
        ("phase", False),
        ("quantity", False),
        ("theory", True),
        ("count", True),
        ("measured", True),
        ("verdict", False),
        title=title,
    )
    reasons: dict[str, list[ComparisonRow]] = {}
    for row in rows:
        figures = (row.theory, row.count, row.measured)
        table.add_row(
            text(row.path or "(model)"),
            text(row.phase),
            text(_spaced(row.quantity)),
            *(text(figure_text(figure)) for figure in figures),
            text(row.verdict, STYLES[row.verdict]),
        )
        reason = " ".join(filter(None, (f"[{row.wrong} errs]" if row.wrong else "", row.reason)))
        if reason:
            reasons.setdefault(reason, []).append(row)
    return Group(table, *_reasons(reasons))


def _reasons(reasons: Mapping[str, Sequence[ComparisonRow]]) -> Iterable[RenderableType]:
    for reason, rows in reasons.items():
        yield text(", ".join(f"{row.path or '(model)'} {row.phase} {_spaced(row.quantity)}" for row in rows))
        yield Padding(text(reason, "italic"), (0, 0, 1, 5))


def _spaced(quantity: str) -> str:
    """Names break between words, not within them."""
    return quantity.replace("_", " ")


def figure_text(value: Any) -> str:
    """Shapes as 32x3x32x32, which leaves room for three of them."""
    return shape_text(value) if isinstance(value, tuple) else value_text(value)
