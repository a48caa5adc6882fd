"""Memory before the run: predicted peaks of a training step beside measured ones, and beside MemTracker's.

One row per model: SGD with momentum, the second step. "Framework only" is the prediction without what was learnt of the
inside of operators. The residual says where the predicted stream first parts from the measured one. The part `llama`
predicts a step that no machine here could take. Exits with 1 where the median error is not 0, or one is above 2 %.

    python benchmarks/memory.py [--device cpu|cuda] [--part zoo|llama] [--only PREFIX]... [--output NAME]
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch.nn import functional as F  # noqa: N812 - the field's own name for it

sys.path.insert(0, str(Path(__file__).parent))

from memory_models import builders
from results import DEVICE, device_or_exit, write_results
from shapes import Llama, LlamaShape

from torchtally import Workload
from torchtally.profiler.capture.tensors import tensors_in
from torchtally.profiler.capture.whereabouts import reached
from torchtally.profiler.measure import measure_memory
from torchtally.profiler.prediction.predict import predict
from torchtally.profiler.prediction.workspaces import Learner
from torchtally.theory.stream import Stream

TRACKER_SECONDS = 60
LLAMA_70B = LlamaShape(layers=80, hidden=8192, heads=64, feed_forward=28672)


@dataclass(frozen=True)
class Row:
    """One model. Peaks in bytes; `tracker` is MemTracker's, or why there is none."""

    model: str
    measured: int
    predicted: int
    framework_only: int
    tracker: int | str
    events: int
    residual: str
    notes: tuple[str, ...]
    seconds: float

    @property
    def error(self) -> float:
        """Of the prediction, in parts of the measured peak."""
        return self.predicted / self.measured - 1


def compare(name: str, build: Callable[[], Workload], learner: Learner, device: str) -> Row:
    """One model's row."""
    start = time.perf_counter()
    predicted = predict(build, learn=learner).memory
    seconds = time.perf_counter() - start
    framework_only = predict(build, learn=False).memory
    gc.collect()
    measured = measure_memory(build())
    gc.collect()
    return Row(
        model=name,
        measured=measured.peak_bytes,
        predicted=predicted.peak_bytes,
        framework_only=framework_only.peak_bytes,
        tracker=tracked(name, device),
        events=len(measured.stream.events),
        residual=parting(predicted.stream, measured.stream),
        notes=predicted.notes,
        seconds=round(seconds, 2),
    )


def parting(predicted: Stream, measured: Stream) -> str:
    """Where two streams part, in words; "" where they are equal, event by event."""
    for number, (ours, real) in enumerate(zip(predicted.events, measured.events, strict=False)):
        if predicted.signed(ours) != measured.signed(real):
            operators = (predicted.blocks[ours.block].operator, measured.blocks[real.block].operator)
            return (
                f"event {number:,} of {len(measured.events):,}, {real.path or 'step'}, {real.phase}: predicted "
                f"{predicted.signed(ours):+,} B ({operators[0]}), measured {measured.signed(real):+,} B "
                f"({operators[1]})"
            )
    if len(predicted.events) != len(measured.events):
        return f"{len(predicted.events):,} events predicted, {len(measured.events):,} measured"
    return ""


# MemTracker, in a process of its own: it takes one step and no more, and long for deep models -------------------------


