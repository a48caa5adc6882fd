"""CUDA's two accounts, as the profiler and the memory history give them, laid over each other. No GPU is needed: the
entries have the form of recorded ones.

512-byte blocks, as the caching allocator gives: 100 B -> 512, 1,000 B -> 1,024; segments of 2 MiB.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torchtally.profiler.capture.cuda import Level, level_at_peak, requested
from torchtally.profiler.capture.entries import Moment, Request, Span
from torchtally.profiler.errors import MeasurementError

SPAN = Span("aten::relu", 3, None)
MIB = 2**20


def moment(action: str, address: int, size: int) -> dict[str, Any]:
    return {"action": action, "addr": address, "size": size, "stream": 0, "time_us": 0, "frames": []}


ENTRIES = (
    Moment("begins", SPAN),
    Request(0x1000, 512, SPAN),
    Request(0x2000, 1_024, SPAN),
    Request(0x1000, -512, SPAN),
    Moment("ends", SPAN),
    Request(0x1000, 512, None),
)
TRACE = [
    moment("segment_alloc", 0x1000, 2 * MIB),
    moment("alloc", 0x1000, 100),
    moment("alloc", 0x2000, 1_000),
    moment("free_requested", 0x1000, 100),
    moment("free_completed", 0x1000, 100),
    moment("alloc", 0x1000, 4),
]


def test_requests_have_the_bytes_that_were_asked_for() -> None:
    joined = requested(ENTRIES, TRACE)
    assert [entry.bytes for entry in joined if isinstance(entry, Request)] == [100, 1_000, -100, 4]
    assert [entry for entry in joined if isinstance(entry, Moment)] == [ENTRIES[0], ENTRIES[4]]
    assert all(entry.span is SPAN for entry in joined[1:4] if isinstance(entry, Request))


def test_rounding_and_cache_have_names() -> None:
    """At the peak 1,100 B were asked for, in blocks of 1,536, in one segment."""
    start = Level(requested=50, allocated=512, reserved=2 * MIB)
    peak = level_at_peak(start, ENTRIES, TRACE)
    assert peak == Level(requested=50 + 1_100, allocated=512 + 1_536, reserved=4 * MIB)
    assert dict(peak.beyond) == {"rounding": 512 - 50 + 436, "cache": 4 * MIB - 512 - 1_536}


def test_a_segment_given_back_is_cache_no_more() -> None:
    trace = [moment("segment_free", 0x9000, 2 * MIB), moment("alloc", 0x1000, 100)]
    peak = level_at_peak(Level(0, 0, 4 * MIB), ENTRIES[1:2], trace)
    assert peak.reserved == 2 * MIB


@pytest.mark.parametrize(
    ("trace", "says"),
    [
        (TRACE[:3], "nothing more where the profiler has free_requested at 0x1000"),
        (
            [*TRACE[:2], moment("alloc", 0x3000, 7)],
            "alloc at 0x3000 where the profiler has alloc at 0x2000",
        ),
        ([TRACE[1], TRACE[3]], "free_requested at 0x1000 where the profiler has alloc at 0x2000"),
    ],
)
def test_accounts_that_part_are_not_believed(trace: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(MeasurementError, match=says):
        requested(ENTRIES, trace)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_requested_bytes_of_a_real_step() -> None:
    import torchtally

    model = torch.nn.Linear(10, 3).cuda()
    x = torch.randn(5, 10, device="cuda")

    def step() -> None:
        model(x).sum().backward()

    memory = torchtally.measure(torchtally.Workload(model=model, step=step)).memory
    assert memory.bill.bytes.sum() == memory.peak_bytes
    assert dict(memory.reserved)["rounding"] >= 0
