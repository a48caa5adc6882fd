"""Calibration: what is kept and how, what lies between samples, and ceilings from a fake clock."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchtally.profiler.machine as package
from torchtally.profiler.errors import MachineError
from torchtally.profiler.machine import calibrate, machine
from torchtally.profiler.machine.ceilings import best_seconds
from torchtally.profiler.machine.curves import Curves, Sample
from torchtally.profiler.machine.features import Features, features
from torchtally.profiler.machine.networks import KINDS, networks
from torchtally.profiler.machine.record import Machine, from_json
from torchtally.profiler.machine.sampling import Learnt
from torchtally.profiler.machine.store import load, path_of, save, this_machine
from torchtally.profiler.records import Signature
from torchtally.theory.roofline import Ceilings
from torchtally.theory.tensor import TensorSpec

CEILINGS = Ceilings(flops={"float32": 1e11}, bandwidth=((4096, 2e10), (2**28, 1e10)), overhead=1e-6)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def found(*samples: Sample, about: dict[str, Any] | None = None) -> Machine:
    return Machine(environment=about or this_machine(), ceilings=CEILINGS, samples=samples, overheads={"python": 1e-4})


def copied(bytes: int, seconds: float) -> Sample:
    return Sample(Features("aten.copy float32", "moved", bytes, (math.log(bytes), 0.0)), seconds)


# Kept -----------------------------------------------------------------------------------------------------------------


def test_a_machine_is_what_was_kept() -> None:
    kept = found(copied(100, 1e-6))
    path = save(kept)
    assert machine() == kept
    assert from_json(json.loads(path.read_text())) == kept
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # nothing half-written beside it


def test_an_unknown_machine_is_no_guess() -> None:
    with pytest.raises(MachineError, match=r"not calibrated for torch .* run torchtally.calibrate\(\)"):
        machine()


@pytest.mark.parametrize("change", [{"torch": "0.1"}, {"threads": 99}, {"processor": "another"}])
def test_each_version_setting_and_processor_has_its_own(change: dict[str, Any]) -> None:
    save(found())
    assert path_of({**this_machine(), **change}) != path_of(this_machine())
    with pytest.raises(MachineError, match="not calibrated"):
        load({**this_machine(), **change})


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": 99}', '{"format": 2, "environment": 3}', "\ud800"]
)
def test_a_corrupted_file_is_one_clear_line(content: str) -> None:
    path = path_of(this_machine())
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(MachineError, match="is no calibration") as caught:
        machine()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_kept_is_said(cache: Path) -> None:
    (cache / "torchtally").write_text("a file where the folder should be")
    with pytest.raises(MachineError, match="could not be kept"):
        save(found())


def test_calibration_is_kept_and_leaves_the_random_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "ceilings", lambda device: CEILINGS)
    said: list[str] = []
    state = torch.get_rng_state()
    new = calibrate(rounds=1, repeats=1, say=said.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert machine() == new
    assert len(said) == 1 + len(KINDS)
    kinds = {sample.features.kind.split()[0] for sample in new.samples}
    assert {"aten.convolution", "aten.convolution_backward", "aten.native_batch_norm", "aten.mm"} <= kinds
    assert {"call", "gradient", "autograd", "python", "operator forward", "operator backward"} <= set(new.overheads)
    assert all(sample.seconds >= 0 for sample in new.samples)


# Networks -------------------------------------------------------------------------------------------------------------


def test_networks_are_the_same_for_a_seed_and_differ_between_rounds() -> None:
    shapes = [tuple(each.input.shape) for each in networks(2)]
    assert shapes == [tuple(each.input.shape) for each in networks(2)]
    assert shapes[: len(KINDS)] != shapes[len(KINDS) :]


# Between samples ------------------------------------------------------------------------------------------------------


def test_a_shape_that_was_timed_takes_what_it_took() -> None:
    curves = Curves([copied(100, 3e-6)])
    assert curves.seconds(copied(100, 0).features) == pytest.approx(3e-6)


def test_halfway_in_logarithms_the_rate_is_the_geometric_mean() -> None:
    """1e-8 s per byte at 100 bytes, 4e-8 at 10,000: at 1,000 it is 2e-8."""
    curves = Curves([copied(100, 100 * 1e-8), copied(10_000, 10_000 * 4e-8)])
    assert curves.seconds(copied(1_000, 0).features) == pytest.approx(1_000 * 2e-8)


def test_beyond_all_samples_seconds_grow_with_work() -> None:
    curves = Curves([copied(100, 1e-6)])
    assert curves.seconds(copied(300, 0).features) == pytest.approx(3e-6)


def test_another_kind_stands_in_only_within_the_family() -> None:
    curves = Curves([copied(100, 1e-6)])
    assert curves.seconds(Features("aten.relu float32", "moved", 100, (math.log(100), 0.0))) == pytest.approx(1e-6)
    assert curves.seconds(Features("aten.mm float32", "product float32", 100, (0.0, 1.0, 1.0, 1.0))) is None


def test_a_sample_of_no_time_says_nothing() -> None:
    assert Curves([copied(100, 0.0)]).seconds(copied(100, 0).features) is None


# Features -------------------------------------------------------------------------------------------------------------


def signature(operator: str, *shapes: tuple[int, ...], out: tuple[int, ...], more: tuple[Any, ...] = ()) -> Signature:
    return Signature(operator, (*(TensorSpec(shape) for shape in shapes), *more), {}, (TensorSpec(out),))


def test_a_product_is_its_flops_and_sizes() -> None:
    what = features(signature("aten.addmm.default", (7,), (3, 5), (5, 7), out=(3, 7)))
    assert what.work == 2 * 3 * 5 * 7
    assert what.sizes == pytest.approx(tuple(map(math.log, (1, 3, 5, 7))))


def test_all_else_is_the_bytes_it_moves() -> None:
    what = features(signature("aten.relu_.default", (4, 8), out=(4, 8)))
    assert (what.kind, what.work) == ("aten.relu_ float32", 2 * 4 * 8 * 4)


def test_a_view_is_free_of_size() -> None:
    small = features(signature("aten.view.default", (4, 8), out=(32,)))
    large = features(signature("aten.view.default", (400, 8), out=(3200,)))
    assert small == large


@pytest.mark.parametrize(
    ("weight", "groups", "form"),
    [((16, 8, 3, 3), 1, "dense"), ((8, 1, 3, 3), 8, "depthwise"), ((8, 2, 3, 3), 4, "grouped")],
)
def test_convolutions_are_of_a_form(weight: tuple[int, ...], groups: int, form: str) -> None:
    settings = (None, (1, 1), (1, 1), (1, 1), False, (0, 0), groups)
    what = features(
        signature("aten.convolution.default", (2, 8, 6, 6), weight, out=(2, weight[0], 6, 6), more=settings)
    )
    assert form in what.kind
    assert what.work == 2 * (2 * weight[0] * 6 * 6) * weight[1] * 9


def test_a_first_layers_backward_is_of_another_kind() -> None:
    """Without the gradient of the images it does half the work."""

    def backward(needs_images: bool) -> Features:
        settings = ((16,), (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (needs_images, True, True))
        shapes = ((2, 16, 6, 6), (2, 8, 6, 6), (16, 8, 3, 3))
        return features(signature("aten.convolution_backward.default", *shapes, out=(16, 8, 3, 3), more=settings))

    with_images, without = backward(True), backward(False)
    assert with_images.kind != without.kind
    assert with_images.work == 2 * without.work


# Sampling -------------------------------------------------------------------------------------------------------------


def test_operators_are_learnt_with_their_shapes() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    x = torch.randn(3, 8, requires_grad=True)
    learnt = Learnt()
    learnt.learn(model, lambda: model(x).sum().backward(), repeats=2)
    kinds = [sample.features for sample in learnt.samples]
    products = {each.work for each in kinds if each.kind == "aten.mm float32"}
    assert products == {2 * 3 * 4 * 8}  # of the input and of the weight: two calls, told apart by their order
    assert sum(each.kind == "aten.mm float32" for each in kinds) == 2
    assert any(each.kind == "aten.threshold_backward float32" for each in kinds)
    for name, seconds in learnt.overheads.items():
        assert seconds <= 0 if name.endswith("observing") else seconds >= 0


# Ceilings -------------------------------------------------------------------------------------------------------------


class Hand:
    """A clock that only calls move, each by what it takes."""

    def __init__(self) -> None:
        self.at = 0

    def __call__(self) -> int:
        self.at += 1_000  # asking takes a microsecond too
        return self.at

    def taking(self, *nanoseconds: int) -> Callable[[], None]:
        each = chain(nanoseconds, repeat(nanoseconds[-1]))

        def run() -> None:
            self.at += next(each)

        return run


def test_the_best_of_several_loops() -> None:
    hand = Hand()
    run = hand.taking(50_000_000, 9_000_000, 3_000_000, 7_000_000)  # the first is not counted
    assert best_seconds(run, now=hand, seconds=0.03) == pytest.approx(3e-3, rel=1e-3)


def test_quick_calls_are_looped_until_the_clock_is_exact() -> None:
    hand = Hand()
    assert best_seconds(hand.taking(2_000), now=hand, seconds=0.05) == pytest.approx(2e-6, rel=1e-2)
