"""`torchtally diff`: two runs held against one another."""

from __future__ import annotations

from pathlib import Path

import click

from .options import EXIT_DISAGREEMENT

_RUN = click.Path(path_type=Path)


@click.command()
@click.argument("before", type=_RUN, metavar="BEFORE")
@click.argument("after", type=_RUN, metavar="AFTER")
@click.option("--all", "everything", is_flag=True, help="Every layer that changed, not only those that changed most.")
def diff(before: Path, after: Path, everything: bool) -> int:
    """Name the layers that changed between two runs, and by how much.

    Both are files that --json or run.to_json() wrote. Runs must be of one mode, device, and shape of input, with the
    same phases; a changed model is what is compared. The exit status is 0 where nothing changed, 1 where something did,
    and 2 where the two cannot be compared.

    \b
    Examples:
      torchtally profile my_package.model:build --json before.json
      torchtally diff before.json after.json
    """
    from ..diff import difference
    from ..report.difference import difference_view
    from ..report.run_reader import from_json
    from ..report.terminal import show

    found = difference(from_json(before), from_json(after))
    show(difference_view(found, everything=everything))
    return EXIT_DISAGREEMENT if found.rows else 0
