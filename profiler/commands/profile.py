"""`torchtally profile`: one real step of a model, counted."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import check_files, checked_view, device, shown, working, write_files, written
from .target import Setup, blamed, targeted, workload

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

    with working(f"running {target}"):
        run = _run(target, Setup(device=device_name, fake=_fake(device_name), **options), measure)
    write_files(run, json_path=json_path, csv_path=csv_path, html_path=html_path)
    show(text(setting(run), "bold"))
    run.show(**choice)
    if measure:
        show(memory_view(run.memory))
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


def _fake(device_name: str) -> FakeTensorMode | None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode() if device_name == "meta" else None
