"""Mistakes in using the profiler are typed errors that say what to do."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
import torch
from torch import nn

import torchtally
from torchtally import TallyError
from torchtally.profiler.errors import NotAModuleError, RunStateError, UsageError

READ = ["trace", "ledger", "totals", "coverage", "layers"]


def model() -> nn.Module:
    return nn.Linear(2, 3)


@pytest.mark.parametrize("thing", [None, 3, "resnet50", torch.ones(2), lambda x: x, nn.Linear, nn.Linear(2, 2).forward])
def test_only_modules_can_be_profiled(thing: Any) -> None:
    with pytest.raises(NotAModuleError, match=rf"needs a torch\.nn\.Module, got {type(thing).__name__}") as caught:
        torchtally.profile(thing)
    assert isinstance(caught.value, (TallyError, UsageError)) and isinstance(caught.value, TypeError)
    assert "wrap it" in str(caught.value)


def test_a_run_entered_while_active() -> None:
    net = model()
    with torchtally.profile(net) as run:
        with pytest.raises(RunStateError, match="active already"), run:
            pytest.fail("entered twice")
        net(torch.ones(5, 2))
    assert run.totals["forward_flops"] == 2 * 5 * 2 * 3, "the mistake did the run no harm"


def test_a_run_entered_while_active_in_another_thread() -> None:
    caught: list[BaseException] = []

    def enter() -> None:
        try:
            run.__enter__()
        except RunStateError as error:
            caught.append(error)

    with torchtally.profile(model()) as run:
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(caught) == 1


def test_a_run_entered_again_after_its_end() -> None:
    run = torchtally.profile(model())
    with run:
        pass
    with pytest.raises(RunStateError, match=r"has ended.*torchtally\.profile\(model\) again"), run:
        pytest.fail("entered again")


@pytest.mark.parametrize("name", READ)
def test_results_before_the_block(name: str) -> None:
    with pytest.raises(RunStateError, match="enter it with `with"):
        getattr(torchtally.profile(model()), name)


@pytest.mark.parametrize("name", READ)
def test_results_inside_the_block(name: str) -> None:
    with torchtally.profile(model()) as run, pytest.raises(RunStateError, match="leave the `with` block first"):
        getattr(run, name)


@pytest.mark.parametrize("call", ["to_frame", "compare"])
def test_reports_inside_the_block(call: str) -> None:
    with torchtally.profile(model()) as run, pytest.raises(RunStateError, match="leave the `with` block first"):
        getattr(run, call)()


def test_a_run_says_what_state_it_is_in() -> None:
    run = torchtally.profile(model())
    assert str(run) == "<torchtally run, new>"
    with run:
        assert str(run) == "<torchtally run, active>"
    assert "1 multiply-add = 2 FLOPs" in str(run)


def test_reading_too_early_does_no_harm() -> None:
    net = model()
    with torchtally.profile(net) as run:
        with pytest.raises(RunStateError):
            _ = run.ledger
        net(torch.ones(1, 2))
    assert run.totals["forward_flops"] == 2 * 2 * 3


def test_the_users_own_error_passes_unchanged() -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught, torchtally.profile(model()):
        raise error
    assert caught.value is error
    assert error.__cause__ is error.__context__ is None


def test_a_shape_error_is_torchs_own() -> None:
    net = model()
    with pytest.raises(RuntimeError, match="cannot be multiplied"), torchtally.profile(net) as run:
        net(torch.ones(1, 5))
    assert run.ledger.row("").flops is None or run.ledger.row("").flops == 0


def test_a_start_that_fails_leaves_the_run_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model()
    run = torchtally.profile(net)
    with monkeypatch.context() as patch:
        patch.setattr("torchtally.profiler.profile.environment", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError), run:
            pass
    with run:
        net(torch.ones(1, 2))
    assert run.totals["forward_flops"] == 2 * 2 * 3


def test_a_row_that_is_not_there_is_named() -> None:
    with torchtally.profile(model()) as run:
        pass
    with pytest.raises(KeyError, match="'head' in phase 'backward'"):
        run.ledger.row("head", "backward")


def test_work_in_other_threads_is_said_not_to_be_observed() -> None:
    net = model()
    with torchtally.profile(net) as run:
        net(torch.ones(5, 2))
        thread = threading.Thread(target=net, args=(torch.ones(7, 2),))
        thread.start()
        thread.join()
    assert run.totals["forward_flops"] == 2 * 5 * 2 * 3
    assert not run.coverage.complete
    (note,) = run.coverage.notes
    assert "other threads" in note and re.search(r"\b1\b", note)
    assert "note:" in str(run)


class LossElsewhere(nn.Module):
    """Has another thread compute a loss before it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        thread = threading.Thread(target=nn.MSELoss(), args=(torch.ones(2), torch.zeros(2)))
        thread.start()
        thread.join()
        return (self.layer(x) @ torch.ones(3, 1)).relu()


def test_a_loss_in_another_thread_takes_nobodys_place() -> None:
    net = LossElsewhere()
    with torchtally.profile(net) as run:
        net(torch.ones(5, 2)).sum().backward()
    assert run.ledger.row("").matmul_flops == 2 * 5 * 3
    assert run.ledger.row("", "backward").matmul_flops == 2 * 5 * 3
    assert {(call.path, call.phase) for call in run.trace.calls} == {("", "forward"), ("layer", "forward")}


def test_a_run_in_another_thread() -> None:
    net = model()
    seen: list[int] = []

    def work() -> None:
        with torchtally.profile(net) as run:
            net(torch.ones(5, 2)).sum().backward()
        seen.append(run.totals["forward_flops"] + run.totals["backward_matmul_flops"])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [2 * (2 * 5 * 2 * 3)]


def test_a_lazy_model_is_refused_in_words() -> None:
    """Its parameters have no shape yet."""
    net = nn.Sequential(nn.ReLU(), nn.LazyLinear(3))
    run = torchtally.profile(net)
    with pytest.raises(TallyError, match=r"(?s)\b1\b.*forward"), run:
        pytest.fail("entered without shapes")
    net(torch.ones(5, 2))
    with run:
        net(torch.ones(5, 2))
    assert run.ledger.row("1").flops == 2 * 5 * 2 * 3
