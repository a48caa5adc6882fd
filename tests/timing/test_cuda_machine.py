"""Calibration and prediction on CUDA, without one: switches that every build has, clocks written by hand, and figures
that are round."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import cycle
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

import torchtally
import torchtally.profiler.machine as package
from torchtally.profiler.capture.clock import Clock
from torchtally.profiler.errors import MachineError, MeasurementError
from torchtally.profiler.machine import machine, store, take_machine
from torchtally.profiler.machine.ceilings import _rates, shortest
from torchtally.profiler.machine.curves import Sample
from torchtally.profiler.machine.features import Features
from torchtally.profiler.machine.launching import launch_costs
from torchtally.profiler.machine.networks import networks
from torchtally.profiler.machine.record import Machine
from torchtally.profiler.machine.sampling import Learnt
from torchtally.profiler.machine.store import path_of, this_machine
from torchtally.profiler.precision import tf32, with_tf32
from torchtally.profiler.records import Trace
from torchtally.profiler.seconds.forecast import forecast
from torchtally.profiler.seconds.roofed import roof_rows
from torchtally.theory.roofline import Ceilings

N, IN, OUT = 4, 8, 16
FLOPS = 2 * N * IN * OUT
MICRO = 1e-6

# TF32 -----------------------------------------------------------------------------------------------------------------


def switches() -> tuple[Any, ...]:
    """As a user sees them, old and new."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    new = getattr(matmul, "fp32_precision", None), getattr(getattr(cudnn, "conv", None), "fp32_precision", None)
    return *new, matmul.allow_tf32, cudnn.allow_tf32, torch.get_float32_matmul_precision()


@pytest.fixture
def unchanged() -> Iterator[None]:
    before = switches()
    yield
    assert switches() == before


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_set_for_a_block_and_then_as_before(allowed: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError, match="mine"), with_tf32(allowed):
            assert tf32() == {"matmul": allowed, "convolution": allowed}
            raise KeyError("mine")


def test_tf32_of_someone_who_uses_the_newer_switch() -> None:
    """The older one then refuses to be read."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has the older switch alone")
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert tf32()["matmul"] is True
        with with_tf32(False):
            assert tf32()["matmul"] is False
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_tf32_where_there_is_only_the_older_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends, "cudnn", old)
    with with_tf32(False):
        assert old.allow_tf32 is False
        assert tf32() == {"matmul": False, "convolution": False}
    assert old.allow_tf32 is True


# Ceilings -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("name", "allowed"), [("tf32", True), ("float32", False)])
def test_products_with_and_without_tf32_are_apart(name: str, allowed: bool) -> None:
    said: list[dict[str, bool]] = []

    def best(product: Callable[[], Any]) -> float:
        said.append(tf32())
        return 2.0

    rates = list(_rates(best, name, "meta"))
    assert rates == [2 * 128**3 / 2.0]  # 2 s for the smallest: larger ones are not tried
    assert said == [{"matmul": allowed, "convolution": allowed}]


def test_the_shortest_kernel_is_not_one_of_no_time() -> None:
    assert shortest([1_900, 0, 1_100, 1_500]) == 1_100


@pytest.mark.parametrize("seen", [[], [0]])
def test_a_profiler_that_sees_no_kernel_is_said(seen: list[int]) -> None:
    with pytest.raises(MeasurementError, match="saw no kernel on the CUDA device"):
        shortest(seen)


def test_the_roof_of_float32_is_that_of_tf32_where_the_run_allowed_it() -> None:
    """Convolutions by their switch, other products by theirs."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, OUT))
    with torchtally.profile(model) as run:
        model(torch.randn(N, 1, 3, 3))
    top = Ceilings(flops={"float32": 1e3, "tf32": 1e6}, bandwidth=((1, 1e30),), overhead=1e-30)
    convolution, linear = 2 * (N * 2) * 9, 2 * N * 2 * OUT

    def least(**allowed: bool) -> dict[str, float]:
        facts = {**run.trace.environment, **{f"tf32_{name}": each for name, each in allowed.items()}}
        trace = Trace(**{**{name: getattr(run.trace, name) for name in Trace.__slots__}, "environment": facts})
        return {row.path: row.least_seconds for row in roof_rows(trace, run.ledger, top) if row.flops}

    assert least() == pytest.approx({"0": convolution / 1e3, "2": linear / 1e3})
    assert least(convolution=True, matmul=False) == pytest.approx({"0": convolution / 1e6, "2": linear / 1e3})
    assert least(convolution=False, matmul=True) == pytest.approx({"0": convolution / 1e3, "2": linear / 1e6})


