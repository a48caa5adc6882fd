"""A run as a table of cells: which modules, which columns, in which order. Drawn by the terminal and by notebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import UsageError
from ..ledger import Ledger, Row
from ..rollup import including_children
from .units import bytes_text, count_text, flops_text, seconds_text, shape_text, share_text

Units = Literal["flops", "macs"]

USUAL_LINES = 40

IN_ORDER = "order"
"""The modules' own order: a tree. By a column: a list, the largest first."""


@dataclass(frozen=True, slots=True)
class Line:
    """A module: its forward row, and its backward row where it has one."""

    path: str
    forward: Row
    backward: Row | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What the user asked for.

    `depth`: levels below the model, None for as many as fit in `lines`. `columns`: None for the usual ones, as many as
    fit. `inclusive`: with all that is inside each module; None for yes in a tree and no in a sorted list.
    """

    depth: int | None = None
    sort: str = IN_ORDER
    columns: tuple[str, ...] | None = None
    units: Units = "flops"
    inclusive: bool | None = None
    lines: int = USUAL_LINES

    def __post_init__(self) -> None:
        if self.depth is not None and (type(self.depth) is not int or self.depth < 0):
            raise UsageError(f"depth must be an integer of at least 0, or None, got {self.depth!r}")
        if self.units not in get_args(Units):
            raise UsageError(f'units must be "flops" or "macs", got {self.units!r}')
        for name in self.columns or ():
            _known(name, COLUMNS, "column")
        _known(self.sort, (IN_ORDER, *(name for name, column in COLUMNS.items() if column.figure)), "order")

    @property
    def with_children(self) -> bool:
        return self.sort == IN_ORDER if self.inclusive is None else self.inclusive


def _known(name: str, names: Iterable[str], what: str) -> None:
    if name not in (names := tuple(names)):
        raise UsageError(f"no {what} is named {name!r}; there are {', '.join(names)}")


# Columns --------------------------------------------------------------------------------------------------------------

Figure = Callable[[Line, Units], Any]  # an integer, seconds, a share; None where there is none


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and how a line's cell is had: a figure with its unit, or words."""

    title: str
    figure: Figure | None = None
    unit: Callable[[Any], str] = count_text
    words: Callable[[Line], str] | None = None

    def heading(self, units: Units) -> str:
        return self.title.replace("FLOPs", "MACs") if units == "macs" else self.title

    def cell(self, line: Line, units: Units) -> str:
        """Nothing for zero, as for what was not measured: `to_frame()` tells them apart."""
        if self.words is not None:
            return self.words(line)
        assert self.figure is not None
        bound = ">= " if self.unit is flops_text and _unpriced(self.title, line) else ""
        return bound + self.unit(found) if (found := self.figure(line, units)) or (bound and found == 0) else ""


def _unpriced(title: str, line: Line) -> bool:
    rows = {"forward FLOPs": (line.forward,), "backward FLOPs": (line.backward,)}
    return any(row is not None and row.unpriced for row in rows.get(title, (line.forward, line.backward)))


def _flops(row: Row | None, units: Units) -> int | None:
    """FLOPs, or multiply-adds: half the FLOPs of products."""
    if row is None:
        return None
    return row.flops if units == "flops" else row.matmul_flops and row.matmul_flops // 2


def _both(line: Line, units: Units) -> int | None:
    found = [figure for row in (line.forward, line.backward) if (figure := _flops(row, units)) is not None]
    return sum(found) if found else None


def _of(name: str) -> Figure:
    """A column of the ledger, of whichever row has it."""

    def figure(line: Line, units: Units) -> int | None:
        rows = (row for row in (line.forward, line.backward) if row is not None)
        return next((found for row in rows if (found := getattr(row, name)) is not None), None)

    return figure


def _sum(name: str) -> Figure:
    """Of forward and backward together."""

    def figure(line: Line, units: Units) -> Any:
        rows = (row for row in (line.forward, line.backward) if row is not None)
        found = [figure for row in rows if (figure := getattr(row, name)) is not None]
        return sum(found) if found else None

    return figure


COLUMNS: Mapping[str, Column] = {
    "type": Column("type", words=lambda line: line.forward.type),
    "calls": Column("calls", _of("calls")),
    "input_shape": Column("input", words=lambda line: shape_text(line.forward.input_shape)),
    "output_shape": Column("output", words=lambda line: shape_text(line.forward.output_shape)),
    "parameters": Column("parameters", _of("parameters")),
    "parameter_bytes": Column("weights", _of("parameter_bytes"), bytes_text),
    "activation_bytes": Column("activations", _of("activation_bytes"), bytes_text),
    "saved_bytes": Column("saved", _of("saved_bytes"), bytes_text),
    "gradient_bytes": Column("gradients", _of("gradient_bytes"), bytes_text),
    "forward_flops": Column("forward FLOPs", lambda line, units: _flops(line.forward, units), flops_text),
    "backward_flops": Column("backward FLOPs", lambda line, units: _flops(line.backward, units), flops_text),
    "flops": Column("FLOPs", _both, flops_text),
    "seconds": Column("time", _sum("seconds"), seconds_text),
    "share": Column("share", _sum("share"), share_text),
}
"""Named as in `to_frame()`; `forward_flops` and `backward_flops` as in `totals`, `flops` both together."""

