"""The zoo: every torchvision model and shapes of transformers, forward and backward, ours beside FlopCounterMode's.

One row per model: parameters, products' FLOPs forward and backward by torchtally and by FlopCounterMode, what has no
price, how much of the products closed forms cover, seconds. Where the two counts differ, the model must be on the list
of FlopCounterMode's defects (zoo_oracle.py), and torchtally's figure must equal the one counted by hand there. Closed
forms must agree with the count on FLOPs wherever they speak, and cover 99 % of the products; where they disagree on
bytes or shapes, the summary names it. Exits with 1 where a row is wrong.

    python benchmarks/zoo.py [--device cpu|cuda|meta] [--only PREFIX]... [--limit N] [--json] [--output NAME]
"""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(Path(__file__).parent))

from results import device_or_exit, write_results
from zoo_models import REAL_PARAMETERS, Entry, entries, loss_of, made, moved, on_fake
from zoo_oracle import Corrected, defect_of, parameters_of

from torchtally import Comparison, Profile, profile
from torchtally.profiler.errors import TallyError

LEAST = Fraction(99, 100)  # of forward and backward products, by closed forms


@dataclass(frozen=True)
class Row:
    """One model. Figures are of one training step; `right` is FlopCounterMode's corrected by hand."""

    model: str
    family: str
    ran: str
    inputs: str
    parameters: int
    parameters_right: int
    forward: int
    forward_fcm: int
    forward_right: int
    backward: int
    backward_fcm: int
    backward_right: int
    flops: int
    operators: int
    unpriced: list[str]
    coverage: float
    covered: float  # by closed forms that agree: the share of forward and backward products
    compared: int  # rows of run.compare(), and of those that disagree, which
    disagree: list[str]
    kinds_without_products: list[str]  # kinds without a closed form, by whether they do products
    kinds_with_products: list[str]
    notes: int
    seconds: float
    defect: str | None

    @property
    def faults(self) -> list[str]:
        """What is wrong with this row, in words; nothing should be."""
        found = [f"unpriced: {name}" for name in self.unpriced]
        if self.parameters != self.parameters_right:
            found.append(f"parameters {self.parameters} instead of {self.parameters_right}")
        for phase in ("forward", "backward"):
            ours, right = getattr(self, phase), getattr(self, f"{phase}_right")
            if ours != right:
                found.append(f"{phase} {ours} instead of {right}")
        differs = (self.forward, self.backward) != (self.forward_fcm, self.backward_fcm)
        if differs and self.defect is None:
            found.append("differs from FlopCounterMode without a listed defect")
        if self.defect is not None and not differs:
            found.append("listed as a defect of FlopCounterMode, but agrees")
        if self.covered < LEAST:
            found.append(f"closed forms cover {self.covered:.2%} of the products")
        return [*found, *(f"closed form and count disagree: {row}" for row in self.disagree if "flops" in row)]


def measure(entry: Entry, device: str = "cpu") -> Row:
    """One model's row: a step under torchtally, and the same step under FlopCounterMode and the hand count."""
    large = entry.only_fake or (not entry.only_real and _size(entry) > REAL_PARAMETERS)
    fake = device == "cpu" and large
    with FakeTensorMode() if fake else contextlib.nullcontext() as mode:
        place = "cpu" if entry.only_real and device == "meta" else device
        model = _placed(entry, place, mode)
        ours, seconds = _profiled(entry, model, place)
        corrected = _corrected(entry, model, place)
    totals, comparison = ours.totals, ours.compare()
    with_products, others = _kinds_without_form(ours, comparison)
    (forward_fcm, backward_fcm), (forward_right, backward_right) = corrected.fcm, corrected.right
    return Row(
        model=entry.name,
        family=entry.family,
        ran=f"{place}, fake" if fake else place,
        inputs=_described(entry),
        parameters=totals["parameters"],
        parameters_right=parameters_of(model),
        forward=totals["forward_matmul_flops"],
        forward_fcm=forward_fcm,
        forward_right=forward_right,
        backward=sum(totals.get(f"{phase}_matmul_flops", 0) for phase in ("loss", "backward", "recompute")),
        backward_fcm=backward_fcm,
        backward_right=backward_right,
        flops=sum(value for key, value in totals.items() if key.endswith("_flops") and "matmul" not in key),
        operators=ours.coverage.calls,
        unpriced=[entry.operator for entry in ours.coverage.unpriced],
        coverage=ours.coverage.share,
        covered=float(_covered(ours, comparison)),
        compared=len(comparison.rows),
        disagree=[f"{row.path} {row.phase} {row.quantity}" for row in comparison.failures],
        kinds_without_products=others,
        kinds_with_products=with_products,
        notes=len(ours.coverage.notes),
        seconds=round(seconds, 2),
        defect=defect_of(entry.name),
    )


