"""Budgets: how amounts are read, and a test's mark."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler.contracts.budget import KINDS, Costs, bounds, excesses
from torchtally.profiler.contracts.peak import FrameworkPeak, framework_peak
from torchtally.profiler.errors import UsageError

from .projects import BACKWARD, FORWARD, PARAMETERS, PEAK, SAVED, SIMPLE, N, failed, passed, project, run

pytest_plugins = ["pytester"]


def most(name: str, given: object) -> Fraction:
    (bound,) = bounds({name: given})
    return bound.most


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("flops", "2 GFLOP", 2 * 10**9),
        ("flops", "2GFLOPs", 2 * 10**9),
        ("flops", "0.1 kFLOP", 100),
        ("flops", "1.5 TFLOP", 1_500_000_000_000),
        ("flops", "7 FLOP", 7),
        ("flops", 12, 12),
        ("forward_flops", "3 MFLOP", 3_000_000),
        ("parameters", "1 M", 1_000_000),
        ("parameters", "25.6 M", 25_600_000),
        ("parameters", "10", 10),
        ("parameters", "2 k", 2000),
        ("saved", "64 MiB", 64 * 1024 * 1024),
        ("saved", "64 MB", 64_000_000),
        ("saved", "1 kB", 1000),
        ("saved", "1 KiB", 1024),
        ("saved", "2 GiB", 2 * 1024**3),
        ("saved", "3 B", 3),
        ("saved", 0, 0),
    ],
)
def test_amounts(name: str, text: object, number: int) -> None:
    assert most(name, text) == number


def test_a_decimal_fraction_is_exact() -> None:
    assert most("parameters", "0.3 k") == 300
    assert most("saved", "0.1 KiB") == Fraction(1024, 10)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("flops", "2 G", "no unit 'G'"),
        ("flops", "2 GFLOPS", "no unit 'GFLOPS'"),
        ("flops", "2 gflop", "no unit 'gflop'"),
        ("flops", "2", "no unit ''"),
        ("flops", "2 MiB", "no unit 'MiB'"),
        ("flops", "2  GFLOP", "is no amount"),
        ("flops", " 2 GFLOP", "is no amount"),
        ("flops", "2 GFLOP ", "is no amount"),
        ("flops", "-2 GFLOP", "is no amount"),
        ("flops", -2, "is no amount"),
        ("flops", 2e9, "is no amount"),
        ("flops", True, "is no amount"),
        ("flops", None, "is no amount"),
        ("flops", "1e9 FLOP", "is no amount"),
        ("flops", "1,000 FLOP", "is no amount"),
        ("flops", "٣ FLOP", "is no amount"),
        ("flops", "nan FLOP", "is no amount"),
        ("flops", "", "is no amount"),
        ("parameters", "1 m", "no unit 'm'"),
        ("parameters", "1 MB", "no unit 'MB'"),
        ("saved", "64 KB", "say kB or KiB"),
        ("saved", "64 mb", "no unit 'mb'"),
        ("saved", "64 Mb", "no unit 'Mb'"),
        ("saved", "64 M", "no unit 'M'"),
        ("saved", "64", "no unit ''"),
    ],
)
def test_what_is_no_amount(name: str, text: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        most(name, text)


def test_an_unknown_key_names_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no 'flop'; there are flops, forward_flops, backward_flops, parameters"):
        bounds({"flop": "2 GFLOP"})


# Held against a run ---------------------------------------------------------------------------------------------------


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))


EXACT = {
    "flops": FORWARD + BACKWARD,
    "forward_flops": FORWARD,
    "backward_flops": BACKWARD,
    "parameters": PARAMETERS,
    "saved": SAVED,
    "peak": PEAK,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_bound_holds_to_the_last_one(name: str) -> None:
    model, x = network(), torch.zeros(N, 6)
    run = torchtally.count(model, x)
    costs = Costs(run, framework_peak(run, model, (x,), {}))
    assert excesses(costs, bounds({name: EXACT[name]})) == []
    (said,) = excesses(costs, bounds({name: EXACT[name] - 1}))
    assert said.startswith(f"{name}: {EXACT[name]:,} is over the budget of {EXACT[name] - 1} (+")


class Strange(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.ops.torchtally_tests_budget.strange(x)


def test_what_has_no_price_is_not_within_a_budget() -> None:
    @torch.library.custom_op("torchtally_tests_budget::strange", mutates_args=())
    def strange(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    run = torchtally.count(nn.Sequential(nn.Linear(6, 3), Strange()), torch.zeros(N, 6), backward=False)
    (said,) = excesses(Costs(run), bounds({"flops": "1 TFLOP", "parameters": 21}))
    assert "but a lower bound: no price for torchtally_tests_budget.strange" in said
    (said,) = excesses(Costs(run), bounds({"flops": 1}))
    assert said.startswith(f"flops: at least {2 * N * 6 * 3} is over the budget of 1")


def test_what_could_not_be_seen_is_not_within_a_budget() -> None:
    run = torchtally.count(network(), torch.zeros(N, 6), backward=False)
    (said,) = excesses(Costs(run), bounds({"saved": "1 GiB"}))
    assert "does not say what it costs" in said


def test_a_peak_that_is_not_known_is_within_no_budget() -> None:
    run = torchtally.count(network(), torch.zeros(N, 6), backward=False)
    (said,) = excesses(Costs(run, FrameworkPeak(unknown="it reads a value")), bounds({"peak": "1 TiB"}))
    assert said == "peak: the budget is 1 TiB, and this run does not say what it costs: it reads a value"


# The mark -------------------------------------------------------------------------------------------------------------


def test_a_budget_that_is_kept_and_one_that_is_not(pytester: pytest.Pytester) -> None:
    mark = '\n@pytest.mark.cost(flops={!r}, parameters="1 k")'
    project(pytester, mark.format("1 MFLOP") + SIMPLE)
    passed(pytester, "--cost-update", "--strict-markers")
    passed(pytester)
    project(pytester, mark.format("1 kFLOP") + SIMPLE)
    words = [f"flops: {FORWARD + BACKWARD:,} is over the budget of 1 kFLOP (+*%)"]
    failed(pytester, words=words)
    failed(pytester, "--cost-update", words=words)


@pytest.mark.parametrize(
    ("mark", "word"),
    [
        ('flop="2 GFLOP"', "a budget has no 'flop'"),
        ('flops="2 G"', "no unit 'G'"),
        ('"2 GFLOP"', "the mark cost takes a budget by name"),
        ("", "the mark cost takes a budget by name"),
    ],
)
def test_a_mark_that_is_no_budget(pytester: pytest.Pytester, mark: str, word: str) -> None:
    project(pytester, f"\n@pytest.mark.cost({mark})" + SIMPLE)
    result = run(pytester, "--cost-update")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{word}*"])


@pytest.mark.parametrize("test", ["def test_cost():\n    pass\n", "def test_cost(cost):\n    pass\n"])
def test_a_budget_that_applies_to_nothing(pytester: pytest.Pytester, test: str) -> None:
    project(pytester, '\n@pytest.mark.cost(flops="2 GFLOP")\n' + test)
    failed(pytester, words=["marked with a cost budget, and calls no cost.check"])


def test_the_nearest_mark_wins(pytester: pytest.Pytester) -> None:
    tests = """
@pytest.mark.cost(flops="1 FLOP", parameters="1 M")
class TestNet:
    @pytest.mark.cost(flops="1 MFLOP")
    def test_cost(self, cost):
        cost.check(network(), X)
"""
    project(pytester, tests)
    passed(pytester, "--cost-update")
