"""The clock in real steps: what it sees, never how long it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import torchtally
from torchtally.profiler.capture.allocator import Account, account
from torchtally.profiler.capture.clock import Clock
from torchtally.profiler.capture.entries import Moment
from torchtally.profiler.errors import RunStateError, StepsDifferError, UsageError
from torchtally.profiler.measure import measure, measure_time
from torchtally.theory.phase import GAPS

X = torch.randn(4, 8)


def of(model: nn.Module, *inputs: Any) -> torchtally.Workload:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        model(*inputs).sum().backward()
        optimizer.step()

    return torchtally.Workload(model=model, step=step, optimizer=optimizer)


class Parts(nn.Module):
    """Two branches, one of them called twice, an operation in place, and a part that is recomputed."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.again = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.relu(self.left(self.left(x))) + self.right(x)
        return checkpoint(self.again, x, use_reentrant=False)


def test_every_module_has_its_phases() -> None:
    timing = measure_time(of(Parts(), X), repeats=2)
    modules = {"left", "right", "relu", "again"}
    phases = {phase: {path for path, each in timing.places if each == phase} for _, phase in timing.places}
    assert phases["forward"] == {"", *modules}
    assert phases["backward"] == {"", *modules}
    assert phases["accumulation"] >= {"left", "right", "again"}
    assert phases["recompute"] == {"again"}
    assert phases["loss"] == phases["optimizer"] == phases["outside"] == phases["python"] == {""}


def test_the_parts_are_the_step_to_the_nanosecond() -> None:
    kept: list[Account] = []

    @contextmanager
    def keep() -> Iterator[Account]:
        with account(memory=False) as opened:
            yield opened
        kept.append(opened)

    workload = of(Parts(), X)
    timing = measure_time(workload, repeats=2, clock=Clock(workload.model, keep=keep))
    observed = kept[1:]  # the first was to warm up
    assert [sum(spent.values()) for spent in timing.observed] == [length(each) for each in observed]


def length(kept: Account) -> int:
    """From the end of the first note that we wrote to the beginning of the last."""
    notes = [each for each in kept.entries if isinstance(each, Moment) and "note" in each.span.name]
    begun = [moment for moment in notes if moment.span is notes[0].span]
    return [moment for moment in notes if moment.what == "begins"][-1].at - begun[1].at


class FakeClock:
    """Rises by the next figure whenever it is asked."""

    def __init__(self, *rises: int) -> None:
        self.rises = iter(rises)
        self.at = 0

    def __call__(self) -> int:
        self.at += next(self.rises)
        return self.at


def test_bare_and_observed_steps_take_turns() -> None:
    taken: list[str] = []
    state = {"observed": False}

    @contextmanager
    def keep() -> Iterator[Account]:
        state["observed"] = True
        with account(memory=False) as opened:
            yield opened
        state["observed"] = False

    model = nn.Linear(8, 8)

    def step() -> None:
        taken.append("observed" if state["observed"] else "bare")
        model(X)

    clock = Clock(model, now=FakeClock(0, 5, 100, 7, 100, 6), keep=keep)
    timing = measure_time(torchtally.Workload(model=model, step=step), repeats=3, clock=clock)
    assert timing.bare == (5, 7, 6)
    warm_up, turns = taken[:2], taken[2:]
    assert warm_up == ["bare", "observed"]
    assert turns == ["bare", "observed", "observed", "bare", "bare", "observed"]


def test_a_measured_run_has_seconds() -> None:
    run = measure(of(Parts(), X), repeats=3)
    frame = run.to_frame()
    assert run.totals["seconds"] == run.timing.seconds > 0
    assert 0 < run.closure <= 1
    gaps = sum(run.timing.spent("", gap) for gap in GAPS)
    assert frame.seconds.sum() + gaps == pytest.approx(run.timing.middle)
    assert frame.share.sum() == pytest.approx(1 - gaps / run.timing.middle)
    model = run.to_frame(inclusive=True).set_index(["path", "phase"]).loc[("", "forward")]
    assert model.seconds == pytest.approx(frame.seconds[frame.phase == "forward"].sum())


def test_time_can_be_left_out() -> None:
    run = measure(of(Parts(), X), repeats=0)
    assert "seconds" not in run.totals
    assert run.to_frame().seconds.isna().all()
    with pytest.raises(RunStateError, match="did not measure time"):
        _ = run.closure


@pytest.mark.parametrize("repeats", [-1, 1.5, True])
def test_repeats_are_counted(repeats: Any) -> None:
    with pytest.raises(UsageError, match="repeats must be an integer"):
        measure(of(Parts(), X), repeats=repeats)


def test_an_error_of_the_step_passes_through_and_nothing_stays() -> None:
    calls = iter(range(10))

    def step() -> None:
        if next(calls) == 2:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        measure_time(torchtally.Workload(model=nn.Linear(1, 1), step=step))
    assert not torch._C._autograd._profiler_enabled()


def test_steps_of_different_shape_are_refused() -> None:
    model, sizes = nn.Linear(8, 8), iter([1, 1, 1, 2, 2, 2, 2])

    def step() -> None:
        model(torch.randn(next(sizes), 8))

    with pytest.raises(StepsDifferError, match=r"step 1 the model was given .*\(1, 8\).* step 2 .*\(2, 8\)"):
        measure_time(torchtally.Workload(model=model, step=step), repeats=2)


def test_another_profiler_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")  # is read by the process's first session, for all
    opening: Callable[[], AbstractContextManager[Any]] = torch.profiler.profile
    with opening():
        with pytest.raises(RunStateError, match="another profiler"):
            measure_time(of(Parts(), X))
        torch.ones(3).add(1)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    measure_time(of(Parts(), X), repeats=1)
    assert capfd.readouterr() == ("", "")
