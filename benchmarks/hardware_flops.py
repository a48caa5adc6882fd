"""FLOPs that the hardware executed, layer by layer, beside theory's: the last witness, who knows nothing of either.

Where Nsight Compute (`ncu`) is, the walkthrough's CNN runs under it, each layer by itself with the input that it has in
a step, forward and backward, in a range of its own; ncu counts the floating-point instructions of each kernel. Once
with TF32 allowed for products of float32, once without. Theory counts products alone exactly; what else it counts is
by convention (ReLU 1, normalization 5 an element), and no hardware is bound to it: each ratio has its reason.

Clocks and caches are left as they are: counts do not depend on them.

    python benchmarks/hardware_flops.py [--batch-size 32] [--tf32 on|off]... [--ncu PATH] [--output NAME]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

from ncu import Executed, Launch, NcuError, NotAllowedError, executed, launches, metrics, range_name
from results import device_or_exit, write_results

from torchtally.models import CNN, CNNConfig, example
from torchtally.profiler.precision import with_tf32
from torchtally.theory.cnn import cnn
from torchtally.theory.tensor import TensorSpec

PHASES = ("forward", "backward")
Range = Callable[[str], Any]


# Under ncu ------------------------------------------------------------------------------------------------------------


@contextmanager
def nvtx(name: str) -> Iterator[None]:
    """A range that ncu names beside each kernel launched in it by this thread."""
    torch.cuda.nvtx.range_push(name)
    try:
        yield
    finally:
        torch.cuda.nvtx.range_pop()


def run_layers(batch_size: int, device: str, ranged: Range, start: Callable[[], Any], stop: Callable[[], Any]) -> None:
    """Each layer forward and backward, in its ranges; between `start` and `stop` nothing else runs.

    Autograd is kept on this thread: ranges are a thread's own.
    """
    torch.manual_seed(0)
    model = CNN(CNNConfig()).to(device)
    images, _ = example(model.config, batch_size, device=device)
    with torch.autograd.set_multithreading_enabled(False):
        for path, module, given in inputs_of(model, images):
            _forward_and_backward(path, module, given, lambda name: _unranged())  # libraries choose and load kernels
            start()
            _forward_and_backward(path, module, given, ranged)
            stop()


def inputs_of(model: nn.Module, images: Tensor) -> list[tuple[str, nn.Module, Tensor]]:
    """Each layer with its input in a step: all but the images need a gradient."""
    found: list[tuple[str, nn.Module, Tensor]] = []

    def noted(path: str) -> Callable[..., None]:
        return lambda module, args: found.append((path, module, args[0].detach().requires_grad_(args[0] is not images)))

    leaves = [(path, module) for path, module in model.named_modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_pre_hook(noted(path)) for path, module in leaves]
    model(images)
    for handle in handles:
        handle.remove()
    return found


def _forward_and_backward(path: str, module: nn.Module, given: Tensor, ranged: Range) -> None:
    """Gradients are new each time: nothing is accumulated."""
    module.zero_grad()
    given.grad = None
    with ranged(range_name(path, "forward")):
        output = module(given)
    arriving = torch.ones_like(output)
    with ranged(range_name(path, "backward")):
        output.backward(arriving)


@contextmanager
def _unranged() -> Iterator[None]:
    yield


def _under_ncu(batch_size: int, tf32: str) -> None:
    def start() -> None:
        torch.cuda.synchronize()
        torch.cuda.profiler.start()

    def stop() -> None:
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()

    with with_tf32(tf32 == "on"):
        run_layers(batch_size, "cuda", nvtx, start, stop)


# Counting -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """A layer's phase."""

    path: str
    kind: str
    phase: str
    theory: int
    products: int
    executed: Executed
    kernels: tuple[str, ...]

    @property
    def ratio(self) -> float | None:
        """Hardware over theory; None where either has no figure, or theory none above 0."""
        flops = self.executed.flops
        return None if flops is None or not self.theory else flops / self.theory


def rows(found: Sequence[Launch], batch_size: int) -> list[Row]:
    """Theory's phases in its order, each with what was executed for it: nothing, where it launched no kernel."""
    config = CNNConfig()
    images = TensorSpec((batch_size, config.in_channels, *config.resolution))
    of_place: dict[tuple[str, str], list[Launch]] = defaultdict(list)
    for launch in found:
        of_place[launch.path, launch.phase].append(launch)
    asked = {name: 0 for launch in found for name in launch.metrics}
    return [
        Row(
            path=layer.path,
            kind=layer.kind,
            phase=phase,
            theory=cost.flops,
            products=cost.matmul_flops,
            executed=executed(of_place[layer.path, phase] or [Launch(layer.path, phase, "", asked)]),
            kernels=tuple(launch.kernel for launch in of_place[layer.path, phase]),
        )
        for layer in cnn().predict(images).rows
        for phase, cost in zip(PHASES, (layer.totals.forward, layer.totals.backward), strict=True)
    ]


