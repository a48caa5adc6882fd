"""`torchtally audit`: the walkthrough held against theory and a run."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UsageError
from .options import EXIT_DISAGREEMENT, LARGEST, OUTPUT, ImageSize, check_files, device, working


@click.command()
@click.option(
    "--device", "device_name", help="Where to run: cpu, cuda, cuda:1.  [default: cuda where there is one, else cpu]"
)
@click.option("--batch-size", type=click.IntRange(1, LARGEST), default=32, show_default=True, help="Images per step.")
@click.option("--image-size", type=ImageSize(), default=(32, 32), metavar="SIZE", help="32, or 33x47.  [default: 32]")
@click.option("--seconds", is_flag=True, help="Ask a clock too: claims of computing work, in seconds.")
@click.option("--all", "everything", is_flag=True, help="Show every row, also those that simply agree.")
@click.option("--json", "json_path", type=OUTPUT, metavar="FILE", help="Write the audit as JSON.")
@click.option("--csv", "csv_path", type=OUTPUT, metavar="FILE", help="Write the rows as CSV.")
@click.option("--html", "html_path", type=OUTPUT, metavar="FILE", help="Write a report for a browser.")
def audit(
    device_name: str | None,
    batch_size: int,
    image_size: tuple[int, int],
    seconds: bool,
    everything: bool,
    json_path: Path | None,
    csv_path: Path | None,
    html_path: Path | None,
) -> int:
    """Hold the walkthrough's every figure against theory and a real run of its CNN.

    With another batch or image size the document's claims do not apply; theory against run still does. With --seconds
    nothing else should run on the machine.

    \b
    Examples:
      torchtally audit
      torchtally audit --all --csv claims.csv
      torchtally audit --seconds
      torchtally audit --html audit.html
      torchtally audit --batch-size 2 --image-size 33x47
    """
    check_files(json=json_path, csv=csv_path, html=html_path)
    from ...models.cnn import CNNConfig
    from ..audit.walkthrough import audit as run_audit
    from ..report.audit import audit_view
    from ..report.data import audit_csv, audit_json
    from ..report.files import write_atomically
    from ..report.terminal import show

    try:
        CNNConfig(resolution=image_size)
    except ValueError as error:
        raise UsageError(str(error)) from error
    where = device(device_name)
    with working("running the walkthrough's CNN"):
        result = run_audit(device=where, batch_size=batch_size, resolution=image_size, seconds=seconds)
    if json_path is not None:
        write_atomically(json_path, audit_json(result))
    if csv_path is not None:
        write_atomically(csv_path, audit_csv(result))
    if html_path is not None:
        result.to_html(html_path)
    show(audit_view(result, everything=everything))
    return 0 if result.ok else EXIT_DISAGREEMENT
