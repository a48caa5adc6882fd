"""The walkthrough's claims by the clock: a table from answers written by hand."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def clocked(loaded: Callable[[str], ModuleType]) -> ModuleType:
    return loaded("clocked")


def answer(clock: Any, verdict: str) -> dict[str, Any]:
    return {
        "line": 853, "layer": "kind:convolution forward", "claimed": "98.1%", "counted": 98.07, "clock": clock,
        "verdict": verdict, "reason": "",
    }  # fmt: skip


def test_figures_are_medians_and_verdicts_are_counted(clocked: ModuleType) -> None:
    processes = [[answer(20.0, "contradicted")], [answer(30.0, "contradicted")], [answer(70.0, "not measured")]]
    (line,) = [line for line in clocked.clocked_lines(processes) if "853" in line]
    figures = "98.1% | 98.07 | 30 (20 to 70) | 2 contradicted, 1 not measured"
    assert line == f"| 853 | kind:convolution forward | {figures} |"


def test_rules_are_counted(clocked: ModuleType) -> None:
    holds = [[answer("holds", "agrees")], [answer("does not hold", "contradicted")], [answer("holds", "agrees")]]
    line = clocked.clocked_lines(holds)[-2]
    assert line.endswith("| 2 holds, 1 does not hold | 2 agrees, 1 contradicted |")
    assert clocked.clocked_lines(holds[::2])[-2].endswith("| holds | agrees |")


def test_without_a_process_there_is_no_table(clocked: ModuleType) -> None:
    assert clocked.clocked_lines([]) == []
