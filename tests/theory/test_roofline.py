"""The roofline against figures worked out by hand, on a machine of round numbers."""

from __future__ import annotations

import pytest

from torchtally.theory.roofline import Ceilings, Work, roof, utilization

GIGA = 10**9
# 100 GFLOP/s; 20 GB/s within 1 MB, 10 GB/s up to 100 MB; a microsecond to start an operator
MACHINE = Ceilings(flops={"float32": 100 * GIGA}, bandwidth=((10**6, 20 * GIGA), (10**8, 10 * GIGA)), overhead=1e-6)


def test_a_product_is_bound_by_compute() -> None:
    """A 1,000 x 1,000 by 1,000 x 1,000 product: 2 * 1000**3 FLOPs over 3 matrices of 4 MB."""
    found = roof([Work(2 * 1000**3, 3 * 4 * 1000**2)], MACHINE)
    assert found.bound == "compute"
    assert found.seconds == pytest.approx(2 * 1000**3 / (100 * GIGA))
    assert found.intensity == pytest.approx(2 * 1000**3 / 12_000_000)


def test_an_elementwise_operator_is_bound_by_memory() -> None:
    found = roof([Work(0, 10**8)], MACHINE)
    assert found.bound == "memory"
    assert found.seconds == pytest.approx(10**8 / (10 * GIGA))


def test_what_is_small_is_bound_by_overhead() -> None:
    found = roof([Work(0, 8, times=50)], MACHINE)
    assert found.bound == "overhead"
    assert found.seconds == pytest.approx(50e-6)


def test_the_bound_is_the_sum_of_each_operators_own() -> None:
    """Two operators, one after the other: neither can use what the other leaves idle."""
    product, copy = Work(10**8, 100), Work(0, 10**8)
    found = roof([product, copy], MACHINE)
    assert found.seconds == pytest.approx(10**8 / (100 * GIGA) + 10**8 / (10 * GIGA))
    assert (found.compute, found.memory) == pytest.approx((1e-3, 100 / (20 * GIGA) + 1e-2))


@pytest.mark.parametrize(
    ("bytes", "rate"),
    [
        (1, 20 * GIGA),
        (10**6, 20 * GIGA),
        (10**7, 20 * GIGA),  # between two sizes: no slower than the faster of them
        (10**8, 10 * GIGA),
        (10**9, 10 * GIGA),
    ],
)
def test_caches_are_faster_than_memory(bytes: int, rate: int) -> None:
    assert MACHINE.seconds_of_bytes(bytes) == pytest.approx(bytes / rate)


def test_a_rate_that_a_larger_piece_reached_is_within_reach_of_a_smaller_one() -> None:
    machine = Ceilings(flops={}, bandwidth=((10, 1.0), (100, 5.0), (1000, 2.0)), overhead=1.0)
    assert machine.seconds_of_bytes(10) == pytest.approx(10 / 5)


def test_a_dtype_without_a_ceiling_is_named_and_bounds_nothing() -> None:
    found = roof([Work(10**12, 8, "float16")], MACHINE)
    assert found.unknown == ("float16",)
    assert found.compute == 0
    assert not roof([Work(0, 8, "float16")], MACHINE).unknown


def test_a_share_above_one_is_a_bound_that_was_beaten() -> None:
    found = roof([Work(0, 10**8)], MACHINE)
    assert found.share(0.02) == pytest.approx(0.5)
    assert found.share(0.008) == pytest.approx(1.25)


def test_nothing_moved_has_no_intensity() -> None:
    assert roof([], MACHINE).intensity is None


def test_model_flop_utilization() -> None:
    assert utilization(3 * 10**9, seconds=0.1, peak=100 * GIGA) == pytest.approx(0.3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bandwidth": ()},
        {"bandwidth": ((10, 1.0), (1, 1.0))},
        {"bandwidth": ((1, 0.0),)},
        {"overhead": 0.0},
        {"flops": {"float32": -1.0}},
    ],
)
def test_ceilings_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"ascending|positive"):
        Ceilings(**{"flops": {}, "bandwidth": ((1, 1.0),), "overhead": 1.0, **wrong})  # type: ignore[arg-type]
