"""`torchtally profile`: one real step of a model, counted."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import check_files, checked_view, device, shown, working, write_files, written
from .target import Setup, blamed, targeted, workload

if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from ..run import Run

_VIEW = ("depth", "sort", "columns", "units", "inclusive")


@click.command()
@targeted
@shown
@written
def profile(
    target: str,
    device_name: str,
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

    \b
    Examples:
      torchtally profile torchvision:resnet50 --batch-size 8
      torchtally profile torchvision:vit_b_16 --eval --device meta --units macs
      torchtally profile my_package.model:build --batch-size 32 --json before.json --html cost.html
      torchtally profile my_package.model:Net --input 32x3x224x224 --optimizer adamw --sort flops
      torchtally profile my_package.text:Encoder --input 8x128:int64 --input 8x128:bool
    """
    check_files(json=json_path, csv=csv_path, html=html_path)
    choice = checked_view({name: options.pop(name) for name in _VIEW})
    from ..report.terminal import show, text
    from ..report.words import setting

    with working(f"running {target}"):
        run = _run(target, Setup(device=device_name, fake=_fake(device_name), **options))
    write_files(run, json_path=json_path, csv_path=csv_path, html_path=html_path)
    show(text(setting(run), "bold"))
    run.show(**choice)
    return 0


def _run(target: str, setup: Setup) -> Run:
    from ..profile import profile as watch

    if setup.device != "meta":
        device(setup.device)
    with setup.fake or nullcontext():
        with blamed(f"making {target}"):
            found = workload(target, setup)
        with blamed(f"the step of {target}"), watch(found.model) as run:
            found.step()
    return run


def _fake(device_name: str) -> FakeTensorMode | None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode() if device_name == "meta" else None
