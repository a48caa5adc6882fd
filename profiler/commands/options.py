"""Options that several commands share, and how their words are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import UsageError

if TYPE_CHECKING:
    from ..machine import Machine
    from ..run import Run

    _SizesBase = click.ParamType[tuple[int, int]]
else:
    _SizesBase = click.ParamType  # generic for checkers, and not in every click at run time

EXIT_DISAGREEMENT = 1
EXIT_USAGE = 2
OUTPUT = click.Path(path_type=Path, readable=False)  # judged by `check_writable`, which also asks about its folder
LARGEST = 2**31 - 1  # of any size: what lies beyond would overflow torch's own integers instead of memory

Command = TypeVar("Command", bound=Callable[..., Any])


class ImageSize(_SizesBase):
    """32 or 33x47: height and width."""

    name = "SIZE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        sizes = str(value).lower().split("x")
        if len(sizes) > 2 or not all(size.isascii() and size.isdigit() for size in sizes):
            self.fail(f"{value!r} is no image size; give one number, or HEIGHTxWIDTH such as 33x47", param, ctx)
        height, width = int(sizes[0]), int(sizes[-1])
        if max(height, width) > LARGEST:
            self.fail(f"{value!r} is larger than any image can be", param, ctx)
        return height, width


def device(name: str | None) -> str:
    """A device that exists here. Raises UsageError naming it, and what there is instead."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
        torch.ones(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise UsageError(f"no device {name!r} to run on; there is {', '.join(there)}") from error
    return name


# How a run is shown ---------------------------------------------------------------------------------------------------


def shown(command: Command) -> Command:
    """--depth, --sort, --columns, --units, --inclusive: taken by the command as `**view`, for `show`."""
    from ..report.run_table import COLUMNS, IN_ORDER

    names = ", ".join(COLUMNS)
    for option in reversed(
        (
            click.option("--depth", type=click.IntRange(0, 1000), help="Levels of modules.  [default: what fits]"),
            click.option("--sort", default=IN_ORDER, metavar="COLUMN", help="A list, largest first, not the tree."),
            click.option("--columns", metavar="NAMES", help=f"Apart by commas, of: {names}."),
            click.option("--units", type=click.Choice(["flops", "macs"]), default="flops", show_default=True),
            click.option(
                "--inclusive/--exclusive",
                default=None,
                help="Modules with what is inside them, or without.  [default: with in a tree, without in a list]",
            ),
        )
    ):
        command = option(command)
    return command


def checked_view(view: dict[str, Any]) -> dict[str, Any]:
    """The options of `shown` as arguments of `Run.show`. Raises UsageError before any work is done."""
    from ..report.run_table import Choice

    columns = view["columns"]
    named = None if columns is None else tuple(name.strip() for name in columns.split(","))
    arguments = {**view, "columns": named}
    Choice(**arguments)
    return arguments


# What a run is written to ---------------------------------------------------------------------------------------------


def written(command: Command) -> Command:
    """--json, --csv and --html: taken by the command as `json_path` and so on, for `check_files` and `write_files`."""
    for option in reversed(
        (
            click.option(
                "--json", "json_path", type=OUTPUT, metavar="FILE", help="Write the run, for report and diff."
            ),
            click.option("--csv", "csv_path", type=OUTPUT, metavar="FILE", help="Write the ledger, a row per phase."),
            click.option("--html", "html_path", type=OUTPUT, metavar="FILE", help="Write a report for a browser."),
        )
    ):
        command = option(command)
    return command


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a report for a browser has beside the run: a known machine, what was foreseen of its memory, and in words
    what it `lacks`."""

    machine: Machine | None = None
    foreseen: Run | None = None
    lacks: str = ""


def check_files(**paths: Path | None) -> None:
    """Raises UsageError, before any work is done, for a file that cannot be written or is named twice."""
    from ..report.files import check_writable

    seen: dict[Path, str] = {}
    for option, path in paths.items():
        if path is None:
            continue
        name = f"--{option.removesuffix('_path')}"
        if path.resolve() in seen:
            raise UsageError(f"{seen[path.resolve()]} and {name} name the same file, {path}")
        seen[path.resolve()] = name
        check_writable(path)


def write_files(
    run: Run,
    *,
    json_path: Path | None,
    csv_path: Path | None,
    html_path: Path | None,
    page: Page | None = None,
) -> None:
    """`page` has what goes into the HTML report beside the run."""
    if json_path is not None:
        run.to_json(json_path)
    if csv_path is not None:
        run.to_csv(csv_path)
    if html_path is not None:
        page = page or Page()
        run.to_html(html_path, machine=page.machine, beside=page.foreseen, names=("the run", "the prediction"))


@contextmanager
def working(words: str) -> Iterator[None]:
    """Say on standard error that something takes its time: on a terminal only, and gone afterwards."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(words):
        yield
