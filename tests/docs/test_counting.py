"""The examples of docs/counting.md and docs/gpu.md run as written; docs/limitations.md has every caution of a run."""

from __future__ import annotations

import doctest
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner

from torchtally.profiler.capture import cautions

from .test_docs import DOCS, blocks


def test_counting_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    torch.manual_seed(0)
    text = "\n".join("\n".join([*block, ""]) for block in blocks("counting.md") if block[0].startswith(">>> "))
    said: list[str] = []
    found = doctest.DocTestParser().get_doctest(text, {}, "counting.md", None, 0)
    failures, tried = doctest.DocTestRunner().run(found, out=said.append)
    assert failures == 0, "".join(said)
    assert tried > 20


def commands() -> list[list[str]]:
    """Of docs/gpu.md: benchmark and arguments."""
    lines = [line.removeprefix("$ ") for block in blocks("gpu.md") for line in block]
    return [shlex.split(line)[1:] for line in lines if line.startswith("python ")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: they would run for hours")
@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_benchmarks_say_that_there_is_no_gpu(command: list[str], loaded: Callable[[str], ModuleType]) -> None:
    benchmark, *arguments = command
    ended = CliRunner().invoke(loaded(Path(benchmark).stem).main, arguments)
    (written,) = [block[1:] for block in blocks("gpu.md") if block[0].startswith("$ ")]
    assert ended.output.splitlines() == written
    assert ended.exit_code == 0


NAMED = {
    "_COMPILED": "Compiled modules",
    "_SCRIPTED": "ScriptModules",
    "_FLAT": "FullyShardedDataParallel",
    "_GATHERED": "fully_shard",
    "_WHOLE": "DTensors",
    "_FAKE_LSTM": "LSTM on fake tensors",
    "_TRANSFORMED": "torch.func",
}


def test_limitations_have_every_caution() -> None:
    texts = {name for name, value in vars(cautions).items() if name.isupper() and isinstance(value, str)}
    assert texts == NAMED.keys()
    limitations = (DOCS / "limitations.md").read_text(encoding="utf-8")
    assert [words for words in NAMED.values() if words not in limitations] == []


def test_every_document_is_listed() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(DOCS.glob("*.md")) if f"`docs/{path.name}`:" not in readme] == []
