"""Why another counter says otherwise: from torchtally's forward FLOPs to its figure, part by part, to the last one.

ResNet-50 and ViT-B/16 in evaluation, one image of 224x224. Counters that are installed are run, each in a process of
its own (`pip install fvcore torchinfo ptflops deepspeed`); these are counts, and any machine gives them. What the
parts do not explain is the remaining difference, and the exit status is 1 where there is one.

    python benchmarks/reconcile.py [--only TOOL]... [--output NAME]
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
import torchvision
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

from peers import MACS, TIMEOUT, TOOLS, Said, apart
from reconcile_parts import RULES, Line, Part, lines, parts
from results import write_results

import torchtally

MODELS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50": torchvision.models.resnet50,
    "ViT-B/16": torchvision.models.vit_b_16,
}


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """A tool's figure of a model in its own unit, and the lines that lead to it from torchtally's."""

    model: str
    tool: str
    version: str
    unit: str
    figure: int
    lines: list[Line]

    @property
    def remaining(self) -> int:
        """What no line explains."""
        return self.figure - sum(line.tool for line in self.lines)


def prepared(name: str) -> tuple[nn.Module, Tensor]:
    """The model in evaluation, with random weights, and one image."""
    torch.manual_seed(0)
    return MODELS[name]().eval(), torch.zeros(1, 3, 224, 224)


def counted(name: str) -> dict[str, Part]:
    """torchtally's own forward pass in parts. Raises ValueError where they do not add up to its total."""
    model, image = prepared(name)
    run = torchtally.count(model, image, backward=False, device="meta")
    found = parts(run)
    if sum(part.torchtally for part in found.values()) != run.totals["forward_flops"]:
        raise ValueError(f"the parts of {name} are not all of its FLOPs")
    return found


def said(tool: str, name: str) -> Said:
    """What a tool says of the model. To be called in a process of its own: some leave patched functions behind."""
    model, image = prepared(name)
    return TOOLS[tool][1](model, (image,), {}, False)


def reconciled(tool: str, name: str, found: dict[str, Part]) -> Reconciled:
    """One tool, one model. Raises RuntimeError where the tool gives no answer."""
    answer: Said | None = apart(TIMEOUT, said, tool, name)
    if answer is None:
        raise RuntimeError(f"{tool} gives no figure for {name}")
    return Reconciled(
        model=name,
        tool=tool,
        version=importlib.metadata.version(TOOLS[tool][0]),
        unit="multiply-adds" if answer.unit == MACS else "FLOPs",
        figure=int(answer.figure),
        lines=lines(tool, found),
    )


# Showing --------------------------------------------------------------------------------------------------------------


def overview(found: list[Reconciled]) -> str:
    """Markdown: what each tool prints of each model."""
    models = list(dict.fromkeys(each.model for each in found))
    figures = {(each.tool, each.model): f"{each.figure:,}" for each in found}
    ours = {each.model: f"{sum(line.torchtally for line in each.lines):,}" for each in found}
    rows = [f"| tool | unit | {' | '.join(models)} |", "|---|---|" + "---:|" * len(models)]
    rows.append(f"| torchtally | FLOPs | {' | '.join(ours[model] for model in models)} |")
    for tool, unit in {each.tool: each.unit for each in found}.items():
        rows.append(f"| {tool} | {unit} | {' | '.join(figures[tool, model] for model in models)} |")
    return "\n".join(rows)


def table(each: Reconciled) -> str:
    """Markdown: a line for each part, the sums, what the tool prints and what remains."""
    rows = [
        f"### {each.model}, {each.tool}",
        "",
        f"| part | torchtally, FLOPs | {each.tool}, {each.unit} | difference | because |",
        "|---|---:|---:|---:|---|",
    ]
    rows += [_row(line.part, line.torchtally, line.tool, line.why) for line in each.lines]
    ours, theirs = sum(line.torchtally for line in each.lines), sum(line.tool for line in each.lines)
    rows.append(_row("sum", ours, theirs, ""))
    rows.append(f"| printed by {each.tool} | | {each.figure:,} | | |")
    rows.append(f"| **remaining** | | | **{each.remaining:,}** | |")
    return "\n".join(rows)


def _row(part: str, ours: int, theirs: int, why: str) -> str:
    difference = f"{theirs - ours:+,}" if theirs != ours else "0"
    return f"| {part} | {ours:,} | {theirs:,} | {difference} | {why} |"


def report(found: list[Reconciled], missing: list[str]) -> str:
    """All tables, with the versions before them."""
    versions = ", ".join(f"{tool} {version}" for tool, version in {each.tool: each.version for each in found}.items())
    absent = f" Not installed: {', '.join(missing)}." if missing else ""
    heading = f"Forward, evaluation, float32 1x3x224x224. {versions}.{absent}"
    return "\n\n".join([heading, overview(found), *map(table, found)])


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(RULES)), help="tools; all that are installed by default")
@click.option("--output", help="write benchmarks/results/NAME.md and .json [reconcile when no tool was chosen]")
def main(only: tuple[str, ...], output: str | None) -> None:
    """Reconcile torchtally's forward figures with those of other counters."""
    torch.set_num_threads(1)
    chosen = [tool for tool in RULES if not only or tool in only]
    tools = [tool for tool in chosen if importlib.util.find_spec(TOOLS[tool][0]) is not None]
    found = []
    for name in MODELS:
        ours = counted(name)
        found += [reconciled(tool, name, ours) for tool in tools]
    shown = report(found, [tool for tool in chosen if tool not in tools])
    click.echo(shown)
    file = output or ("reconcile" if not only else None)
    if file:
        content = {"reconciled": [{**asdict(each), "remaining": each.remaining} for each in found]}
        write_results(file, shown, content, "cpu")
    sys.exit(1 if any(each.remaining for each in found) else 0)


if __name__ == "__main__":
    main()