def tracked(name: str, device: str) -> int | str:
    """Its peak of the same step."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_track, args=(name, device, results))
    process.start()
    process.join(TRACKER_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return f"took over {TRACKER_SECONDS} s"
    found: int | str = results.get() if not results.empty() else "ended without a result"
    return found


def _track(name: str, device: str, results: Any) -> None:
    from torch.distributed._tools.mem_tracker import MemTracker

    torch.set_num_threads(1)
    workload = builders(device)[name]()
    workload.step()
    tracker = MemTracker()
    tracker.track_external(workload.model, workload.optimizer, *tensors_in(list(reached(workload.step))))
    try:
        with tracker:
            workload.step()
        peak = tracker.get_tracker_snapshot("peak")
        results.put(next(sums["Total"] for where, sums in peak.items() if where.type == torch.device(device).type))
    except Exception as error:  # whatever it raises is the answer
        results.put(f"failed: {type(error).__name__}")


# The parts ------------------------------------------------------------------------------------------------------------

HEADER = (
    "| model | measured B | predicted B | error % | framework only, error % | MemTracker B | error % | events "
    "| residual |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)


def line(row: Row) -> str:
    def percent(peak: int) -> str:
        return f"{100 * (peak / row.measured - 1):+.3f}" if peak != row.measured else "0"

    tracker = (f"{row.tracker:,}", percent(row.tracker)) if isinstance(row.tracker, int) else (row.tracker, "")
    return (
        f"| {row.model} | {row.measured:,} | {row.predicted:,} | {percent(row.predicted)} | "
        f"{percent(row.framework_only)} | {tracker[0]} | {tracker[1]} | {row.events:,} | "
        f"{'; '.join((row.residual or 'none: equal event by event', *row.notes))} |"
    )


def zoo(device: str, only: tuple[str, ...]) -> tuple[str, dict[str, Any], bool]:
    """The table, its content, and whether it is as it should be."""
    learner, rows, failed = Learner(), [], {}
    print(HEADER)
    for name, build in builders(device).items():
        if only and not name.startswith(only):
            continue
        try:
            rows.append(compare(name, build, learner, device))
            print(line(rows[-1]), flush=True)
        except RuntimeError as error:
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            print(f"{name}: {failed[name]}", file=sys.stderr, flush=True)
    learner.close()
    errors = [abs(row.error) for row in rows]
    median, worst = statistics.median(errors), max(errors)
    exact = sum(not row.residual for row in rows)
    summary = (
        f"{len(rows)} models: median error {100 * median:.3f} %, worst {100 * worst:.3f} %; {exact} streams equal "
        f"event by event; failed: {', '.join(failed) or 'none'}."
    )
    table = "\n".join([summary, "", HEADER, *map(line, rows), *(f"| {name} | {why} |" for name, why in failed.items())])
    print(summary)
    return table, {"rows": [asdict(row) for row in rows], "failed": failed}, not failed and not median and worst <= 0.02


def _llama(optimizer: Callable[..., torch.optim.Optimizer]) -> Callable[[], Workload]:
    def build(batch_size: int = 1) -> Workload:
        model = Llama(LLAMA_70B)
        tokens = torch.zeros(batch_size, 2048, dtype=torch.long)
        steps = optimizer(model.parameters(), lr=1e-4)

        def step() -> None:
            steps.zero_grad()
            F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
            steps.step()

        return Workload(model=model, step=step, optimizer=steps)

    return build


def _llama_in_process(name: str, results: Any) -> None:
    torch.set_num_threads(1)
    start, before = time.perf_counter(), time.process_time()
    run = predict(_llama(getattr(torch.optim, name)), learn=False)
    results.put(
        {
            "optimizer": name,
            "parameters": run.totals["parameters"],
            "peak_bytes": run.memory.peak_bytes,
            "events": len(run.memory.stream.events),
            "where": f"{run.memory.peak.path or 'step'}, {run.memory.peak.phase}",
            "cpu_seconds": round(time.process_time() - before, 2),
            "wall_seconds": round(time.perf_counter() - start, 2),
            "resident_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "notes": run.memory.notes,
        }
    )


def llama() -> tuple[str, dict[str, Any], bool]:
    """A Llama shape of 70 billion parameters, batch 1, sequence 2,048, float32: each prediction in a fresh process."""
    context = multiprocessing.get_context("spawn")
    found = []
    for name in ("SGD", "AdamW"):
        results = context.Queue()
        process = context.Process(target=_llama_in_process, args=(name, results))
        process.start()
        found.append(results.get())
        process.join()
    lines = [
        "A Llama shape of 70 billion parameters, batch 1, sequence 2,048, float32, predicted in one process each; CPU "
        "seconds with the imports that the first fake tensor brings.",
        "",
        "| optimizer | parameters | peak GiB | at | events | CPU s | wall s | resident MiB |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {each['optimizer']} | {each['parameters']:,} | {each['peak_bytes'] / 2**30:,.2f} | {each['where']} | "
            f"{each['events']:,} | {each['cpu_seconds']} | {each['wall_seconds']} | {each['resident_mib']:,} |"
            for each in found
        ),
        "",
        *dict.fromkeys(note for each in found for note in each["notes"]),
    ]
    print("\n".join(lines))
    quick = all(each["cpu_seconds"] <= 15 and each["resident_mib"] <= 4096 for each in found)
    return "\n".join(lines), {"llama": found}, quick


@click.command(help=__doc__)
@DEVICE
@click.option("--part", "parts", type=click.Choice(["zoo", "llama"]), multiple=True, help="Only this part.")
@click.option("--only", multiple=True, help="Models whose names begin so; may be repeated.")
@click.option("--output", help="Write benchmarks/results/NAME.{json,md}.")
def main(device: str, parts: tuple[str, ...], only: tuple[str, ...], output: str | None) -> None:
    device_or_exit(device)
    torch.set_num_threads(1)
    tables, content, good = [], {}, True
    for part in parts or ("llama", "zoo"):
        table, found, fine = llama() if part == "llama" else zoo(device, only)
        tables.append(table)
        content |= found
        good = good and fine
    if output:
        write_results(output, "\n\n".join(tables), json.loads(json.dumps(content)), device)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
