"""`torchtally predict`: what a step would take, without taking it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .options import EXIT_DISAGREEMENT, check_files, checked_view, shown, working, write_files, written
from .target import Setup, blamed, build_of, targeted

_VIEW = ("depth", "sort", "columns", "units", "inclusive")


@click.command()
@targeted
@click.option("--fits", metavar="AMOUNT", help='Whether the step stays within so much memory, such as "8 GiB".')
@click.option("--largest-batch", metavar="AMOUNT", help="The largest batch that stays within so much memory.")
@click.option("--learn/--no-learn", default=True, help="Learn workspaces of operators from one real call of each.")
@shown
@written
def predict(
    target: str,
    device_name: str,
    fits: str | None,
    largest_batch: str | None,
    learn: bool,
    json_path: Path | None,
    csv_path: Path | None,
    html_path: Path | None,
    **options: Any,
) -> int:
    """Run one step of TARGET on fake tensors: its costs and its peak of memory, with nothing large allocated.

    TARGET and the options are as for `torchtally profile`. The exit status is 1 where --fits does not hold.

    \b
    Examples:
      torchtally predict torchvision:resnet50 --batch-size 32 --optimizer adamw
      torchtally predict my_package.model:build --batch-size 64 --fits "8 GiB"
      torchtally predict my_package.model:build --largest-batch "8 GiB"
    """
    from ..amounts import in_bytes
    from ..prediction.fit import largest_batch as find_largest
    from ..prediction.predict import predict as foresee
    from ..report.memory import memory_view
    from ..report.terminal import show, text
    from ..report.words import setting

    check_files(json=json_path, csv=csv_path, html=html_path)
    choice = checked_view({name: options.pop(name) for name in _VIEW})
    setup = Setup(device=device_name, **options)
    limits = {name: in_bytes(amount) for name, amount in (("fits", fits), ("largest", largest_batch)) if amount}
    build = build_of(target, setup)
    with working(f"predicting {target}"), blamed(f"predicting {target}"):
        if "largest" in limits:
            largest = find_largest(build, limits["largest"], learn=learn)
            show(text(f"the largest batch within {largest_batch}: {largest}"))
            build = build_of(target, replace(setup, batch_size=largest))
        run = foresee(build, learn=learn)
    write_files(run, json_path=json_path, csv_path=csv_path, html_path=html_path)
    show(text(f"{setting(run)}; predicted", "bold"))
    run.show(**choice)
    show(memory_view(run.memory))
    if "fits" not in limits:
        return 0
    holds = run.memory.fits(limits["fits"])
    show(text(f"{'fits' if holds else 'does not fit'} in {fits}"))
    return 0 if holds else EXIT_DISAGREEMENT
