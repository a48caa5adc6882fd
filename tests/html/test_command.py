"""`--html` of the command line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from torchtally.profiler import cli
from torchtally.profiler.machine import Machine
from torchtally.profiler.machine.store import save, this_machine
from torchtally.theory.roofline import Ceilings


def command(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def is_report(path: Path, title: str) -> bool:
    return f"<title>{title} · torchtally</title>" in path.read_text(encoding="utf-8")


def data(path: Path) -> Any:
    """What the page's script makes its pictures of."""
    found = re.search('<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert found
    return json.loads(found[1])


def test_a_model_is_profiled_and_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after, kept = tmp_path / "a.html", tmp_path / "b.html", tmp_path / "run.json"
    model = ("torchvision:squeezenet1_1", "--device", "meta", "--batch-size", "1")
    assert command("profile", *model, "--html", before, "--json", kept) == 0
    assert is_report(before, "SqueezeNet")
    assert command("report", kept, "--html", after) == 0
    kept, shown = data(before), data(after)
    assert kept.pop("memory")["peak"]["bytes"] > 0, "a profile's page has the predicted memory, and a kept run none"
    assert shown == kept
    assert capsys.readouterr().err == ""


MODEL = """
import torch, torchtally
from torch import nn

def build(batch_size=4):
    model, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)), torch.ones(batch_size, 8)
    def step():
        model.zero_grad()
        model(x).sum().backward()
    return torchtally.Workload(model=model, step=step)

def by_values(batch_size=4):
    model, x = nn.Linear(8, 2), torch.ones(batch_size, 8)
    return torchtally.Workload(model=model, step=lambda: model(x[x[:, 0] > 0]).sum().backward())
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's."""
    (tmp_path / "mine_for_html.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "mine_for_html"
    sys.modules.pop("mine_for_html", None)


def test_a_profile_has_its_memory_predicted(mine: str, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    assert command("profile", f"{mine}:build", "--html", path) == 0
    memory = data(path)["memory"]
    assert memory["beside"] is None
    assert "workspace" not in memory["live"]
    assert memory["peak"]["categories"]["parameters"] == 4 * ((8 + 1) * 16 + (16 + 1) * 2)
    assert memory["peak"]["categories"]["input"] == 4 * 4 * 8


def test_a_measured_profile_has_the_prediction_beside_it(mine: str, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    assert command("profile", f"{mine}:build", "--measure", "--html", path) == 0
    memory = data(path)["memory"]
    assert memory["names"] == ["the run", "the prediction"]
    assert memory["peak"]["framework_bytes"] == memory["beside"]["peak"]["bytes"]


def test_what_cannot_be_predicted_is_said(mine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.html"
    assert command("profile", f"{mine}:by_values", "--html", path) == 0
    assert "memory" not in data(path)
    said = capsys.readouterr()
    assert "the report has no predicted memory: the step cannot be replayed without computing" in " ".join(
        said.out.split()
    )
    assert said.err == ""


def test_a_known_machine_has_its_roofline_on_the_page(mine: str, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    assert command("profile", f"{mine}:build", "--html", path) == 0
    assert "roofline" not in data(path), "nobody calibrates unasked"
    ceilings = Ceilings(flops={"float32": 1e15}, bandwidth=((2**20, 1e14), (2**30, 1e13)), overhead=1e-9)
    save(Machine(environment=this_machine(), ceilings=ceilings, samples=(), overheads={}))
    assert command("profile", f"{mine}:build", "--html", path) == 0
    assert data(path)["roofline"]["peaks"] == {"float32": 1e15}
    assert "No time was measured" in path.read_text(encoding="utf-8")
    assert command("profile", f"{mine}:build", "--measure", "--html", path) == 0
    assert "No time was measured" not in path.read_text(encoding="utf-8")


def test_the_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "audit.html"
    assert command("audit", "--device", "cpu", "--batch-size", "2", "--image-size", "16", "--html", path) == 0
    assert is_report(path, "The walkthrough, audited")
    assert "claims" not in data(path), "the document's claims are of another batch size"
    assert capsys.readouterr().err == ""


def test_the_audits_memory_has_its_closed_form_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.html"
    assert command("audit", "--device", "cpu", "--batch-size", "2", "--image-size", "16", "--html", path) == 0
    memory = data(path)["memory"]
    measured, foreseen = memory["peak"], memory["beside"]["peak"]
    assert memory["names"] == ["the run", "the closed form"]
    assert measured["framework_bytes"] == foreseen["framework_bytes"] == foreseen["bytes"]
    # 16 x 16 images of 3 channels, and int64 labels.
    assert measured["categories"]["input"] == 2 * (3 * 16 * 16) * 4 + 2 * 8
    assert max(map(sum, zip(*memory["live"].values(), strict=True))) == measured["bytes"]


def test_a_report_that_cannot_be_written_is_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("audit", "--html", tmp_path / "nowhere" / "audit.html") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no folder" in said.err
    assert len(said.err.splitlines()) == 1


def test_one_file_for_two_reports_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "both"
    assert command("audit", "--html", path, "--json", path) == 2
    assert "--json and --html name the same file" in capsys.readouterr().err
