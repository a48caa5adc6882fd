"""Seconds: how much of a step its layers explain, what observing costs, and predicted against measured.

Each figure is the median over processes of its own. In each, a step's time is the median of bare steps, which take
turns with observed ones. The machine is calibrated first, in a process of its own, on networks of other shapes; the
bare roofline stands beside what is predicted from calibrated curves. Nothing else should run meanwhile.

On CUDA layers have the seconds of their kernels, and what no kernel fills is idle; a prediction has the longer of each
operator's kernels and of its launch.

    python benchmarks/timing.py [--device cpu|cuda] [--processes 5] [--part closure|predicted] [--only NAME]
        [--threads N] [--keep-memory] [--output NAME]
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch

sys.path.insert(0, str(Path(__file__).parent))

from results import DEVICE, KEEP_MEMORY, THREADS, device_or_exit, settle, write_results
from timing_models import CLOSED, CNNS, PREDICTED, workload

from torchtally.profiler.machine import take_machine
from torchtally.profiler.machine.features import features
from torchtally.profiler.machine.record import from_json, to_json
from torchtally.profiler.measure import measure_time
from torchtally.profiler.profile import profile
from torchtally.profiler.run import Run
from torchtally.profiler.seconds.forecast import forecast
from torchtally.profiler.seconds.roofed import roof_rows

SMALL = 0.01  # of the step: layers below are too short to be compared with a prediction
Sample = dict[str, Any]


# In processes of their own --------------------------------------------------------------------------------------------


def closed(name: str, device: str, repeats: int) -> Sample:
    """What layers, loss and optimizer explain of the step, and what observing it costs."""
    timing = measure_time(workload(name, device), repeats)
    gaps = {gap: timing.share("", gap) for gap in ("python", "autograd", "idle", "outside")}  # type: ignore[arg-type]
    spread = timing.step.spread / timing.seconds
    return {
        "seconds": timing.seconds,
        "spread": spread,
        "overhead": timing.overhead,
        "closure": timing.closure,
        "bare": timing.step.seconds,
        "observed": timing.observed_step.seconds,
        **gaps,
    }


def calibrated(path: str, device: str, rounds: int) -> Sample:
    """The machine, written to `path`."""
    machine = take_machine(device, rounds=rounds)
    Path(path).write_text(json.dumps(to_json(machine)), encoding="utf-8")
    return {"samples": len(machine.samples)}


def predicted(name: str, device: str, repeats: int, path: str) -> Sample:
    """Measured, predicted, and the roofline's bound, for the step and for each of its rows."""
    machine = from_json(json.loads(Path(path).read_text(encoding="utf-8")))
    work = workload(name, device)
    timing = measure_time(work, repeats)
    with profile(work.model) as counted:
        work.step()
    found = forecast(counted.trace, machine)
    run = Run(counted.trace, timing=timing)
    roofs = {f"{row.path} {row.phase}": row for row in roof_rows(run.trace, run.ledger, machine.ceilings)}
    met = {sample.features for sample in machine.samples}
    products = [what for facts in run.trace.operators if len((what := features(facts.signature)).sizes) > 1]
    return {
        "seconds": timing.seconds,
        "spread": timing.step.spread / timing.seconds,
        "predicted": found.seconds,
        "roofline": sum(row.least_seconds for row in roofs.values()),
        "rows": {
            f"{path} {what}": [timing.spent(path, what), found.spent(path, what)]
            for path, what in timing.places
            if timing.share(path, what) >= SMALL
        },
        "shares": {name: row.share for name, row in roofs.items() if row.share is not None},
        "met": sum(what in met for what in products) / max(len(products), 1),
        "unknown": list(found.notes),
    }


def _in_process(run: Callable[..., Sample], threads: int | None, arguments: Sequence[Any]) -> Sample:
    if threads is not None:
        torch.set_num_threads(threads)
    return run(*arguments)


def _processes(run: Callable[..., Sample], count: int, threads: int | None, *arguments: Any) -> list[Sample]:
    context = multiprocessing.get_context("spawn")
    found = []
    for _ in range(count):
        with context.Pool(1) as pool:
            found.append(pool.apply(_in_process, (run, threads, arguments)))
    return found


# Tables ---------------------------------------------------------------------------------------------------------------


def _median(samples: Sequence[Sample], name: str) -> float:
    return statistics.median(float(sample[name]) for sample in samples)


