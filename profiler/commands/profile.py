"""`torchtally profile`: one real step of a model, counted."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import Page, check_files, checked_view, device, shown, working, write_files, written
from .target import Setup, blamed, build_of, targeted, workload

if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from ..run import Run

_VIEW = ("depth", "sort", "columns", "units", "inclusive")


@click.command()
@targeted
@click.option("--measure", is_flag=True, help="Memory and seconds too: the step is taken some fifteen times.")
@shown
@written
def profile(
    target: str,
    device_name: str,
    measure: bool,
    json_path: Path | None,
    csv_path: Path | None,
    html_path: Path | None,
    **options: Any,
) -> int:
    """Run one step of TARGET and show what each module costs.

    TARGET is torchvision:NAME, or package.module:factory: a function that returns a torchtally.Workload, or a module,
    which is then called with tensors of the --input shapes. The current folder can be imported from. Models have random
    weights, and nothing is downloaded. A training step is forward and the backward of the sum of the outputs; a loss of
    your own belongs in a workload.

    The --html report also has memory over the step, as predicted on fake tensors and with --measure as measured, and
    the roofline of this machine where it was calibrated.

    \b
    Examples:
      torchtally profile torchvision:resnet50 --batch-size 8
      torchtally profile torchvision:resnet18 --optimizer sgd --measure
      torchtally profile torchvision:vit_b_16 --eval --device meta --units macs
      torchtally profile my_package.model:build --batch-size 32 --json before.json --html cost.html
      torchtally profile my_package.model:Net --input 32x3x224x224 --optimizer adamw --sort flops
      torchtally profile my_package.text:Encoder --input 8x128:int64 --input 8x128:bool
    """
    check_files(json=json_path, csv=csv_path, html=html_path)
    choice = checked_view({name: options.pop(name) for name in _VIEW})
    from ..report.memory import memory_view
    from ..report.terminal import show, text
    from ..report.words import setting

    setup = Setup(device=device_name, **options)
    with working(f"running {target}"):
        run = _run(target, replace(setup, fake=_fake(device_name)), measure)
    page = Page() if html_path is None else _page(target, setup)
    write_files(run, json_path=json_path, csv_path=csv_path, html_path=html_path, page=page)
    show(text(setting(run), "bold"))
    run.show(**choice)
    if measure:
        show(memory_view(run.memory))
    if page.lacks:
        show(text(page.lacks))
    return 0


def _run(target: str, setup: Setup, measure: bool) -> Run:
    from ..measure import measure as observe
    from ..profile import profile as watch

    if measure and setup.fake is not None:
        raise UsageError("--measure takes real steps, and --device meta has none; see torchtally predict")
    if setup.device != "meta":
        device(setup.device)
    with setup.fake or nullcontext():
        with blamed(f"making {target}"):
            found = workload(target, setup)
        with blamed(f"the step of {target}"):
            if measure:
                return observe(found)
            with watch(found.model) as run:
                found.step()
    return run


def _page(target: str, setup: Setup) -> Page:
    """What this machine can do, where that is known, and the step's memory on fake tensors, as far as they go."""
    from ..machine import known_machine
    from ..prediction.predict import predict

    machine = known_machine("cuda" if setup.device.startswith("cuda") else "cpu")
    try:
        with working(f"predicting the memory of {target}"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were given when the step ran
            return Page(machine=machine, foreseen=predict(build_of(target, setup), learn=False))
    except Exception as error:  # of whatever kind: the step itself has just run
        why = (str(error).splitlines() or [type(error).__name__])[0]
        return Page(machine=machine, lacks=f"the report has no predicted memory: {why}")


def _fake(device_name: str) -> FakeTensorMode | None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode() if device_name == "meta" else None
