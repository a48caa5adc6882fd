"""What a notebook shows of a run and of a comparison: a table, without styles of its own or scripts. Names are data."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ..ledger import Ledger
from ..records import Trace
from .remarks import remarks
from .run_table import Choice, cells, usual_columns
from .run_view import footnotes
from .terminal import covered_text, figure_text, summary_line

if TYPE_CHECKING:
    from ..compare import Comparison, ComparisonRow

_MOST_ROWS = 200


def run_html(trace: Trace, ledger: Ledger, choice: Choice) -> str:
    """What is surprising, the modules, totals."""
    found = cells(ledger, choice, usual_columns(ledger, choice))
    above = "".join(f"<p>{_escaped(remark)}</p>" for remark in remarks(trace, ledger))
    below = "".join(f"<p>{_escaped(line)}</p>" for line in footnotes(ledger, choice, found, []))
    rows = [(name, *row) for name, row in zip(found.names, found.rows, strict=True)]
    table = _table(found.headings, rows, found.right, foot=("total", *found.total))
    return f"<div>{above}{table}{below}</div>"


def comparison_html(comparison: Comparison) -> str:
    """The summary, and rows that do not simply agree."""
    rows = [row for row in comparison.rows if row.verdict != "agrees"]
    said = [summary_line(comparison.summary()), covered_text(comparison)]
    if len(rows) > _MOST_ROWS:
        said.append(f"the first {_MOST_ROWS} of {len(rows):,} rows that do not simply agree; to_frame() has all")
    lines = "".join(f"<p>{_escaped(line)}</p>" for line in said if line)
    if not rows:
        return f"<div>{lines}</div>"
    headings = ("layer", "phase", "quantity", "theory", "count", "measured", "verdict", "wrong", "reason")
    right = (False, False, False, True, True, True, False, False, False)
    return f"<div>{lines}{_table(headings, [_comparison_cells(row) for row in rows[:_MOST_ROWS]], right)}</div>"


def _comparison_cells(row: ComparisonRow) -> tuple[str, ...]:
    figures = (figure_text(row.theory), figure_text(row.count), figure_text(row.measured))
    return row.path or "(model)", row.phase, row.quantity, *figures, row.verdict, row.wrong or "", row.reason


def _table(
    headings: tuple[str, ...],
    rows: list[tuple[str, ...]],
    right: tuple[bool, ...],
    foot: tuple[str, ...] = (),
) -> str:
    """Headings and cells, numbers to the right; spaces at a cell's start are kept."""

    def line(words: tuple[str, ...], tag: str) -> str:
        pairs = zip(words, right, strict=True)
        return "".join(f"<{tag} style='{_style(number)}'>{_escaped(word)}</{tag}>" for word, number in pairs)

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    below = f"<tfoot><tr>{line(foot, 'th')}</tr></tfoot>" if foot else ""
    return f"<table><thead><tr>{line(headings, 'th')}</tr></thead><tbody>{body}</tbody>{below}</table>"


def _style(number: bool) -> str:
    return f"text-align:{'right' if number else 'left'};white-space:pre"


def _escaped(words: str) -> str:
    return escape(words, quote=True)
