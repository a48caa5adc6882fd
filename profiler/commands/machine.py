"""`torchtally calibrate` and `torchtally machine`: what this machine can do, found out and shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from .options import device, working

_DEVICE = click.option("--device", "name", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)


@click.command()
@_DEVICE
@click.option("--rounds", type=click.IntRange(1, 1000), default=24, show_default=True, help="A dozen networks each.")
@click.option("--threads", type=click.IntRange(1, 4096), help="Of torch.  [default: torch's own choice]")
def calibrate(name: str, rounds: int, threads: int | None) -> None:
    """Find out what this machine does at most, and what operators take in training steps.

    It takes minutes, and nothing else should run meanwhile. What was found is kept in the user's cache folder for this
    machine, these libraries and this number of threads, and used to predict seconds and to hold runs against.

    \b
    Examples:
      torchtally calibrate
      torchtally calibrate --threads 1
      torchtally calibrate --device cuda
    """
    from ..machine import calibrate as find_out
    from ..report.machine import machine_view
    from ..report.terminal import show

    with _threads(threads), working("calibrating: networks of many shapes are trained for a few steps each"):
        found = find_out(device(name), rounds=rounds)
    show(machine_view(found))


@click.command()
@_DEVICE
@click.option("--threads", type=click.IntRange(1, 4096), help="Of torch.  [default: torch's own choice]")
def machine(name: str, threads: int | None) -> None:
    """Show what calibration found on this machine. An unknown machine is calibrated, not guessed at."""
    from ..machine import machine as kept
    from ..report.machine import machine_view
    from ..report.terminal import show

    with _threads(threads):
        found = kept(device(name))
    show(machine_view(found))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many of torch's threads; as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
