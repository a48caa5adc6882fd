"""Theory's stream of a step against the allocator's own account of it, for every combination of batch, image size,
optimizer, in-place layers, accumulation and `zero_grad`, and evaluation: one thread, CPU. Ends with 1 if any differs.

    python benchmarks/balance.py [--samples 256] [--side 64] [--output NAME]
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "memory"))

from combinations import Combination, evaluation, training
from results import write_results

from torchtally.profiler.balance import Balance, balance
from torchtally.profiler.measure import measure_memory
from torchtally.theory.liveness import OneDNN

SAMPLES, SIDES = (2, 8, 32, 256), (32, 64)


def held(combination: Combination) -> Balance:
    """One real step, held to theory."""
    return balance(combination.theory(OneDNN()), measure_memory(combination.workload()).stream)


def row(samples: int, side: int) -> tuple[dict[str, int], list[str]]:
    """How many steps of that size balance, and in words what of the others does not."""
    counts = {"steps": 0, "exact": 0, "framework exact": 0, "labelled alike": 0, "events": 0, "largest peak": 0}
    differences = []
    for combination in (*training(samples, side), *evaluation(samples, side)):
        result = held(combination)
        counts["steps"] += 1
        counts["exact"] += result.exact
        counts["framework exact"] += result.framework_exact
        counts["labelled alike"] += result.labelled_alike
        counts["events"] += len(result.measured.events)
        counts["largest peak"] = max(counts["largest peak"], result.measured.peak_bytes)
        if difference := result.difference or result.label_difference:
            differences.append(f"{combination}: {difference}")
    return counts, differences


@click.command()
@click.option("--samples", type=int, multiple=True, default=SAMPLES, show_default=True)
@click.option("--side", type=int, multiple=True, default=SIDES, show_default=True)
@click.option("--output", help="Write benchmarks/results/NAME.md and .json.")
def main(samples: tuple[int, ...], side: tuple[int, ...], output: str | None) -> None:
    """Run all, and print a row for each size."""
    torch.set_num_threads(1)
    rows, differences = {}, []
    for size in product(samples, side):
        rows[f"{size[0]} x {size[1]}"], found = row(*size)
        differences += found
        print(f"{size[0]} x {size[1]}: {rows[f'{size[0]} x {size[1]}']}", *found, sep="\n", flush=True)
    columns = list(next(iter(rows.values())))
    lines = [f"| batch x side | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    lines += [f"| {name} | {' | '.join(f'{counts[each]:,}' for each in columns)} |" for name, counts in rows.items()]
    if output:
        write_results(output, "\n".join(lines), {"rows": rows, "differences": differences}, "cpu")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
