"""Errors planted on either side: each is seen, where it is, and nothing that was counted gets into what is expected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from torchtally import PRICES, Profile, theory
from torchtally.profiler.compare import compare_layers
from torchtally.profiler.expectation import from_observed_inputs
from torchtally.profiler.formulas import Price
from torchtally.profiler.ledger import build
from torchtally.profiler.pricing import Prices
from torchtally.theory.cost import Cost
from torchtally.theory.layer import Parameter
from torchtally.theory.tensor import TensorSpec

from .running import differences, step


def run() -> Profile:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, groups=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 8),
        nn.TransformerEncoderLayer(8, 2, 16),
    )
    return step(model, torch.rand(2, 3, 8, 8))


def failures(watched: Profile) -> set[tuple[str, str, str]]:
    comparison = compare_layers(watched.ledger, watched.trace, watched.layers)
    return {(row.path, row.phase, row.quantity) for row in comparison.failures}


def test_nothing_is_wrong_with_it() -> None:
    assert differences(run().compare()) == []


def test_a_backward_that_forgets_the_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = run()
    right = theory.Linear.backward

    def wrong(self: Any, *inputs: TensorSpec, **needs: Any) -> theory.Backward:
        return replace(right(self, *inputs, **needs), bias=Cost())

    monkeypatch.setattr(theory.Linear, "backward", wrong)
    paths = {path for path, _, _ in failures(watched)}
    assert paths == {"5", "6.linear1", "6.linear2", "6.self_attn"}, "attention's projections are linear layers"


def test_groups_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))
    watched = step(model, torch.rand(2, 4, 8, 8))
    kind = theory.Conv2d
    monkeypatch.setattr(kind, "multiply_adds", lambda self, x: self.output(x).elements * self.in_channels * 9)
    assert failures(watched) == {
        ("0", phase, quantity) for phase in ("forward", "backward") for quantity in ("flops", "matmul_flops")
    }


def test_a_wrong_output_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = run()
    monkeypatch.setattr(theory.Flatten, "output", lambda self, x: x)
    assert failures(watched) >= {("4", "forward", "output_shape"), ("4", "backward", "output_gradient_shape")}


def test_a_parameter_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = run()
    right = theory.BatchNorm.parameters.fget

    def wrong(self: theory.BatchNorm) -> tuple[Parameter, ...]:
        return (*right(self), right(self)[0])  # type: ignore[misc]

    monkeypatch.setattr(theory.BatchNorm, "parameters", property(wrong))
    assert failures(watched) == {
        ("1", "forward", "parameters"),
        ("1", "forward", "parameter_bytes"),
        ("1", "backward", "parameter_gradient_bytes"),
    }


def test_what_an_encoder_layer_does_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest that its children leave to it."""
    watched = run()
    monkeypatch.setattr(theory.Residual, "forward", lambda self, *inputs: Cost())
    assert failures(watched) == {("6", "forward", "flops")}


def test_a_closed_form_that_cannot_take_the_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = run()

    def wrong(self: Any, *inputs: TensorSpec) -> TensorSpec:
        raise theory.ShapeError("no such shape")

    monkeypatch.setattr(theory.ReLU, "output", wrong)
    comparison = compare_layers(watched.ledger, watched.trace, watched.layers)
    assert comparison.not_compared["2"] == "forward: no such shape"
    assert differences(comparison) == [], "and nothing else is lost"


# The other side ------------------------------------------------------------------------------------------------------


def doubled(name: str) -> Prices:
    """The table with one formula's FLOPs twice as many."""
    right = PRICES[name]

    def formula(signature: Any) -> Price:
        return Price(*(2 * figure for figure in right(signature)))

    return Prices({**PRICES, name: formula}, PRICES.free)


@pytest.mark.parametrize(
    ("operator", "path", "phase"),
    [
        ("aten.convolution", "0", "forward"),
        ("aten.convolution_backward", "0", "backward"),
        ("aten.native_batch_norm", "1", "forward"),
        ("aten.threshold_backward", "2", "backward"),
        ("aten.addmm", "5", "forward"),
    ],
)
def test_a_wrong_price_is_seen(operator: str, path: str, phase: str) -> None:
    watched = run()
    ledger = build(watched.trace, doubled(operator))
    comparison = compare_layers(ledger, watched.trace, watched.layers)
    assert (path, phase, "flops") in {(row.path, row.phase, row.quantity) for row in comparison.failures}


def test_expectations_do_not_know_the_counts() -> None:
    """The same facts at other prices: the same is expected."""
    watched = run()
    free = {name: (lambda signature: Price(7, 3, 1)) for name in PRICES}
    other = build(watched.trace, Prices(free, PRICES.free))
    assert other.totals["forward_flops"] != watched.totals["forward_flops"]
    expected = from_observed_inputs(watched.ledger, watched.trace, watched.layers)
    assert from_observed_inputs(other, watched.trace, watched.layers)[0] == expected[0]


def test_an_operator_without_a_price_leaves_out_flops_alone() -> None:
    watched = run()
    without = Prices({name: PRICES[name] for name in PRICES if name != "aten.convolution"}, PRICES.free)
    ledger = build(watched.trace, without)
    comparison = compare_layers(ledger, watched.trace, watched.layers)
    assert differences(comparison) == []
    assert comparison.not_compared["0"] == "forward: no price for aten.convolution.default"
    stated = {row.quantity for row in comparison.rows if (row.path, row.phase) == ("0", "forward")}
    assert stated == {"output_shape", "parameters", "parameter_bytes", "activation_bytes"}