def _covered(run: Profile, comparison: Comparison) -> Fraction:
    """The share of forward and backward products whose modules have a closed form that agrees."""
    names = [f"{phase}_matmul_flops" for phase in ("forward", "backward")]
    whole = sum(run.totals.get(name, 0) for name in names)
    return sum((run.totals.get(name, 0) * comparison.covered.get(name, 0) for name in names), Fraction()) / whole


def _kinds_without_form(run: Profile, comparison: Comparison) -> tuple[list[str], list[str]]:
    """Kinds of module that do products and have no closed form; and those that do other arithmetic."""
    kinds: dict[str, bool] = {}
    for row in run.ledger.rows:
        if comparison.not_compared.get(row.path, "").startswith("no closed form"):
            kinds[row.type] = kinds.get(row.type, False) or bool(row.matmul_flops)
    return [kind for kind in sorted(kinds) if kinds[kind]], [kind for kind in sorted(kinds) if not kinds[kind]]


def _size(entry: Entry) -> int:
    return parameters_of(made(entry, initialized=False))


def _placed(entry: Entry, device: str, mode: FakeTensorMode | None) -> nn.Module:
    if mode is None:
        return made(entry, initialized=device != "meta").to(device)
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes():
        model = made(entry, initialized=False)
    return on_fake(model, mode)


def _step(entry: Entry, model: nn.Module, device: str, between: Any = lambda: None) -> None:
    torch.manual_seed(1)
    args, keywords = moved(entry.inputs(), device)
    loss = loss_of(model(*args, **keywords))
    between()
    loss.backward()


def _profiled(entry: Entry, model: nn.Module, device: str) -> tuple[Profile, float]:
    start = time.perf_counter()
    with profile(model) as run:
        _step(entry, model, device)
    _ = run.ledger
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    model.zero_grad()
    return run, seconds


def _corrected(entry: Entry, model: nn.Module, device: str) -> Corrected:
    with Corrected(model) as corrected:
        _step(entry, model, device, corrected.forward_done)
    model.zero_grad()
    return corrected


def _described(entry: Entry) -> str:
    shapes = [tuple(t.shape) for t in torch.utils._pytree.tree_leaves(entry.inputs()) if isinstance(t, torch.Tensor)]
    return " ".join("x".join(map(str, shape)) for shape in shapes[:2])


# Showing --------------------------------------------------------------------------------------------------------------


def _ratio(ours: int, theirs: int) -> str:
    return "1" if ours == theirs else f"{theirs / ours:.3g}"


HEADER = (
    "| model | ran on | input | parameters | forward MFLOP | FCM / ours | backward MFLOP | FCM / ours "
    "| unpriced | coverage | by closed forms | rows | s | FlopCounterMode |\n"
    "|---|---|---|---:|---:|---:|---:|---:|---|---:|---|---:|---:|---|"
)


def _line(row: Row) -> str:
    return (
        f"| {row.model} | {row.ran} | {row.inputs} | {row.parameters:,} | {row.forward / 1e6:,.1f} "
        f"| {_ratio(row.forward, row.forward_fcm)} | {row.backward / 1e6:,.1f} "
        f"| {_ratio(row.backward, row.backward_fcm)} | {', '.join(row.unpriced) or 'none'} | {row.coverage:.0%} "
        f"| {_share(row)} | {row.compared:,} | {row.seconds:.1f} | {'; '.join(row.faults) or row.defect or ''} |"
    )