USUAL = (
    "type",
    "output_shape",
    "parameters",
    "activation_bytes",
    "saved_bytes",
    "forward_flops",
    "backward_flops",
    "seconds",
    "share",
)
LEAVE_OUT_FIRST = ("activation_bytes", "type", "saved_bytes", "output_shape", "parameters")
"""Of the usual columns, where there is no room for all."""


# Lines ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """A table to be drawn. `names` has the first column: the tree's indented, a list's in full. `hidden` is how many
    modules are not in it, `depth` the deepest level shown."""

    columns: tuple[str, ...]
    headings: tuple[str, ...]
    right: tuple[bool, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...]
    hidden: int
    depth: int
    tree: bool


def usual_columns(ledger: Ledger, choice: Choice) -> list[str]:
    """Those with something in them, and the one that the list is sorted by."""
    found = cells(ledger, choice, USUAL)
    filled = [name for n, name in enumerate(USUAL) if found.total[n] or any(row[n] for row in found.rows)]
    return filled if choice.sort in (IN_ORDER, *filled) else [*filled, choice.sort]


def cells(ledger: Ledger, choice: Choice, columns: Sequence[str]) -> Cells:
    """The ledger as the choice has it, in these columns."""
    lines = tuple(_lines(including_children(ledger.rows) if choice.with_children else ledger.rows))
    depth = _depth(lines, choice) if choice.depth is None else choice.depth
    shown = _sorted([line for line in lines if _level(line.path) <= depth], choice)
    if choice.depth is None:
        shown = shown[: choice.lines]
    chosen = [COLUMNS[name] for name in columns]
    return Cells(
        columns=tuple(columns),
        headings=("module", *(column.heading(choice.units) for column in chosen)),
        right=(False, *(column.words is None for column in chosen)),
        names=tuple(_name(line.path, choice.sort == IN_ORDER) for line in shown),
        rows=tuple(tuple(column.cell(line, choice.units) for column in chosen) for line in shown),
        total=_total(ledger, columns, choice.units),
        hidden=len(lines) - len(shown),
        depth=max((_level(line.path) for line in shown), default=0),
        tree=choice.sort == IN_ORDER,
    )


def _lines(rows: Iterable[Row]) -> Iterable[Line]:
    rows = tuple(rows)
    backward = {row.path: row for row in rows if row.phase == "backward"}
    return (Line(row.path, row, backward.get(row.path)) for row in rows if row.phase == "forward")


def _level(path: str) -> int:
    return path.count(".") + 1 if path else 0


def _depth(lines: Sequence[Line], choice: Choice) -> int:
    """As deep as fits: a sorted list is cut at its end, and needs all."""
    levels = [_level(line.path) for line in lines]
    deepest = max(levels, default=0)
    if choice.sort != IN_ORDER:
        return deepest
    fitting = (depth for depth in range(deepest, 1, -1) if sum(level <= depth for level in levels) <= choice.lines)
    return next(fitting, min(deepest, 1))


def _sorted(lines: list[Line], choice: Choice) -> list[Line]:
    if choice.sort == IN_ORDER:
        return lines
    figure = COLUMNS[choice.sort].figure
    assert figure is not None
    return sorted(lines, key=lambda line: -(figure(line, choice.units) or 0))


def _name(path: str, tree: bool) -> str:
    if not path:
        return "(model)"
    return "  " * _level(path) + path.rpartition(".")[2] if tree else path


def _total(ledger: Ledger, columns: Sequence[str], units: Units) -> tuple[str, ...]:
    return tuple(_total_cell(ledger, name, units) for name in columns)


def _total_cell(ledger: Ledger, name: str, units: Units) -> str:
    column, totals = COLUMNS[name], ledger.totals
    if name in ("seconds", "share"):  # of all rows: those of the loss and the optimizer are in no line
        timed = [figure for row in ledger.rows if (figure := getattr(row, name)) is not None]
        return column.unit(sum(timed)) if timed else ""
    if column.unit is not flops_text:
        return column.unit(totals.get(name)) if name != "calls" and column.words is None else ""
    phases = {"forward_flops": ("forward",), "backward_flops": ("backward",)}.get(name, ("forward", "backward"))
    key, factor = ("flops", 1) if units == "flops" else ("matmul_flops", 2)
    found = [totals[f"{phase}_{key}"] // factor for phase in phases if f"{phase}_{key}" in totals]
    bound = ">= " if any(row.unpriced for row in ledger.rows if row.phase in phases) else ""
    return bound + flops_text(sum(found)) if found else ""
