"""The walkthrough's CNN, measured: where a training step's FLOPs, bytes and seconds go, and what the device could do.

First its audit; then, in processes of their own, its claims of computing asked of a clock, the device's ceilings and
some steps at each batch size (SGD with momentum, float32 as PyTorch is set). Seconds are medians over the processes; on
CUDA those of kernels. Bytes are what operators cannot but move. The roofline's share is the least time over the
measured one. Nothing else should run meanwhile. Exits with 1 where the audit fails.

    python benchmarks/walkthrough.py [--device cpu|cuda] [--batch-size N]... [--processes 5] [--repeats 7]
        [--threads N] [--keep-memory] [--output NAME]
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from clocked import clocked, clocked_lines
from results import DEVICE, KEEP_MEMORY, THREADS, device_or_exit, settle, write_results

import torchtally
from torchtally.models import CNN, CNNConfig, example
from torchtally.profiler.machine.ceilings import ceilings
from torchtally.profiler.seconds.roofed import failures, roof_rows
from torchtally.theory.roofline import Ceilings

BATCHES = (8, 32, 256)
BY_LAYER = ("forward", "backward")
MIB = 2**20
Sample = dict[str, Any]


# In processes of their own --------------------------------------------------------------------------------------------


def audited(device: str) -> Sample:
    """How many rows the audit has of each verdict, and for which of them it fails. An audit that ends with an error has
    failed, and what comes after it is measured still."""
    try:
        found = torchtally.audit(device=device)
    except (torchtally.TallyError, RuntimeError) as error:
        return {"verdicts": {}, "failed": [f"ended with {type(error).__name__}: {str(error).splitlines()[0]}"]}
    failed = [f"{row.path or '(model)'} {row.phase} {row.quantity}: {row.reason}" for row in found.failures]
    return {"verdicts": found.summary(), "failed": failed}


def workload(batch_size: int, device: str) -> torchtally.Workload:
    """A training step of the CNN."""
    torch.manual_seed(0)
    model = CNN(CNNConfig()).to(device)
    images, labels = example(model.config, batch_size, device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return torchtally.Workload(model=model, step=step, optimizer=optimizer)


def measured(batch_size: int, device: str, repeats: int, top: Ceilings) -> Sample:
    """A step's figures, and all that they were made of; nanoseconds are in the order in which steps were taken."""
    run = torchtally.measure(workload(batch_size, device), repeats=repeats)
    timing, roofs = run.timing, roof_rows(run.trace, run.ledger, top)
    flops = {(row.path, row.phase): row.flops for row in run.ledger.rows}
    return {
        "seconds": timing.seconds,
        "spread": timing.step.spread / timing.seconds,
        "overhead": timing.overhead,
        "closure": timing.closure,
        "peak_bytes": run.totals["peak_bytes"],
        "layers": [facts.path for facts in run.trace.modules],
        "rows": {
            f"{row.path} {row.phase}": {
                "flops": flops.get((row.path, row.phase)),
                "bytes": row.bytes,
                "roof": row.share,
            }
            for row in roofs
        },
        "spent": {f"{path} {what}": timing.spent(path, what) for path, what in timing.places},
        "shares": {f"{path} {what}": timing.share(path, what) for path, what in timing.places},
        "types": {facts.path: facts.type for facts in run.trace.modules},
        "beaten": failures(roofs),
        "bare_ns": list(timing.bare),
        "observed_ns": [{f"{path} {what}": spent for (path, what), spent in each.items()} for each in timing.observed],
    }


def in_process(run: Callable[..., Any], *arguments: Any, threads: int | None = None) -> Any:
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads if threads else None, (threads,)) as pool:
        return pool.apply(run, arguments)


# Tables ---------------------------------------------------------------------------------------------------------------


def median(samples: Sequence[Sample], *keys: str) -> float | None:
    """Of a figure that each sample has; None where one has not."""
    found: list[float] = []
    for sample in samples:
        figure: Any = sample
        for key in keys:
            figure = figure.get(key) if isinstance(figure, Mapping) else None
        if figure is None:
            return None
        found.append(float(figure))
    return statistics.median(found)


def batch_lines(batch_size: int, samples: Sequence[Sample]) -> list[str]:
    """A table of the layers, then what else the step did; shares add up to the step."""
    layers = [path for path in samples[0]["layers"] if any(_worked(samples, path, phase) for phase in BY_LAYER)]
    besides = dict.fromkeys(place.rpartition(" ")[2] for place in samples[0]["spent"] if not _of_layer(place))
    return [
        f"### N = {batch_size}",
        "",
        "| layer | MFLOP forward | backward | MiB forward | backward | us forward | backward | of the step "
        "| of the roofline forward | backward |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_layer_line(path, samples) for path in layers),
        "",
        "| besides | us | of the step |",
        "| --- | ---: | ---: |",
        *(_besides_line(what, samples) for what in besides),
        "",
        *_summary(samples),
        "",
    ]


def _of_layer(place: str) -> bool:
    return place.rpartition(" ")[2] in BY_LAYER


def _worked(samples: Sequence[Sample], path: str, phase: str) -> bool:
    return any(f"{path} {phase}" in sample[name] for sample in samples for name in ("rows", "spent"))