# Launching ------------------------------------------------------------------------------------------------------------


def test_what_the_host_takes_to_launch() -> None:
    """Of 100 (Linear, ReLU): forward a product and a ReLU each; backward the ReLU's gradient, two products and the
    bias's sum, but in the first pair one product, for the input needs no gradient."""
    pairs, forward, backward, optimizer = 100, 3_000, 8_000, 5_000
    at, rises, waited = [0], cycle([1, forward, backward, optimizer]), []

    def now() -> int:
        at[0] += next(rises)
        return at[0]

    found = launch_costs("cpu", now=now, wait=lambda: waited.append(at[0]), rounds=3)
    assert found == pytest.approx(
        {
            "launch forward": forward * 1e-9 / (2 * pairs),
            "launch backward": backward * 1e-9 / (4 * pairs - 1),
            "launch optimizer": optimizer * 1e-9 / (2 * pairs),  # of weight and bias of each
        }
    )
    assert len(waited) == 3 + 1  # before each round, and at the end


# Learning -------------------------------------------------------------------------------------------------------------


class DeviceClock:
    """Has seen two steps of a model that is one linear layer: its product ran for 2 us, then for 4."""

    device = "cuda"

    def operators(self) -> Any:
        return tuple({("", "forward", "aten.addmm"): [took], ("", "forward", "aten.t"): [0]} for took in (2_000, 4_000))


def test_kernels_are_learnt_and_nothing_of_the_host() -> None:
    model, x = nn.Linear(IN, OUT), torch.randn(N, IN)
    with torchtally.profile(model) as run:
        model(x)
    learnt = Learnt()
    learnt.take(run.trace, cast(Clock, DeviceClock()), bare=[])
    (product,) = [sample for sample in learnt.samples if sample.features.work == FLOPS]
    assert product.seconds == pytest.approx(3 * MICRO)
    assert learnt.overheads == {}


def test_networks_are_placed_with_several_times_as_many_samples() -> None:
    """On meta tensors: nothing but shapes is asked."""
    larger = set()
    for number, network in enumerate(networks(1), start=1):
        before, wanted = tuple(network.input.shape), network.input.requires_grad
        package._place(network, "meta", Random(number))
        assert network.input.device.type == "meta"
        assert {parameter.device.type for parameter in network.model.parameters()} == {"meta"}
        assert network.input.shape[1:] == before[1:]
        assert network.input.requires_grad is wanted
        assert network.input.is_leaf
        larger.add(network.input.shape[0] / before[0])
    assert larger == {1, 4, 16}


@pytest.fixture
def learnt_by(monkeypatch: pytest.MonkeyPatch) -> list[Clock]:
    """`take_machine("cuda")` without a device: who was asked to learn with which clock."""
    clocks: list[Clock] = []

    def learn(self: Learnt, model: nn.Module, step: Any, *, repeats: int, clock: Clock) -> None:
        clocks.append(clock)
        if len(clocks) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(store, "environment", lambda device: {"torch": "2.11", "device": device, "threads": 1})
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    monkeypatch.setattr(package, "ceilings", lambda device: (TOP, device)[0])
    monkeypatch.setattr(package, "_place", lambda network, device, random: None)
    monkeypatch.setattr(package, "_launching", lambda: {"launch forward": 5 * MICRO})
    monkeypatch.setattr(Learnt, "learn", learn)
    return clocks


def test_a_gpu_is_calibrated_with_its_clock_and_without_what_does_not_fit(learnt_by: list[Clock]) -> None:
    said: list[str] = []
    found = take_machine("cuda", rounds=1, say=said.append)
    assert {clock.device for clock in learnt_by} == {"cuda"}
    assert found.environment["device"] == "cuda"
    assert found.overheads == {"launch forward": 5 * MICRO}
    assert [words for words in said if "left out" in words] == ["network 2 does not fit the device: left out"]
    assert len(learnt_by) == len([words for words in said if words.startswith("network")]) - 1


