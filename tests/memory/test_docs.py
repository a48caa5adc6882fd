"""The examples of docs/memory.md run, and say what stands beside them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

import torchtally
from torchtally.theory.stream import CATEGORIES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "memory.md").read_text(encoding="utf-8")


def example(first_line: str) -> str:
    """The indented block that begins with that line."""
    text = DOCUMENT[DOCUMENT.index(f"    {first_line}") :]
    lines = []
    for line in text.splitlines():
        if line and not line.startswith("    "):
            break
        lines.append(line)
    return textwrap.dedent("\n".join(lines))


def test_a_measured_step() -> None:
    names: dict[str, Any] = {}
    exec(example("import torch, torchtally"), names)
    run: torchtally.Run = names["run"]
    assert run.memory.bill.bytes.sum() == run.totals["peak_bytes"]
    parameters = (8 * 16 + 16 + 16 * 4 + 4) * 4
    assert run.memory.bill.groupby("category").bytes.sum()["optimizer state"] == parameters


def test_a_step_that_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names: dict[str, Any] = {}
    exec(example("import torch, torchtally").partition("run = ")[0], names)
    *setup, peak, fits = example("plan = torchtally.predict").strip().splitlines()
    exec("\n".join(setup), names)
    assert eval(fits, names)
    build = names["build"]
    assert eval(peak, names) == torchtally.measure(lambda batch_size=64: build(batch_size), repeats=0).memory.peak_bytes


def test_a_closed_form() -> None:
    *setup, expression = example("from torchtally.theory.cnn").strip().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(setup), names)
    # plain SGD's peak as the audit has it, and momentum of 94,986 parameters
    assert eval(expression, names) == 22_279_280 + 379_944


def test_every_category_is_explained() -> None:
    assert [category for category in CATEGORIES if f"`{category}`" not in DOCUMENT] == []
