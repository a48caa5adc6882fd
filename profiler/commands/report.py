"""`torchtally report`: a run that was kept, shown again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import OUTPUT, check_files, checked_view, shown, write_files, written


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@shown
@written
@click.option("--perfetto", type=OUTPUT, metavar="FILE", help="Write its memory for ui.perfetto.dev.")
def report(
    file: Path,
    json_path: Path | None,
    csv_path: Path | None,
    html_path: Path | None,
    perfetto: Path | None,
    **view: Any,
) -> int:
    """Show a run that --json or run.to_json() wrote.

    It is priced anew, so that files of several versions can be held against one another.

    \b
    Examples:
      torchtally report before.json
      torchtally report before.json --sort flops --columns type,parameters,flops
      torchtally report before.json --csv before.csv --html before.html
    """
    check_files(json=json_path, csv=csv_path, html=html_path, perfetto=perfetto)
    choice = checked_view(view)
    from ..report.run_reader import from_json
    from ..report.terminal import show, text
    from ..report.words import setting

    run = from_json(file)
    write_files(run, json_path=json_path, csv_path=csv_path, html_path=html_path)
    if perfetto is not None:
        run.to_perfetto(perfetto)
    show(text(setting(run), "bold"))
    run.show(**choice)
    return 0