def test_each_gpu_and_setting_is_a_machine_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    facts = {"torch": "2.11", "threads": 1, "device_name": "one", "tf32_matmul": False}
    monkeypatch.setattr(store, "environment", lambda device: {**facts, "device": device})
    about = this_machine("cuda")
    assert about["cudnn_benchmark"] is torch.backends.cudnn.benchmark
    changed = [{"tf32_matmul": True}, {"device_name": "another"}, {"cudnn_deterministic": True}]
    assert len({path_of({**about, **change}) for change in ({}, *changed)}) == 1 + len(changed)
    with pytest.raises(MachineError, match=r"on cuda .* run torchtally\.calibrate\('cuda'\)"):
        machine("cuda")


# Forecast -------------------------------------------------------------------------------------------------------------

SIZES = (0.0, *map(math.log, (N, IN, OUT)))
TOP = Ceilings(flops={"float32": 1e12}, bandwidth=((1, 1e12),), overhead=1e-6)


def gpu(product: float, **launches: float) -> Machine:
    """A product takes so long; all else next to nothing."""
    return Machine(
        environment={"device": "cuda"},
        ceilings=TOP,
        samples=(
            Sample(Features("aten.mm float32", "product float32", FLOPS, SIZES), product),
            Sample(Features("aten.copy float32", "moved", 10**12, (math.log(10**12), 0.0)), 1e-6),
        ),
        overheads={f"launch {name}": seconds for name, seconds in launches.items()},
    )


@pytest.fixture
def counted() -> torchtally.Profile:
    """Forward: a product, and a view that launches nothing. Then the loss's sum, and the 1 that backward begins with.
    Backward: the weight's product and the bias's sum."""
    model, x = nn.Linear(IN, OUT), torch.randn(N, IN)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torchtally.profile(model) as run:
        model(x).sum().backward()
        optimizer.step()
    return run


def test_a_long_kernel_hides_its_launch(counted: torchtally.Profile) -> None:
    timing = forecast(counted.trace, gpu(100 * MICRO, forward=5 * MICRO, backward=3 * MICRO))
    assert timing.device == "cuda"
    assert timing.spent("", "forward") == pytest.approx(100 * MICRO, rel=1e-3)
    of_loss, of_bias = 2 * 5, 3
    assert timing.spent("", "idle") == pytest.approx((of_loss + of_bias) * MICRO, rel=1e-3)


def test_a_short_kernel_takes_its_launch(counted: torchtally.Profile) -> None:
    """The module has the kernel's seconds, as where they are measured, and the device waits for the rest."""
    timing = forecast(counted.trace, gpu(2 * MICRO, forward=5 * MICRO, backward=3 * MICRO))
    assert timing.spent("", "forward") == pytest.approx(2 * MICRO, rel=1e-3)
    assert timing.spent("", "backward") == pytest.approx(2 * MICRO, rel=1e-3)
    assert timing.spent("", "idle") == pytest.approx(((5 - 2) + 2 * 5 + (3 - 2) + 3) * MICRO, rel=1e-3)
    assert timing.seconds == pytest.approx((5 + 2 * 5 + 3 + 3) * MICRO, rel=1e-3)


def test_the_optimizer_is_launched_for_each_parameter(counted: torchtally.Profile) -> None:
    without = forecast(counted.trace, gpu(MICRO)).spent("", "idle")
    with_it = forecast(counted.trace, gpu(MICRO, optimizer=7 * MICRO)).spent("", "idle")
    parameters = 2  # weight and bias
    assert with_it - without == pytest.approx(parameters * 7 * MICRO, rel=1e-2)


def test_no_optimizer_launches_nothing() -> None:
    model, x = nn.Linear(IN, OUT), torch.randn(N, IN)
    with torchtally.profile(model) as run:
        model(x).sum().backward()
    assert forecast(run.trace, gpu(MICRO, optimizer=MICRO)).spent("", "idle") == 0


def test_what_was_not_met_is_named_and_views_are_not() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Conv1d(1, 1, 1))
    with torchtally.profile(model) as run:
        model(torch.randn(1, 3, 3).view(1, 1, 9))
    notes = forecast(run.trace, gpu(MICRO)).notes
    assert [note.split()[0] for note in notes] == ["aten.convolution"]
