"""Where the other benchmarks meet a device: which clock they read, and what they are given to run on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from torchtally.theory.phase import GAPS

Load = Callable[[str], ModuleType]


@pytest.mark.parametrize("name", ["timing", "overhead", "memory", "zoo", "walkthrough"])
def test_a_device_that_nobody_knows_is_refused(loaded: Load, name: str) -> None:
    ended = CliRunner().invoke(loaded(name).main, ["--device", "cuda:7"])
    assert ended.exit_code == 2
    assert "cuda:7" in ended.output


def test_overhead_on_cuda_is_wall_clock_between_idle_and_idle(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    overhead, order = loaded("overhead"), []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("wait"))
    monkeypatch.setattr(time, "perf_counter", lambda: order.append("look") or 1.5)
    monkeypatch.setattr(time, "process_time", lambda: pytest.fail("the host's own seconds"))
    assert overhead.timer("cuda")() == 1.5
    assert order == ["wait", "look"]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_overhead_elsewhere_is_the_processs_own(loaded: Load, device: str) -> None:
    assert loaded("overhead").timer(device) is time.process_time


def test_overhead_times_a_step_by_the_clock_of_its_device(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step in the instrument takes 100 by that clock and is not looked at; those after it 7."""
    overhead, at = loaded("overhead"), [0.0]
    asked: list[str] = []
    monkeypatch.setattr(overhead, "timer", lambda device: asked.append(device) or (lambda: at[0]))

    def step() -> None:
        at[0] += 7 if at[0] else 100

    assert overhead._seconds(overhead.INSTRUMENTS["bare"], nn.Linear(1, 1), step) == 7
    assert at[0] == 100 + 7 * overhead.STEPS
    assert asked == ["cpu"]


def test_memory_is_watched_where_the_model_lies(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    overhead = loaded("overhead")
    asked: list[str] = []

    class Watch:
        def __init__(self, model: nn.Module, *, device: str) -> None:
            asked.append(device)

        def begin(self) -> None: ...

        def end(self) -> None: ...

    monkeypatch.setattr(overhead, "MemoryWatch", Watch)
    monkeypatch.setattr(overhead, "memory_device", lambda model: "cuda")
    with overhead.INSTRUMENTS["memory account"](nn.Linear(1, 1)):
        pass
    assert asked == ["cuda"]


def test_timing_runs_its_steps_on_the_device(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = loaded("timing")
    calls: list[Any] = []
    gaps = dict.fromkeys(("python", "autograd", "idle", "outside", "closure"), 0.5)
    answers = {
        "closed": {"seconds": 1.0, "spread": 0.0, "overhead": 1.0, **gaps},
        "calibrated": {"samples": 0},
        "predicted": {"seconds": 1.0, "spread": 0.0, "predicted": 1.1, "roofline": 0.5, "rows": {}, "shares": {},
                      "met": 0.0, "unknown": []},
    }  # fmt: skip

    def processes(run: Any, count: int, threads: int | None, *arguments: Any) -> list[Any]:
        calls.append((run.__name__, arguments))
        return [answers[run.__name__]]

    monkeypatch.setattr(timing, "device_or_exit", lambda device: None)
    monkeypatch.setattr(timing, "_processes", processes)
    ended = CliRunner().invoke(timing.main, ["--device", "cuda", "--only", "cnn, N = 32", "--repeats", "3"])
    assert ended.exit_code == 0, ended.output
    assert {arguments[1] for _, arguments in calls} == {"cuda"}
    assert {name for name, _ in calls} == {"closed", "calibrated", "predicted"}
    assert "| cnn, N = 32 | 1.0000 | 0.0% | 1.000 | 50.0% | 50.0% | 50.0% | 50.0% | 50.0% |" in ended.output


def test_timing_has_every_gap_of_every_device(loaded: Load) -> None:
    found = loaded("timing").closed("cnn, N = 8", "cpu", 1)
    assert set(GAPS) <= found.keys()
    assert found["closure"] + sum(found[gap] for gap in (*GAPS, "outside")) == pytest.approx(1)


@pytest.mark.parametrize(("device", "fake"), [("cpu", True), ("cuda", False)])
def test_the_zoos_large_models_are_real_on_a_gpu(
    loaded: Load, device: str, fake: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = loaded("zoo")

    class Reached(Exception):  # noqa: N818
        """Where the model would be made."""

    def placed(entry: Any, place: str, mode: Any) -> Any:
        assert (mode is not None) is fake
        raise Reached

    monkeypatch.setattr(zoo, "_placed", placed)
    (entry,) = [each for each in zoo.entries() if each.name == "mvit_v1_b"]
    with pytest.raises(Reached):
        zoo.measure(entry, device)
