"""Does it fit, and how large may the batch be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchtally import Learner, Workload, fits, largest_batch
from torchtally.profiler.errors import PredictionError, UsageError
from torchtally.profiler.memory import Memory
from torchtally.profiler.prediction.fit import _largest
from torchtally.theory.stream import Block, Stream

FEATURES = 1000


def evaluated(batch_size: int = 1) -> Workload:
    """ReLU of a batch, without gradients: nothing but its input and its output, 4 bytes a feature each."""
    model, x = nn.ReLU(), torch.randn(batch_size, FEATURES)

    def step() -> None:
        with torch.no_grad():
            model(x)

    return Workload(model=model, step=step)


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_the_largest_batch_is_where_arithmetic_says(batch: int, learner: Learner) -> None:
    peak = 2 * 4 * FEATURES * batch
    assert largest_batch(evaluated, peak, learn=learner) == batch
    assert largest_batch(evaluated, peak + 2 * 4 * FEATURES - 1, learn=learner) == batch
    assert fits(evaluated, peak, batch_size=batch, learn=learner)
    assert not fits(evaluated, peak - 1, batch_size=batch, learn=learner)


def test_not_even_one(learner: Learner) -> None:
    with pytest.raises(PredictionError, match="one fits: its peak is 8,000 B, and the limit 7,999 B"):
        largest_batch(evaluated, 7999, learn=learner)


def test_a_factory_that_does_not_use_its_batch_size(learner: Learner) -> None:
    with pytest.raises(PredictionError, match="the peak does not grow with the batch: 8,000 B for 1, 8,000 B for 2"):
        largest_batch(lambda batch_size=1: evaluated(1), "1 GiB", learn=learner)


@pytest.mark.parametrize(
    "peak",
    [lambda n: n, lambda n: n * n, lambda n: 10 * n + 500 * (n > 5), lambda n: int(100 * n**0.5), lambda n: 7 * n + 3],
)
def test_any_curve_that_grows(peak: object) -> None:
    """Against a walk from 1 upwards, with few looks."""
    looks: list[int] = []

    def memory(batch: int) -> Memory:
        looks.append(batch)
        return Memory(stream=Stream((Block(peak(batch), "input", "", "outside"),), (0,), ()))  # type: ignore[operator]

    for limit in (800, 1000, 5000):
        looks.clear()
        expected = max(n for n in range(1, 6000) if peak(n) <= limit)  # type: ignore[operator]
        assert _largest(memory, limit) == expected
        assert len(looks) <= 30


@pytest.mark.parametrize(("limit", "fitting"), [("8 kB", True), ("7.9 kB", False), ("7.8125 KiB", True), (8000, True)])
def test_limits_are_bytes_or_words(limit: int | str, fitting: bool, learner: Learner) -> None:
    assert fits(evaluated, limit, learn=learner) is fitting  # one sample: 8,000 B


@pytest.mark.parametrize("limit", ["", "GiB", "8 GiBs", -1, True, 1.5, None])
def test_what_is_no_limit_is_refused_before_anything_runs(limit: object) -> None:
    with pytest.raises(UsageError, match="limit="):
        largest_batch(lambda batch_size=1: pytest.fail("it ran"), limit)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="limit="):
        fits(lambda batch_size=1: pytest.fail("it ran"), limit)  # type: ignore[arg-type]


def test_what_the_allocator_holds_beyond_counts_too() -> None:
    memory = Memory(stream=Stream((Block(100, "input", "", "outside"),), (0,), ()), reserved=(("cache", 28),))
    assert memory.fits(128) and not memory.fits(127)
