"""A run for a terminal, as deep and as wide as it is."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table

from ..ledger import Ledger
from ..records import Trace
from .remarks import remarks
from .run_table import LEAVE_OUT_FIRST, USUAL_LINES, Cells, Choice, cells, usual_columns
from .terminal import WIDTH, apart_text, console, new_table, show, text

_AROUND = 12  # lines of a terminal that are not the table's


def show_run(trace: Trace, ledger: Ledger, choice: Choice) -> None:
    """Print to standard output: as deep and as wide as the terminal is; plain text into a pipe."""
    out = console()
    show(run_view(trace, ledger, choice, width=out.width if out.is_terminal else WIDTH))


def lines_that_fit() -> int:
    """Of modules: a terminal's height, or what is still read in a file."""
    out = console()
    return max(out.height - _AROUND, 8) if out.is_terminal else USUAL_LINES


def run_view(trace: Trace, ledger: Ledger, choice: Choice, *, width: int = WIDTH) -> RenderableType:
    """What is surprising; the modules; totals; what the figures mean."""
    above = [text(remark) for remark in remarks(trace, ledger)]
    found, left_out = _fitted(ledger, choice, width)
    below = [text(line, "dim") for line in footnotes(ledger, choice, found, left_out)]
    return Group(*above, _table(found), *below)


def _fitted(ledger: Ledger, choice: Choice, width: int) -> tuple[Cells, list[str]]:
    """The usual columns, without those for which there is no room. Columns that were asked for all stay."""
    if choice.columns is not None:
        return cells(ledger, choice, choice.columns), []
    columns, left_out = usual_columns(ledger, choice), list[str]()
    found = cells(ledger, choice, columns)
    for name in LEAVE_OUT_FIRST:
        if _width(found) <= width:
            break
        if name in columns and name != choice.sort:
            columns.remove(name)
            left_out.append(name)
            found = cells(ledger, choice, columns)
    return found, left_out


def _width(found: Cells) -> int:
    wide = Console(width=10_000)
    return Measurement.get(wide, wide.options, _table(found)).maximum


def _table(found: Cells) -> Table:
    table = new_table(*zip(found.headings, found.right, strict=True))
    table.columns[0].no_wrap = found.tree  # a broken line would break it
    for name, row in zip(found.names, found.rows, strict=True):
        table.add_row(text(name), *map(text, row))
    table.add_section()
    table.add_row("total", *map(text, found.total), style="bold")
    return table


def footnotes(ledger: Ledger, choice: Choice, found: Cells, left_out: list[str]) -> list[str]:
    """What is not in the table, and what its figures mean."""
    unit = (
        "1 multiply-add = 2 FLOPs"
        if choice.units == "flops"
        else "MACs are the multiply-adds of products; other operations have none"
    )
    whose = "modules include their children" if choice.with_children else "modules without their children"
    lines = [apart_text(ledger), f"{whose}; {unit}"]
    if found.hidden:
        lines.append(f"{found.hidden:,} more modules are not shown; choose a depth (here {found.depth}) to see them")
    if left_out:
        lines.append(f"no room for {', '.join(left_out)}; choose columns to see them")
    return [line for line in lines if line]