def _layer_line(path: str, samples: Sequence[Sample]) -> str:
    places = [f"{path} {phase}" for phase in BY_LAYER]
    cells = [
        *(_cell(median(samples, "rows", place, "flops"), 1e-6, ",.2f") for place in places),
        *(_cell(median(samples, "rows", place, "bytes"), 1 / MIB, ",.2f") for place in places),
        *(_cell(median(samples, "spent", place), 1e6, ",.1f") for place in places),
        _cell(_added(median(samples, "shares", place) for place in places), 1, ".1%"),
        *(_cell(median(samples, "rows", place, "roof"), 1, ".0%") for place in places),
    ]
    return f"| {path or '(model)'} | {' | '.join(cells)} |"


def _besides_line(what: str, samples: Sequence[Sample]) -> str:
    """A phase or gap that is no layer's, over all modules."""
    places = [place for place in samples[0]["spent"] if place.rpartition(" ")[2] == what]
    seconds, share = (_added(median(samples, name, place) for place in places) for name in ("spent", "shares"))
    return f"| {what} | {_cell(seconds, 1e6, ',.1f')} | {_cell(share, 1, '.1%')} |"


def _cell(figure: float | None, factor: float, form: str) -> str:
    """Empty where it was not measured."""
    return "" if figure is None else format(figure * factor, form)


def _added(figures: Iterable[float | None]) -> float | None:
    """None where none was measured."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def _summary(samples: Sequence[Sample]) -> list[str]:
    seconds, spread, overhead, closure = (
        median(samples, name) for name in ("seconds", "spread", "overhead", "closure")
    )
    beaten = sorted({line for sample in samples for line in sample["beaten"]})
    return [
        f"- the step: {_cell(seconds, 1e6, ',.1f')} us, give or take {_cell(spread, 1, '.1%')}; observed / bare "
        f"{_cell(overhead, 1, '.3f')}; closure {_cell(closure, 1, '.1%')}; peak "
        f"{_cell(median(samples, 'peak_bytes'), 1 / MIB, ',.2f')} MiB",
        f"- convolutions: {_part(samples, 'rows', 'flops'):.1%} of the layers' FLOPs, "
        f"{_part(samples, 'spent'):.1%} of the layers' seconds",
        *(f"- above its roofline: {line}" for line in beaten),
    ]


def _part(samples: Sequence[Sample], *keys: str) -> float:
    """The convolutions' part of a figure, forward and backward."""
    places = [place for place in samples[0][keys[0]] if _of_layer(place)]
    figures = {place: median(samples, keys[0], place, *keys[1:]) or 0.0 for place in places}
    types = samples[0]["types"]
    convolutions = sum(figures[place] for place in places if types.get(place.rpartition(" ")[0]) == "Conv2d")
    return convolutions / sum(figures.values())


def audit_lines(audit: Sample) -> list[str]:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in audit["verdicts"].items()) or "no verdicts"
    return [f"Audit: {counts}.", "", *(f"- fails: {words}" for words in audit["failed"]), *[""] * bool(audit["failed"])]


def ceiling_lines(top: Ceilings) -> list[str]:
    rates = ", ".join(f"{name} {rate / 1e12:,.3g}" for name, rate in top.flops.items())
    memory = max(rate for _, rate in top.bandwidth), top.bandwidth[-1][1]
    return [
        f"Ceilings: TFLOP/s in products: {rates}; GB/s at best {memory[0] / 1e9:,.0f}, from memory "
        f"{memory[1] / 1e9:,.0f}; an operator takes at least {top.overhead * 1e6:.2f} us.",
        "",
    ]


@click.command(help=__doc__)
@DEVICE
@click.option("--batch-size", "batches", type=click.IntRange(min=2), multiple=True, help=f"May be repeated. {BATCHES}")
@click.option("--processes", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=7, show_default=True, help="Steps in each process.")
@THREADS
@KEEP_MEMORY
@click.option("--output", help="Write benchmarks/results/NAME.{json,md}.")
def main(
    device: str,
    batches: tuple[int, ...],
    processes: int,
    repeats: int,
    threads: int | None,
    keep_memory: bool,
    output: str | None,
) -> None:
    device_or_exit(device)
    settle(threads, keep_memory)
    run = partial(in_process, threads=threads)
    audit, top = run(audited, device), run(ceilings, device)
    claims = [] if audit["failed"] else [run(clocked, device) for _ in range(processes)]
    lines = [*audit_lines(audit), *ceiling_lines(top), *clocked_lines(claims)]
    samples: dict[int, list[Sample]] = {}
    for batch_size in batches or BATCHES:
        samples[batch_size] = [run(measured, batch_size, device, repeats, top) for _ in range(processes)]
        lines += batch_lines(batch_size, samples[batch_size])
    print("\n".join(lines))
    if output:
        content = {"audit": audit, "claims": claims, "ceilings": asdict(top), "batches": samples}
        write_results(output, "\n".join(lines), content, device)
    sys.exit(1 if audit["failed"] else 0)


if __name__ == "__main__":
    main()
