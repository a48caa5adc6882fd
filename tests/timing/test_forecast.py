"""A step's seconds from counts and a machine of round figures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler.machine.curves import Sample
from torchtally.profiler.machine.features import Features
from torchtally.profiler.machine.record import Machine
from torchtally.profiler.prediction.predict import predict
from torchtally.profiler.run import Run
from torchtally.profiler.seconds.forecast import forecast
from torchtally.profiler.seconds.roofed import failures, roof_rows
from torchtally.profiler.seconds.timing import Timing
from torchtally.theory.roofline import Ceilings

N, IN, OUT = 4, 8, 16
FLOPS = 2 * N * IN * OUT  # of the forward product, and of the weight's gradient

MILLISECOND = 1e-3


def machine(**overheads: float) -> Machine:
    """Products at 1 MFLOP/s, all else at 1 MB/s."""
    return Machine(
        environment={"device": "cpu"},
        ceilings=Ceilings(flops={"float32": 2e6}, bandwidth=((1, 4e6),), overhead=1e-9),
        samples=(
            Sample(Features("aten.mm float32", "product float32", 10**6, (0.0, 1.0, 1.0, 1.0)), 1.0),
            Sample(Features("aten.copy float32", "moved", 10**6, (math.log(10**6), 0.0)), 1.0),
        ),
        overheads=overheads,
    )


@pytest.fixture
def counted() -> torchtally.Profile:
    model = nn.Linear(IN, OUT)
    x = torch.randn(N, IN)
    with torchtally.profile(model) as run:
        model(x).sum().backward()
    return run


def test_products_by_flops_and_all_else_by_bytes(counted: torchtally.Profile) -> None:
    timing = forecast(counted.trace, machine())
    assert timing.spent("", "forward") == pytest.approx(FLOPS / 1e6)
    bias = 4 * (N * OUT + OUT) / 1e6  # the bias's gradient reads (N, OUT) and writes (1, OUT)
    assert timing.spent("", "backward") == pytest.approx(FLOPS / 1e6 + bias)
    assert timing.predicted


def test_what_a_step_takes_besides(counted: torchtally.Profile) -> None:
    overheads = {"python": 3 * MILLISECOND, "gradient": 5 * MILLISECOND, "operator forward": 7 * MILLISECOND}
    once = {"once python": MILLISECOND, "once operator forward": 2 * MILLISECOND, "once operator optimizer": 1.0}
    timing = forecast(counted.trace, machine(**overheads, **once))
    forward = sum(facts.times for facts in counted.trace.operators if facts.phase == "forward")
    assert timing.spent("", "python") == pytest.approx(2 * 3 * MILLISECOND + MILLISECOND)
    assert timing.spent("", "accumulation") == pytest.approx(2 * 5 * MILLISECOND)  # weight and bias
    assert timing.spent("", "forward") == pytest.approx(FLOPS / 1e6 + (forward * 7 + 2) * MILLISECOND)
    assert ("", "optimizer") not in timing.places  # no optimizer, and nothing for the first of none


def test_the_step_is_the_sum_of_its_parts(counted: torchtally.Profile) -> None:
    timing = forecast(counted.trace, machine(python=MILLISECOND, call=MILLISECOND))
    assert timing.seconds == pytest.approx(sum(timing.spent(*place) for place in timing.places))


def test_what_calibration_did_not_meet_is_named() -> None:
    model = nn.Conv2d(2, 3, 3)
    with torchtally.profile(model) as run:
        model(torch.randn(1, 2, 5, 5))
    (note,) = [note for note in forecast(run.trace, machine()).notes if "convolution" in note]
    assert "its seconds are left out" in note


def test_a_prediction_on_fake_tensors_has_the_same_seconds(counted: torchtally.Profile) -> None:
    def build(batch_size: int = N) -> torchtally.Workload:
        model = nn.Linear(IN, OUT)
        x = torch.randn(batch_size, IN)
        return torchtally.Workload(model=model, step=lambda: model(x).sum().backward())

    run = predict(build, learn=False, machine=machine(python=MILLISECOND))
    assert run.timing.predicted
    for phase in ("forward", "backward"):
        expected = forecast(counted.trace, machine()).spent("", phase)
        assert run.timing.spent("", phase) == pytest.approx(expected)
    assert run.totals["seconds"] == run.timing.seconds


# Against the roofline -------------------------------------------------------------------------------------------------


def measured(run: torchtally.Profile, forward: float) -> Run:
    timing = Timing(bare=(10**9,), observed=({("", "forward"): round(forward * 1e9)},))
    return Run(run.trace, timing=timing)


def test_the_least_seconds_of_a_row(counted: torchtally.Profile) -> None:
    frame = counted.roofline(machine()).set_index(["path", "phase"])
    forward = frame.loc[("", "forward")]
    assert forward.flops == FLOPS
    assert forward.bytes == 4 * (OUT + N * IN + IN * OUT + N * OUT)  # bias, input, weight, output
    assert forward.least_seconds == pytest.approx(max(FLOPS / 2e6, forward.bytes / 4e6))
    assert forward.bound == "compute"
    assert forward.intensity == pytest.approx(FLOPS / forward.bytes)
    assert frame.share.isna().all()


def test_products_without_a_ceiling_are_named() -> None:
    model = nn.Linear(IN, OUT).double()
    with torchtally.profile(model) as run:
        model(torch.randn(N, IN).double())
    note = run.roofline(machine()).set_index("phase").note["forward"]
    assert "no ceiling for products in float64" in note


def test_a_bound_that_was_beaten_is_a_failure(counted: torchtally.Profile) -> None:
    least = FLOPS / 2e6
    for seconds, beaten in ((2 * least, False), (least / 1.25, True)):
        run = measured(counted, seconds)
        rows = roof_rows(run.trace, run.ledger, machine().ceilings)
        (row,) = [row for row in rows if row.phase == "forward"]
        assert row.share == pytest.approx(least / seconds, rel=1e-6)
        assert bool(failures(rows)) is beaten
        assert (row.failure == "") is not beaten
    assert "(125%)" in row.failure


def test_a_comparison_holds_seconds_against_the_least(counted: torchtally.Profile) -> None:
    least = FLOPS / 2e6
    for seconds, verdict, wrong in ((4 * least, "agrees", None), (least / 1.25, "contradicted", "theory")):
        found = measured(counted, seconds).compare(machine())
        (row,) = [row for row in found.rows if row.quantity == "seconds"]
        assert (row.path, row.phase, row.verdict, row.wrong) == ("", "forward", verdict, wrong)
        assert row.theory == pytest.approx(least)
        assert row.measured == pytest.approx(seconds)
        assert found.ok is (wrong is None)
    assert not [row for row in measured(counted, least).compare().rows if row.quantity == "seconds"]
    assert not [row for row in counted.compare(machine()).rows if row.quantity == "seconds"]  # no time was measured


def test_model_flop_utilization(counted: torchtally.Profile) -> None:
    """Of a step of one second: forward and the weight's gradient, over 2 MFLOP/s."""
    assert measured(counted, 0.5).utilization(machine()) == pytest.approx(2 * FLOPS / 2e6)
    with pytest.raises(torchtally.TallyError, match="no ceiling for float16"):
        measured(counted, 0.5).utilization(machine(), "float16")
