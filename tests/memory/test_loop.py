"""A loop of steps, each announced: the first is counted, the memory of a later one is taken from the allocator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler.errors import RunStateError, StepsDifferError


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def stepping(model: nn.Module, samples: int = 3) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(samples, 8)

    def step() -> None:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    return step


def looped(steps: int) -> torchtally.Run:
    model = network()
    step = stepping(model)
    with torchtally.profile(model) as run:
        for _ in range(steps):
            step()
            run.step()
    return run


def test_a_loop_says_what_measure_says() -> None:
    model = network()
    measured = torchtally.measure(torchtally.Workload(model=model, step=stepping(model)), repeats=0)
    run = looped(4)
    assert run.totals == {name: figure for name, figure in measured.totals.items() if name != "seconds"}
    assert run.memory.bill.equals(measured.memory.bill)


def test_only_the_first_step_is_counted() -> None:
    once = 2 * 3 * (8 * 16 + 16 * 4)  # N * in * out multiply-adds of each Linear
    assert looped(1).totals["forward_matmul_flops"] == looped(6).totals["forward_matmul_flops"] == once


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_too_few_steps_have_no_memory(steps: int) -> None:
    run = looped(steps)
    assert "peak_bytes" not in run.totals
    with pytest.raises(RunStateError, match="four steps"):
        _ = run.memory


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_an_error_in_any_step_leaves_no_trace(at: int) -> None:
    model = network()
    step = stepping(model)
    with pytest.raises(KeyError), torchtally.profile(model) as run:
        for number in range(4):
            step()
            if number == at:
                raise KeyError("mine")
            run.step()
    assert run.totals["forward_flops"] > 0


def test_steps_of_another_shape_are_refused() -> None:
    model = network()
    with pytest.raises(StepsDifferError, match="differ in shape"), torchtally.profile(model) as run:
        for samples in (1, 2, 3, 4):
            stepping(model, samples)()
            run.step()


def test_step_outside_the_block_is_refused() -> None:
    run = torchtally.profile(network())
    with pytest.raises(RunStateError, match="inside the block"):
        run.step()
    with run:
        pass
    with pytest.raises(RunStateError, match="inside the block"):
        run.step()
