"""Samples of steps, read: figures worked out by hand."""

from __future__ import annotations

import pytest

from torchtally.profiler.ledger import Coverage, Ledger, Row
from torchtally.profiler.seconds.timed import with_seconds
from torchtally.profiler.seconds.timing import Place, Sample, Timing

SECOND = 1_000_000_000  # nanoseconds


def spent(forward: int, backward: int, loss: int = 0, python: int = 0, outside: int = 0) -> dict[Place, int]:
    return {
        ("fc", "forward"): forward * SECOND,
        ("fc", "backward"): backward * SECOND,
        ("", "loss"): loss * SECOND,
        ("", "python"): python * SECOND,
        ("", "outside"): outside * SECOND,
    }


def timing(*observed: dict[Place, int], bare: tuple[int, ...] = (10,)) -> Timing:
    return Timing(bare=tuple(each * SECOND for each in bare), observed=observed)


def test_the_median_and_half_of_all_samples_around_it() -> None:
    sample = Sample((1.0, 10.0, 2.0, 3.0, 4.0))
    assert sample.median == 3.0
    assert sample.spread == 1.0  # distances 2, 7, 1, 0, 1


def test_the_step_is_the_bare_one_and_what_observing_cost_is_said() -> None:
    found = timing(spent(4, 7), spent(5, 7), spent(4, 8), bare=(10, 9, 11))
    assert found.seconds == 10
    assert found.overhead == pytest.approx(12 / 10)


def test_rows_add_up_to_the_observed_step() -> None:
    """Medians would not: of 1, 2, 6 and 6, 2, 1 they are 2 and 2, of the sums 7, 4, 7 it is 7."""
    found = timing(spent(1, 6), spent(2, 2), spent(6, 1))
    assert found.spent("fc", "forward") == pytest.approx((1 + 2 + 6) / 3)
    assert sum(found.spent(*place) for place in found.places) == pytest.approx(found.middle)
    assert found.middle == pytest.approx((7 + 4 + 7) / 3)


def test_shares_add_up_to_one() -> None:
    found = timing(spent(1, 6, 2, 3, 4), spent(2, 2, 1, 1, 1), spent(6, 1))
    assert sum(found.share(*place) for place in found.places) == pytest.approx(1)
    assert found.share("fc", "backward") == pytest.approx((6 + 2 + 1) / (16 + 7 + 7))


def test_the_slowest_and_the_fastest_steps_are_left_out() -> None:
    found = timing(spent(4, 4), spent(100, 100), spent(6, 6), spent(1, 1))
    assert found.spent("fc", "forward") == 5
    assert found.middle == 10
    assert found.sample("fc", "forward").seconds == (4, 100, 6, 1)  # none is forgotten


def test_closure_leaves_out_gaps_and_work_outside() -> None:
    found = timing(spent(forward=3, backward=4, loss=1, python=1, outside=1))
    assert found.closure == pytest.approx((3 + 4 + 1) / 10)


def test_a_place_that_some_steps_did_not_come_by() -> None:
    found = timing({("fc", "forward"): 2 * SECOND, ("", "optimizer"): SECOND}, {("fc", "forward"): 2 * SECOND})
    assert found.sample("", "optimizer").seconds == (1, 0)


@pytest.mark.parametrize(
    ("bare", "observed", "noisy"),
    [
        ((100, 100, 100), (100, 100, 100), []),
        ((90, 100, 110), (100, 100, 100), ["unobserved"]),  # 10 % give or take
        ((96, 100, 104), (100, 100, 100), []),  # 4 %
        ((100, 100, 100), (50, 100, 150), ["observed"]),
    ],
)
def test_uneven_steps_are_warned_of(bare: tuple[int, ...], observed: tuple[int, ...], noisy: list[str]) -> None:
    found = timing(*(spent(each, 0) for each in observed), bare=bare)
    assert [warning.split()[2] for warning in found.warnings] == noisy


def test_it_says_how_noisy() -> None:
    (warning,) = timing(spent(1, 0), bare=(90, 100, 110)).warnings
    assert "100 s give or take 10% (3 steps)" in warning


@pytest.mark.parametrize(("bare", "observed"), [((), (spent(1, 1),)), ((1,), ())])
def test_without_steps_there_is_no_timing(bare: tuple[int, ...], observed: tuple[dict[Place, int], ...]) -> None:
    with pytest.raises(ValueError, match="at least one bare and one observed"):
        Timing(bare=bare, observed=observed)


def test_the_frame_has_every_place() -> None:
    frame = timing(spent(3, 4, 1, 1, 1), spent(3, 6, 1, 1, 1), bare=(8, 8)).frame
    row = frame.set_index(["path", "phase"]).loc[("fc", "backward")]
    assert row.seconds == 5
    assert row.share == pytest.approx(5 / 11)
    assert (row["median"], row.spread) == (5, 1)
    assert frame.share.sum() == pytest.approx(1)


# In the ledger --------------------------------------------------------------------------------------------------------


def ledger(*rows: Row) -> Ledger:
    return Ledger(rows=rows, totals={}, coverage=Coverage(calls=0, bytes=0, unpriced=()))


def test_rows_get_their_seconds_and_what_only_the_clock_saw_gets_a_row() -> None:
    found = with_seconds(
        ledger(
            Row(path="", type="Net", phase="forward"),
            Row(path="fc", type="Linear", phase="forward", flops=8),
            Row(path="fc", type="Linear", phase="backward"),
            Row(path="unused", type="Linear", phase="forward"),
        ),
        timing({("fc", "forward"): SECOND, ("fc", "recompute"): 2 * SECOND, ("", "python"): SECOND}),
    )
    assert [(row.path, row.type, row.phase, row.seconds, row.share) for row in found.rows] == [
        ("", "Net", "forward", None, None),
        ("fc", "Linear", "forward", 1, 0.25),
        ("fc", "Linear", "backward", None, None),
        ("fc", "Linear", "recompute", 2, 0.5),
        ("unused", "Linear", "forward", None, None),
    ]
    assert found.rows[1].flops == 8