def _share(row: Row) -> str:
    """Never rounded up to all."""
    share = "100 %" if row.covered == 1 else f"{int(row.covered * 10_000) / 100:.2f} %"
    return f"{share}, not {', '.join(row.kinds_with_products)}" if row.kinds_with_products else share


def _named(rows: list[Row]) -> str:
    """The rows that disagree, each once, with the number of models."""
    times = Counter(name for row in rows for name in row.disagree)
    return f" ({', '.join(f'{name} of {count} models' for name, count in times.items())})" if times else ""


def _said_of_forms(rows: list[Row]) -> list[str]:
    """What the table says of closed forms, in sum, and the kinds that have none."""
    kinds = {
        what: ", ".join(sorted({kind for row in rows for kind in getattr(row, name)})) or "none"
        for what, name in (("products", "kinds_with_products"), ("other arithmetic", "kinds_without_products"))
    }
    least = min(rows, key=lambda row: row.covered)
    return [
        f"Closed forms: {sum(row.compared for row in rows):,} rows of `run.compare()`, of which "
        f"{sum(len(row.disagree) for row in rows)} disagree{_named(rows)}; of a model's products at least "
        f"{int(least.covered * 10_000) / 100:.2f} % is in modules whose closed form agrees ({least.model}), and "
        f"{sum(row.covered == 1 for row in rows)} of {len(rows)} models have all. By closed forms: that share.",
        "",
        *(f"Kinds that do {what} and have no closed form: {names}." for what, names in kinds.items()),
    ]


def table(rows: list[Row], failed: dict[str, str], seconds: float) -> str:
    """The table as markdown, and what it says in sum."""
    agree = sum((row.forward, row.backward) == (row.forward_fcm, row.backward_fcm) for row in rows)
    wrong = [row.model for row in rows if row.faults]
    lines = [
        f"{len(rows)} models in {seconds:.0f} s: {agree} as FlopCounterMode has them, {len(rows) - agree} where it is "
        f"wrong and ours equals the count by hand; {sum(bool(row.unpriced) for row in rows)} with unpriced operators; "
        f"wrong: {', '.join(wrong) or 'none'}; failed: {', '.join(failed) or 'none'}.",
        "",
        "MFLOP are of products only (convolution, linear, attention), one training step. FCM / ours: FlopCounterMode's "
        "figure in ours; 1 is exactly equal.",
        "",
        *(_said_of_forms(rows) if rows else []),
        "",
        HEADER,
        *(_line(row) for row in rows),
        *(f"| {name} | failed: {why} |" for name, why in failed.items()),
    ]
    return "\n".join(lines)


@click.command()
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda", "meta"]),
    default="cpu",
    show_default=True,
    help="On the CPU, large models are on fake tensors.",
)
@click.option("--only", multiple=True, help="models whose names begin so; may be repeated")
@click.option("--limit", type=int, help="at most so many models")
@click.option("--json", "as_json", is_flag=True, help="print JSON lines instead of a table")
@click.option("--output", help="write benchmarks/results/NAME.md and .json [zoo-DEVICE when the whole zoo ran]")
def main(device: str, only: tuple[str, ...], limit: int | None, as_json: bool, output: str | None) -> None:
    """Count every model of the zoo beside FlopCounterMode."""
    device_or_exit(device)
    chosen = [entry for entry in entries() if not only or entry.name.startswith(only)][:limit]
    rows: list[Row] = []
    failed: dict[str, str] = {}
    start = time.perf_counter()
    if not as_json:
        click.echo(HEADER)
    for entry in chosen:
        try:
            rows.append(measure(entry, device))
            click.echo(json.dumps(asdict(rows[-1])) if as_json else _line(rows[-1]))
        except (RuntimeError, AssertionError, TypeError, ValueError, TallyError) as error:
            failed[entry.name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            click.echo(f"{entry.name}: {failed[entry.name]}", err=True)
        gc.collect()
    shown = table(rows, failed, time.perf_counter() - start)
    name = output or (f"zoo-{device}" if not only and limit is None else None)
    if name:
        write_results(name, shown, {"rows": [asdict(row) for row in rows], "failed": failed}, device)
    click.echo(shown.splitlines()[0], err=as_json)
    sys.exit(1 if failed or any(row.faults for row in rows) else 0)


if __name__ == "__main__":
    main()
