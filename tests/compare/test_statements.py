"""What is not said: rows and figures that one witness has and another lacks, and who is asked of what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchtally
from torchtally.profiler.compare import Comparison, compare_layers, compare_statements, from_dispatcher
from torchtally.profiler.defects import known_defect
from torchtally.theory.convolution import Conv2d
from torchtally.theory.dense import Linear

from .evidence import key

FC, RELU = ("fc", "backward"), ("relu", "backward")


def answers(**said: Any) -> dict[str, tuple[str, str | None]]:
    rows = compare_statements(**{"layers": {}, "theory": {}, "count": {}, **said})
    return {key(row): (row.verdict, row.wrong) for row in rows}


def test_nobody_says_anything() -> None:
    assert answers() == {}


def test_a_figure_that_theory_is_silent_on_is_not_asked() -> None:
    assert answers(theory={FC: {"flops": None}}, count={FC: {"flops": 1}}) == {}


def test_count_is_asked_for_all_that_theory_states() -> None:
    assert answers(theory={FC: {"flops": 1}}) == {"fc backward flops": ("unexplained", None)}


def test_count_alone_lacks_a_layer() -> None:
    said = answers(theory={FC: {"flops": 1}}, measured={FC: {"flops": 1}})
    assert said == {"fc backward flops": ("contradicted", "count")}


def test_measured_is_asked_for_what_it_has_of_other_layers() -> None:
    theory = {FC: {"gradient_bytes": 1}, RELU: {"gradient_bytes": 2}}
    said = answers(theory=theory, count=theory, measured={FC: {"gradient_bytes": 1}})
    assert said["relu backward gradient_bytes"] == ("contradicted", "measured")


def test_measured_is_not_asked_for_what_it_never_has() -> None:
    theory = {FC: {"flops": 1}, RELU: {"flops": 2}}
    said = answers(theory=theory, count=theory, measured={FC: {"gradient_bytes": 1}})
    assert said["relu backward flops"] == ("agrees", None)


def test_theory_lacks_a_layer() -> None:
    assert answers(count={FC: {"flops": 1}}) == {"fc backward flops": ("unexplained", None)}
    assert answers(count={FC: {"flops": 1}}, dispatcher={FC: {"flops": 1}}) == {
        "fc backward flops": ("contradicted", "theory")
    }


def test_a_layer_that_costs_nothing_may_be_left_out() -> None:
    figures = {"flops": 0, "activation_bytes": None, "output_shape": (2, 3)}
    assert answers(count={("block1", "forward"): figures}) == {}


def test_other_phases_are_not_theorys() -> None:
    assert answers(count={("", "optimizer"): {"flops": 7}, ("", "loss"): {"flops": 7}}) == {}


# FlopCounterMode ------------------------------------------------------------------------------------------------------


def test_the_dispatchers_zero_is_said_of_the_models_leaves() -> None:
    counts = {("", "forward"): 8, ("block", "forward"): 6, ("block.conv", "forward"): 6, ("fc", "forward"): 2}
    assert from_dispatcher(counts, ["block.conv", "block.relu", "fc"]) == {
        ("block.conv", "forward"): {"matmul_flops": 6},
        ("block.relu", "forward"): {"matmul_flops": 0},
        ("fc", "forward"): {"matmul_flops": 2},
    }


def test_the_dispatcher_says_nothing_of_a_phase_that_did_not_run() -> None:
    assert from_dispatcher({}, ["fc"]) == {}


GROUPED = Conv2d(in_channels=4, out_channels=4, kernel_size=3, groups=4)
DEFECTS = {
    "weight's gradient alone": (GROUPED, "backward", 10, 40, True),
    "both gradients": (GROUPED, "backward", 20, 50, True),
    "another figure": (GROUPED, "backward", 20, 49, False),
    "no error": (GROUPED, "backward", 20, 20, False),
    "forward": (GROUPED, "forward", 10, 40, False),
    "no groups": (Conv2d(in_channels=4, out_channels=4, kernel_size=3), "backward", 10, 40, False),
    "no convolution": (Linear(in_features=4, out_features=4), "backward", 10, 40, False),
    "no layer": (None, "backward", 10, 40, False),
    "nothing said": (GROUPED, "backward", 10, None, False),
    "nothing right": (GROUPED, "backward", "none", 40, False),
}


@pytest.mark.parametrize("layer, phase, right, said, excused", DEFECTS.values(), ids=DEFECTS)
def test_known_defect(layer: Any, phase: Any, right: Any, said: Any, excused: bool) -> None:
    assert (known_defect(layer, phase, right=right, said=said) is not None) is excused


# run.compare() --------------------------------------------------------------------------------------------------------


def ran(model: nn.Module, step: Callable[[nn.Module], Tensor]) -> Any:
    with torchtally.profile(model) as run:
        step(model).sum().backward()
    return run


@pytest.fixture
def run() -> Iterator[Any]:
    torch.manual_seed(0)
    yield ran(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), lambda model: model(torch.ones(2, 3)))


def failures(found: Comparison) -> set[tuple[str, str]]:
    return {(row.path, row.phase) for row in found.failures}


def test_control_all_is_well(run: Any) -> None:
    assert run.compare().ok
    assert not run.compare().not_compared


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_a_row_that_count_lacks(run: Any, phase: str) -> None:
    rows = tuple(row for row in run.ledger.rows if (row.path, row.phase) != ("1", phase))
    found = compare_layers(replace(run.ledger, rows=rows), run.trace, run.layers)
    assert failures(found) == {("1", phase)}


def test_a_row_that_theory_lacks(run: Any) -> None:
    """Theory predicts a backward where a gradient came; count has the work, and no gradient that came."""
    gradients = tuple(fact for fact in run.trace.gradients if (fact.path, fact.of) != ("1", "output"))
    found = compare_layers(run.ledger, replace(run.trace, gradients=gradients), run.layers)
    assert failures(found) == {("1", "backward")}


def test_a_closed_form_that_is_missing_is_named(run: Any) -> None:
    layers = {path: layer for path, layer in run.layers.items() if path != "1"}
    found = compare_layers(run.ledger, run.trace, layers)
    assert found.ok
    assert set(found.not_compared) == {"1"}


class WeightsUsedByTheParent(nn.Module):
    """As torchvision's attention does with its projections: the child is never called, and still gets gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.called = nn.Linear(3, 3)
        self.used = nn.Linear(3, 3)
        self.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.called(x), self.used.weight, self.used.bias)


def test_a_module_that_was_never_called_is_no_error() -> None:
    run = ran(WeightsUsedByTheParent(), lambda model: model(torch.ones(2, 3)))
    found = run.compare()
    assert found.ok
    assert {row.path for row in found.rows} == {"called"}
    assert set(found.not_compared) == {""}
