"""What a step takes for each of something, and at all: a line through many networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler.machine.overheads import Overheads, kind_of_rest, spread_over


def learnt(*points: tuple[int, float]) -> dict[str, float]:
    overheads = Overheads()
    for count, seconds in points:
        overheads.add("call", count, seconds)
    return overheads.lines()


def test_each_and_once() -> None:
    """5 us for each, 40 us at all."""
    points = [(count, 5e-6 * count + 40e-6) for count in (1, 3, 10, 30)]
    assert learnt(*points) == {"call": pytest.approx(5e-6), "once call": pytest.approx(40e-6)}


def test_a_disturbed_step_does_not_move_the_line() -> None:
    points = [(count, 5e-6 * count + 40e-6) for count in range(1, 12)]
    assert learnt(*points, (4, 1.0)) == {"call": pytest.approx(5e-6), "once call": pytest.approx(40e-6)}


def test_nothing_is_below_zero() -> None:
    assert learnt((1, 5e-6), (10, 1e-6)) == {"call": 0.0, "once call": pytest.approx(3e-6)}
    assert learnt((2, 1e-6), (4, 4e-6))["once call"] == 0.0


def test_of_one_count_all_is_for_each() -> None:
    assert learnt((4, 8e-6), (4, 12e-6)) == {"call": pytest.approx(2.5e-6), "once call": 0.0}


def test_of_none_nothing_is_learnt() -> None:
    assert learnt((0, 1.0)) == {}


def test_where_a_step_spends_it() -> None:
    """Two parameters; modules that only call others are calls, the others have operators."""
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    with torchtally.profile(model) as run:
        model(torch.randn(2, 3)).sum().backward()
    found = list(spread_over(run.trace))
    assert [(place, times) for name, place, times in found if name == "call"] == [(("", "forward"), 1)]
    assert sum(times for name, _, times in found if name == "gradient") == 2
    assert {place for name, place, _ in found if name == "operator forward"} == {("0", "forward"), ("1", "forward")}
    assert {place for name, place, _ in found if name == "autograd"} == {("", "autograd")}


def test_time_in_no_operator_is_of_a_kind() -> None:
    working = {("fc", "forward")}
    assert kind_of_rest("fc", "forward", working) == "operator forward"
    assert kind_of_rest("", "forward", working) == "call"
    assert kind_of_rest("fc", "accumulation", working) == "gradient"
