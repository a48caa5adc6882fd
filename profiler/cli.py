"""The command line. Exit status: 0 all tallies, 1 something does not or differs, 2 bad arguments."""

from __future__ import annotations

import io
import sys

import click

from .commands.audit import audit
from .commands.diff import diff
from .commands.machine import calibrate, machine
from .commands.options import EXIT_USAGE
from .commands.predict import predict
from .commands.profile import profile
from .commands.report import report
from .errors import TallyError


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="torchtally", message="%(prog)s %(version)s")
def cli() -> None:
    """Count what a PyTorch model costs, and check that theory and a real run tally."""


for _command in (profile, predict, report, diff, audit, calibrate, machine):
    cli.add_command(_command)


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
        _fail(f"out of memory; try a smaller --batch-size or input: {_first_line(error)}", EXIT_USAGE)
    else:
        sys.exit(status if isinstance(status, int) else 0)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200]


def _fail(message: str, status: int) -> None:
    click.echo(f"torchtally: {' '.join(message.split())}", err=True)
    sys.exit(status)
