"""`torchtally calibrate` and `torchtally machine`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import torchtally.profiler.machine as package
from torchtally.profiler.cli import main
from torchtally.theory.roofline import Ceilings

GIGA = 10**9


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = Ceilings(flops={"float32": 123.0 * GIGA}, bandwidth=((2**20, 2.0**34),), overhead=5e-7)
    monkeypatch.setattr(package, "ceilings", lambda device: found)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return int(ended.value.code or 0)


def test_an_unknown_machine_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("machine") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("torchtally: this machine was not calibrated")
    assert err.count("\n") == 1


def test_what_calibration_found_is_shown_then_and_later(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert run("calibrate", "--rounds", "1", "--threads", "2") == 0
    found = capsys.readouterr().out
    assert "123.0 G" in found
    assert "16.0 GiB" in found
    assert "500 ns" in found
    assert "threads 2" in found
    assert torch.get_num_threads() == threads
    assert run("machine", "--threads", "2") == 0
    assert capsys.readouterr().out == found
    assert run("machine", "--threads", "3") == 2
