"""`--html` of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchtally.profiler import cli


def command(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def is_report(path: Path, title: str) -> bool:
    return f"<title>{title} · torchtally</title>" in path.read_text(encoding="utf-8")


def test_a_model_is_profiled_and_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after, kept = tmp_path / "a.html", tmp_path / "b.html", tmp_path / "run.json"
    model = ("torchvision:squeezenet1_1", "--device", "meta", "--batch-size", "1")
    assert command("profile", *model, "--html", before, "--json", kept) == 0
    assert is_report(before, "SqueezeNet")
    assert command("report", kept, "--html", after) == 0
    assert after.read_bytes() == before.read_bytes()
    assert capsys.readouterr().err == ""


def test_the_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "audit.html"
    assert command("audit", "--device", "cpu", "--batch-size", "2", "--image-size", "16", "--html", path) == 0
    assert is_report(path, "The walkthrough, audited")
    assert '"claims"' not in path.read_text(encoding="utf-8"), "the document's claims are of another batch size"
    assert capsys.readouterr().err == ""


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
