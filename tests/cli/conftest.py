"""The command line in this process, which is quicker than the installed command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from torchtally.profiler import cli

PROJECT = """
import torch
from torch import nn
import torchtally


class Net(nn.Module):
    def __init__(self, width=8, classes=5):
        super().__init__()
        self.embed = nn.Embedding(50, width)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens, mask=None):
        x = self.embed(tokens).mean(1)
        return self.head(x if mask is None else x * mask[:, :1])


def build(batch_size=4):
    model, tokens = Net(), torch.zeros(batch_size, 6, dtype=torch.int64)

    def step():
        nn.functional.cross_entropy(model(tokens), torch.zeros(batch_size, dtype=torch.int64)).backward()

    return torchtally.Workload(model=model, step=step)


def wider():
    return Net(width=9)


def without_batch():
    return build()


def broken():
    raise ValueError("first line\\nsecond line")


def reads_values():
    class Reads(nn.Module):
        def forward(self, x):
            return x * x.sum().item()

    return Reads()


def nothing():
    pass


def fits_nothing():
    return nn.Linear(3, 4)


instance = nn.Linear(3, 4)
number = 3
"""


class Done:
    """What `main()` did in this process."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def cli_main(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`main()` with arguments."""
    for name in ("FORCE_COLOR", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str | Path) -> Done:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A user's project as the current folder, with names like ours; and what is imported of it is forgotten."""
    name = f"mine_{abs(hash(tmp_path)):x}"
    (tmp_path / f"{name}.py").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "profiler.py").write_text("raise RuntimeError('not ours')\n", encoding="utf-8")
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)
