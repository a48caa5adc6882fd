"""The command line. Exit status: 0 all tallies, 1 something does not, 2 bad arguments."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import TallyError, UsageError

if TYPE_CHECKING:
    _SizesBase = click.ParamType[tuple[int, int]]
else:
    _SizesBase = click.ParamType  # generic for checkers, and not in every click at run time

EXIT_DISAGREEMENT = 1
EXIT_USAGE = 2
OUTPUT = click.Path(path_type=Path, readable=False)  # judged by `check_writable`, which also asks about its folder
LARGEST = 2**31 - 1  # of any size: what lies beyond would overflow torch's own integers instead of memory


class _Sizes(_SizesBase):
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


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="torchtally", message="%(prog)s %(version)s")
def cli() -> None:
    """Count what a PyTorch model costs, and check that theory and a real run tally."""


@cli.command()
@click.option("--device", help="Where to run: cpu, cuda, cuda:1.  [default: cuda where there is one, else cpu]")
@click.option("--batch-size", type=click.IntRange(1, LARGEST), default=32, show_default=True, help="Images per step.")
@click.option("--image-size", type=_Sizes(), default=(32, 32), metavar="SIZE", help="32, or 33x47.  [default: 32]")
@click.option("--all", "everything", is_flag=True, help="Show every row, also those that simply agree.")
@click.option("--json", "json_path", type=OUTPUT, metavar="FILE", help="Write the audit as JSON.")
@click.option("--csv", "csv_path", type=OUTPUT, metavar="FILE", help="Write the rows as CSV.")
def audit(
    device: str | None,
    batch_size: int,
    image_size: tuple[int, int],
    everything: bool,
    json_path: Path | None,
    csv_path: Path | None,
) -> int:
    """Hold the walkthrough's every figure against theory and a real run of its CNN.

    With another batch or image size the document's claims do not apply; theory against run still does.

    \b
    Examples:
      torchtally audit
      torchtally audit --all --csv claims.csv
      torchtally audit --batch-size 2 --image-size 33x47
    """
    from .report.files import check_writable, write_atomically

    if json_path is not None and csv_path is not None and json_path.resolve() == csv_path.resolve():
        raise UsageError(f"--json and --csv name the same file, {json_path}")
    for path in (json_path, csv_path):
        if path is not None:
            check_writable(path)
    from ..models.cnn import CNNConfig
    from .audit.walkthrough import audit as run_audit
    from .report.audit import audit_view
    from .report.data import audit_csv, audit_json
    from .report.terminal import show

    try:
        CNNConfig(resolution=image_size)
    except ValueError as error:
        raise UsageError(str(error)) from error
    result = run_audit(device=_device(device), batch_size=batch_size, resolution=image_size)
    if json_path is not None:
        write_atomically(json_path, audit_json(result))
    if csv_path is not None:
        write_atomically(csv_path, audit_csv(result))
    show(audit_view(result, everything=everything))
    return 0 if result.ok else EXIT_DISAGREEMENT


def _device(name: str | None) -> str:
    """A device that exists here. Raises UsageError naming it, and what there is instead."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise UsageError(f"no device {name!r} to run on; there is {', '.join(there)}") from error
    return name


def main(arguments: list[str] | None = None) -> None:
    """The `torchtally` command: errors are one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no "≈" prints "?" rather than nothing
    try:
        status = cli.main(arguments, prog_name="torchtally", standalone_mode=False)
    except click.exceptions.Abort:
        _fail("interrupted", 130)
    except click.UsageError as error:
        see = f"{error.ctx.command_path if error.ctx else 'torchtally'} --help"
        _fail(f"{error.format_message().rstrip('.')}; see {see}", EXIT_USAGE)
    except click.ClickException as error:
        _fail(error.format_message(), EXIT_USAGE)
    except TallyError as error:
        _fail(str(error), EXIT_USAGE)
    except MemoryError as error:
        _fail(f"out of memory: {error}", EXIT_USAGE)
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in ("allocate", "out of memory", "overflow")):
            raise
        _fail(f"out of memory; try a smaller --batch-size or --image-size: {_first_line(error)}", EXIT_USAGE)
    else:
        sys.exit(status if isinstance(status, int) else 0)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200]


def _fail(message: str, status: int) -> None:
    click.echo(f"torchtally: {' '.join(message.split())}", err=True)
    sys.exit(status)
