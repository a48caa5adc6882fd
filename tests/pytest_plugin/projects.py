"""A small project of a user, and pytest runs in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PLUGIN = "torchtally.profiler.pytest_plugin"

N, IN, HIDDEN, OUT = 4, 6, 10, 3

# Of the network below, by hand, in its named dimensions.
PARAMETERS = (IN + 1) * HIDDEN + (HIDDEN + 1) * OUT
FORWARD = 2 * N * IN * HIDDEN + N * HIDDEN + 2 * N * HIDDEN * OUT
# The input needs no gradient: of the first layer there is only that of the weight; biases are N additions an element.
BACKWARD = (2 * N * IN * HIDDEN + N * HIDDEN) + N * HIDDEN + (4 * N * HIDDEN * OUT + N * OUT)
# The network's input, and ReLU's output: shared by ReLU and the last layer, and kept once.
SAVED = 4 * N * (IN + HIDDEN)

# Live while ReLU's backward runs, which is when most is: the parameters, the input, the output and its gradient of ones
# (both held to the end), ReLU's saved output, the gradient of that and of ReLU's input, the last layer's gradients.
PEAK = 4 * (PARAMETERS + N * IN + 2 * N * OUT + 3 * N * HIDDEN + (HIDDEN + 1) * OUT)
# Later, in the first layer's: one hidden gradient, and that layer's own gradients.
assert PEAK > 4 * (PARAMETERS + N * IN + 2 * N * OUT + N * HIDDEN + PARAMETERS)

NETWORK = f"""
import pytest, torch
from torch import nn

def network(hidden={HIDDEN}):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear({IN}, hidden), nn.ReLU(), nn.Linear(hidden, {OUT}))

X = torch.zeros({N}, {IN})
"""

SIMPLE = """
def test_cost(cost):
    cost.check(network(), X)
"""


def project(pytester: pytest.Pytester, tests: str, name: str = "test_net") -> Path:
    return pytester.makepyfile(**{name: NETWORK + tests})


def run(pytester: pytest.Pytester, *arguments: str) -> Any:
    """In this process, with this plugin alone."""
    return pytester.runpytest_inprocess("-p", PLUGIN, "-p", "no:cacheprovider", *arguments)


def passed(pytester: pytest.Pytester, *arguments: str, count: int = 1) -> Any:
    result = run(pytester, *arguments)
    result.assert_outcomes(passed=count)
    return result


def failed(pytester: pytest.Pytester, *arguments: str, words: list[str]) -> Any:
    """One test fails, and says so."""
    result = run(pytester, *arguments)
    result.assert_outcomes(failed=1)
    for word in words:
        result.stdout.fnmatch_lines([f"*{word}*"])
    return result
