"""What `predict` gives, refuses, says, and leaves behind."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchtally
from torchtally import Learner, Workload, predict
from torchtally.profiler.errors import PredictionError, UsageError

from .steps import STEPS, cnn, momentum, training


@pytest.mark.parametrize(("samples", "peak"), [(32, 22_660_248), (8, 6_274_584)])
def test_the_published_peaks_of_the_walkthrough(samples: int, peak: int, learner: Learner) -> None:
    """Figures of a real run on a CPU with AVX-512, which blocks convolutions by 16 channels."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("workspaces follow other rules here")
    run = predict(cnn(), batch_size=samples, learn=learner)
    assert run.memory.peak_bytes == run.totals["peak_bytes"] == peak
    assert int(run.memory.bill["bytes"].sum()) == peak


@pytest.mark.parametrize("name", ["the walkthrough's CNN", "transformer layer", "checkpoint", "evaluation"])
def test_the_ledger_is_a_counted_step_s(name: str) -> None:
    torch.manual_seed(0)
    predicted = predict(STEPS[name], learn=False)
    workload = STEPS[name]()
    workload.step()
    with torchtally.profile(workload.model) as counted:
        workload.step()
    assert {key: value for key, value in predicted.totals.items() if key != "peak_bytes"} == counted.totals
    assert [(row.path, row.phase, row.flops) for row in predicted.ledger.rows] == [
        (row.path, row.phase, row.flops) for row in counted.ledger.rows
    ]
    assert predicted.layers.keys() == counted.layers.keys()


def test_nothing_large_is_allocated() -> None:
    """Two layers of a million times a million: 8 TB of parameters and as much again of gradients and momentum."""
    size = 10**6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = predict(training(lambda: nn.Sequential(*(nn.Linear(size, size, bias=False) for _ in range(2))), size))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    weights = 2 * size * size * 4
    assert run.totals["parameter_bytes"] == weights
    assert run.memory.peak_bytes > 3 * weights  # with momentum and gradients
    assert grown < 2**20  # KiB
    assert any("needs more than the limit" in note for note in run.memory.notes)


def test_the_batch_size_reaches_the_factory() -> None:
    run = predict(training(lambda: nn.Linear(8, 8), 8), batch_size=7, learn=False)
    (call,) = (call for call in run.trace.calls if call.path == "" and call.phase == "forward")
    assert call.inputs[0].shape == (7, 8)


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "settings", "why"),
    [
        (nn.Linear(2, 2), {}, "needs a factory that makes a torchtally.Workload, got Linear"),
        (lambda: nn.Linear(2, 2), {}, "must return a torchtally.Workload, it returned Linear"),
        (lambda: Workload(model=nn.Linear(2, 2), step=lambda: None), {"batch_size": 3}, "the factory takes none"),
        ("resnet18", {}, "needs a factory that makes a torchtally.Workload, got str"),
    ],
)
def test_what_is_no_factory_is_refused(build: Any, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        predict(build, learn=False, **settings)


class Selects(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0].sum()


def test_a_step_whose_shapes_depend_on_values_is_refused_in_words() -> None:
    with pytest.raises(PredictionError, match="depends on values") as caught:
        predict(training(lambda: nn.Sequential(nn.Linear(4, 4), Selects()), 4), learn=False)
    assert "torchtally.measure" in str(caught.value)


def test_errors_of_the_step_pass_through() -> None:
    with pytest.raises(RuntimeError, match=r"same reduction dim|cannot be multiplied"):
        predict(training(lambda: nn.Linear(5, 4), 4), learn=False)


# Values ---------------------------------------------------------------------------------------------------------------


def _build(make: Callable[[], nn.Module], read: Callable[[Tensor], Any] = lambda loss: None) -> Callable[[], Workload]:
    def build() -> Workload:
        model, x = make(), torch.randn(4, 8)
        optimizer = momentum(model)

        def step() -> None:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            read(loss)

        return Workload(model=model, step=step, optimizer=optimizer)

    return build


def test_a_value_that_is_read_is_assumed_and_named() -> None:
    seen: list[Any] = []
    run = predict(_build(lambda: nn.Linear(8, 8), lambda loss: seen.append(loss.item())), learn=False)
    assert seen == [0.0, 0.0]
    assert [note for note in run.memory.notes if "taken to be 0.0 (1x)" in note]


def test_values_that_a_model_is_built_from_are_real() -> None:
    """Rates by `linspace`, and widths by rounding a range: as timm and torchvision build theirs."""

    def make() -> nn.Module:
        rates = [rate.item() for rate in torch.linspace(0, 0.5, 3)]
        widths = (torch.round(torch.arange(3) * 2.6 + 8.0)).int().tolist()
        assert rates == [0.0, 0.25, 0.5]
        return nn.Sequential(
            *(nn.Linear(a, b) for a, b in zip([8, *widths], widths, strict=False)),
            *map(nn.Dropout, rates),
        )

    run = predict(_build(make), learn=False)
    assert run.totals["parameters"] == (8 * 8 + 8) + (8 * 11 + 11) + (11 * 13 + 13)  # widths 8, 11, 13
    assert not [note for note in run.memory.notes if "taken to be" in note]


def test_what_was_random_or_overwritten_has_no_value() -> None:
    seen: list[Any] = []

    def make() -> nn.Module:
        known = torch.zeros(3)
        seen.append(known.sum().item())
        known.uniform_()
        seen.append(bool((known > 2).any()))
        known.fill_(3)
        seen.append(known[0].item())
        return nn.Linear(8, 8)

    run = predict(_build(make), learn=False)
    assert seen[:2] == [0.0, False]
    assert "a value that building the workload reads was taken to be False (1x)" in run.memory.notes


# No trace -------------------------------------------------------------------------------------------------------------


def test_random_state_and_torch_are_as_they_were() -> None:
    torch.manual_seed(3)
    state, swap, get = torch.get_rng_state(), torch.utils.swap_tensors, torch.get_rng_state

    def build() -> Workload:
        torch.manual_seed(99)
        torch.rand(5)
        return _build(lambda: nn.Linear(8, 8))()

    predict(build, learn=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.utils.swap_tensors is swap and torch.get_rng_state is get


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_an_error(kind: type[BaseException]) -> None:
    """The fixture of all tests looks at what is installed; here, that real tensors are real again."""

    class Fails(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Fails.calls += 1
            if Fails.calls == 2:
                raise kind("stop")
            return x

    with pytest.raises(kind, match="stop"):
        predict(_build(lambda: nn.Sequential(nn.Linear(8, 8), Fails())), learn=False)
    assert torch.ones(2).sum().item() == 2