def closure_lines(samples: dict[str, list[Sample]]) -> list[str]:
    lines = [
        "### How much of the step is explained",
        "",
        "| step | seconds | give or take | observed / bare | closure | Python | between nodes | idle | outside |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in samples.items():
        shares = " | ".join(
            f"{_median(found, each):.1%}" for each in ("closure", "python", "autograd", "idle", "outside")
        )
        lines.append(
            f"| {name} | {_median(found, 'seconds'):.4f} | {_median(found, 'spread'):.1%} | "
            f"{_median(found, 'overhead'):.3f} | {shares} |"
        )
    return [*lines, ""]


def predicted_lines(samples: dict[str, list[Sample]]) -> list[str]:
    lines = [
        "### Predicted and measured",
        "",
        "| step | measured s | give or take | predicted s | off by | roofline s | off by | layers' median factor |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in samples.items():
        measured, guess, bound = (_median(found, each) for each in ("seconds", "predicted", "roofline"))
        lines.append(
            f"| {name} | {measured:.4f} | {_median(found, 'spread'):.1%} | {guess:.4f} | {guess / measured - 1:+.1%} | "
            f"{bound:.4f} | {bound / measured - 1:+.1%} | {_factor(found):.2f} |"
        )
    return [*lines, "", *_predicted_summary(samples), ""]


def _predicted_summary(samples: dict[str, list[Sample]]) -> list[str]:
    off = {name: abs(_median(found, "predicted") / _median(found, "seconds") - 1) for name, found in samples.items()}
    groups = {"the CNN": [name for name in off if name in CNNS], "torchvision": [n for n in off if n not in CNNS]}
    lines = [
        f"- {group}: {len(names)} steps, off by {statistics.median(off[name] for name in names):.1%} in the median, "
        f"{max(off[name] for name in names):.1%} at most"
        for group, names in groups.items()
        if names
    ]
    met = [sample["met"] for found in samples.values() for sample in found]
    shares = [(name, *_highest(found)) for name, found in samples.items()]
    above = [(name, row, share) for name, _, rows in shares for row, share in rows if share > 1]
    count = sum(rows for _, rows, _ in shares)
    lines.append(f"- products and convolutions of a shape that calibration had met: {statistics.mean(met):.1%}")
    lines.append(f"- rows above their roofline: {len(above)} of {count} ({len(above) / max(count, 1):.1%})")
    lines += [f"  - {name}: {row} at {share:.0%}" for name, row, share in above]
    unknown = sorted({note for found in samples.values() for sample in found for note in sample["unknown"]})
    return [*lines, *(f"- {note}" for note in unknown)]


def _factor(found: Sequence[Sample]) -> float:
    """Of the rows that take at least a hundredth of the step: the median of how many times too much or too little."""
    rows = set.intersection(*(set(sample["rows"]) for sample in found))
    factors = []
    for row in rows:
        measured = statistics.median(sample["rows"][row][0] for sample in found)
        guess = found[0]["rows"][row][1]
        factors.append(max(guess / measured, measured / guess) if guess else float("inf"))
    return statistics.median(factors) if factors else float("nan")


def _highest(found: Sequence[Sample]) -> tuple[int, list[tuple[str, float]]]:
    """How many rows there are, and each one's median share of its roofline."""
    rows = set.intersection(*(set(sample["shares"]) for sample in found))
    return len(rows), [(row, statistics.median(sample["shares"][row] for sample in found)) for row in sorted(rows)]


@click.command(help=__doc__)
@click.option("--processes", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=7, show_default=True, help="Steps in each process.")
@click.option("--rounds", type=click.IntRange(min=1), default=24, show_default=True, help="Of calibration.")
@DEVICE
@THREADS
@click.option("--part", "parts", type=click.Choice(["closure", "predicted"]), multiple=True, help="May be repeated.")
@click.option("--only", multiple=True, help="Only steps whose name begins so; may be repeated.")
@KEEP_MEMORY
@click.option("--output", help="Write benchmarks/results/NAME.{json,md}.")
def main(
    processes: int,
    repeats: int,
    rounds: int,
    device: str,
    threads: int | None,
    parts: tuple[str, ...],
    only: tuple[str, ...],
    keep_memory: bool,
    output: str | None,
) -> None:
    device_or_exit(device)
    settle(threads, keep_memory)
    content: dict[str, dict[str, list[Sample]]] = {}
    lines: list[str] = []
    if "closure" in parts or not parts:
        content["closure"] = {
            name: _processes(closed, processes, threads, name, device, repeats) for name in _chosen(CLOSED, only)
        }
        lines += closure_lines(content["closure"])
    if "predicted" in parts or not parts:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "machine.json")
            _processes(calibrated, 1, threads, path, device, rounds)
            content["predicted"] = {
                name: _processes(predicted, processes, threads, name, device, repeats, path)
                for name in _chosen(PREDICTED, only)
            }
        lines += predicted_lines(content["predicted"])
    print("\n".join(lines))
    if output:
        write_results(output, "\n".join(lines), content, device)


def _chosen(names: Sequence[str], only: tuple[str, ...]) -> list[str]:
    return [name for name in names if not only or name.startswith(only)]


if __name__ == "__main__":
    main()
