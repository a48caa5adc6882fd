"""The README's excerpts are what the commands print."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import torchtally
from torchtally.profiler.report.audit import audit_view
from torchtally.profiler.report.terminal import plain_text

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(after: str, before: str) -> list[str]:
    """The lines of an indented excerpt, without its indentation and without empty ones."""
    found = README.partition(after)[2].partition(before)[0]
    return [line[4:] for line in found.splitlines() if line.startswith("    ")]


def test_the_audit_excerpt() -> None:
    printed = plain_text(audit_view(torchtally.audit())).splitlines()
    first, *excerpt = block("An excerpt of the rest:", "Columns:")
    assert first.startswith("CNN, N = 32, 3x32x32, forward and backward")
    assert len(excerpt) > 15
    assert [line for line in excerpt if line not in printed] == []


def test_the_run_excerpt() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 8 * 8, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torchtally.profile(model) as run:
        logits = model(torch.randn(4, 3, 8, 8))
        nn.functional.cross_entropy(logits, torch.randint(10, (4,))).backward()
        optimizer.step()
    excerpt = block("`print(run)` of a small network:", "Operators are counted")
    assert [line for line in str(run).splitlines() if line] == excerpt


def test_claims_by_the_clock_are_those_of_the_results() -> None:
    """Seconds differ from machine to machine: these rows stand in the committed table."""
    results = (Path(__file__).parents[2] / "benchmarks" / "results" / "walkthrough-cpu.md").read_text(encoding="utf-8")
    written = README.partition("FLOPs are not seconds.")[2].partition("## Any model")[0]
    rows = [line for line in written.splitlines() if line.startswith("| 8")]
    assert len(rows) == 5
    assert set(rows) <= set(results.splitlines())