def reason(row: Row) -> str:
    """Why hardware and theory differ, in words, as far as counts and names of kernels tell."""
    ratio = row.ratio
    if ratio is None:
        return "tensor cores worked, and this device counts no operations of theirs" if _only_instructions(row) else ""
    if not row.products:
        return "by convention: comparisons, roots and divisions are other instructions, and indices cost none"
    names = " ".join(row.kernels).lower()
    if ratio < 0.95:
        fast = next((name for name in ("winograd", "fft") if name in names), None)
        return (
            f"{fast}: fewer multiplications than the definition has"
            if fast
            else "fewer than the definition: unexplained"
        )
    if ratio > 1.05:
        if row.executed.tensor:
            return "tensor cores: whole tiles, with padded rows, columns and channels"
        return "whole tiles, with padding at the image's border, and the bias"
    return "as theory has it" if ratio == 1 else "theory, and some for the bias and for adding up parts"


def _only_instructions(row: Row) -> bool:
    return row.executed.tensor_instructions is not None and row.executed.vector is not None


def table(found: Sequence[Row], tf32: str) -> list[str]:
    lines = [
        f"### TF32 {tf32}",
        "",
        "| layer | phase | theory | of it products | hardware | of it tensor cores | hardware / theory | why |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in found:
        shown = [_figure(each) for each in (row.theory, row.products, row.executed.flops, row.executed.tensor)]
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        lines.append(f"| {row.path} | {row.phase} | {' | '.join(shown)} | {ratio} | {reason(row)} |")
    return [*lines, "", _sums(found), ""]


def _figure(count: int | None) -> str:
    return "not measured" if count is None else f"{count:,}"


def _sums(found: Sequence[Row]) -> str:
    """Of the layers that do products, which alone theory counts exactly."""
    products = [row for row in found if row.products]
    known = [row.executed.flops for row in products if row.executed.flops is not None]
    theory = sum(row.theory for row in products)
    if len(known) < len(products):
        return f"Convolutions and linear layers: theory {theory:,} FLOPs; not all of them were measured."
    return (
        f"Convolutions and linear layers: theory {theory:,} FLOPs, hardware {sum(known):,}: {sum(known) / theory:.3f}."
    )


# Running ncu ----------------------------------------------------------------------------------------------------------


def profiled(
    tool: str, asked: Sequence[str], batch_size: int, tf32: str, run: Callable[..., Any] = subprocess.run
) -> str:
    """What ncu prints of a run of this file."""
    options = "--csv --page raw --print-units base --nvtx --profile-from-start off --target-processes all"
    command = [
        tool,
        *options.split(),
        "--clock-control",
        "none",
        "--cache-control",
        "none",
        "--metrics",
        ",".join(asked),
    ]
    inside = [sys.executable, __file__, "--inside", "--batch-size", str(batch_size), "--tf32", tf32]
    said = run([*command, *inside], capture_output=True, text=True)
    return str(said.stdout) + "\n" + str(said.stderr)


def counted(tool: str, batch_size: int, tf32: str, run: Callable[..., Any] = subprocess.run) -> list[Row]:
    """The layers' rows. Raises NcuError where ncu did not count."""
    listed = run([tool, "--query-metrics"], capture_output=True, text=True)
    asked = metrics(f"{listed.stdout}\n{listed.stderr}")
    output = profiled(tool, asked, batch_size, tf32, run)
    return rows(launches(output, asked), batch_size)


@click.command(help=__doc__)
@click.option("--batch-size", type=click.IntRange(min=2), default=32, show_default=True)
@click.option("--tf32", "modes", type=click.Choice(["off", "on"]), multiple=True, default=("off", "on"))
@click.option("--ncu", "tool", help="Where ncu is.  [default: on the path]")
@click.option("--output", help="Write benchmarks/results/NAME.{json,md}.")
@click.option("--inside", is_flag=True, hidden=True)
def main(batch_size: int, modes: tuple[str, ...], tool: str | None, output: str | None, inside: bool) -> None:
    device_or_exit("cuda")
    if inside:
        _under_ncu(batch_size, modes[0])
        return
    tool = shutil.which(tool or "ncu")
    if tool is None:
        print("no ncu (Nsight Compute) here: nothing was measured")
        sys.exit(0)
    try:
        found = {tf32: counted(tool, batch_size, tf32) for tf32 in modes}
    except NcuError as error:
        print(f"{error}: nothing was measured")
        sys.exit(0 if isinstance(error, NotAllowedError) else 1)
    lines = [line for tf32, each in found.items() for line in table(each, tf32)]
    print("\n".join(lines))
    if output:
        content = {"batch_size": batch_size, "tf32": {tf32: [*map(asdict, each)] for tf32, each in found.items()}}
        write_results(output, "\n".join(lines), content, "cuda")


if __name__ == "__main__":
    main()
