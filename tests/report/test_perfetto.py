"""The trace for Perfetto: slices that nest, counters that follow the stream, and no invented clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import torchtally

from .runs import LIVE, trained, with_memory


@pytest.fixture(scope="module")
def trace() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(with_memory().to_perfetto())
    return content


def slices(trace: dict[str, Any], thread: int) -> list[tuple[str, int, int]]:
    found = [record for record in trace["traceEvents"] if record["ph"] == "X" and record["tid"] == thread]
    return sorted((record["name"], record["ts"], record["ts"] + record["dur"]) for record in found)


def test_phases(trace: dict[str, Any]) -> None:
    assert slices(trace, 1) == [("backward", 3, 5), ("forward", 0, 3), ("outside", 5, 6)]


def test_modules_stand_in_the_ones_they_are_in(trace: dict[str, Any]) -> None:
    assert slices(trace, 2) == [("block", 0, 3), ("conv", 0, 1), ("fc", 3, 5), ("relu", 1, 2)]
    conv = next(record for record in trace["traceEvents"] if record["name"] == "conv")
    assert conv["args"] == {"path": "block.conv", "phase": "forward"}


def test_slices_never_cross(trace: dict[str, Any]) -> None:
    spans = [(start, end) for _, start, end in slices(trace, 2)]
    for one in spans:
        for other in spans:
            assert one[1] <= other[0] or other[1] <= one[0] or _inside(one, other) or _inside(other, one)


def _inside(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return other[0] <= one[0] and one[1] <= other[1]


def test_the_counter_is_the_stream_s(trace: dict[str, Any]) -> None:
    counters = [record for record in trace["traceEvents"] if record["ph"] == "C"]
    live = [record["args"]["bytes"] for record in counters if record["name"] == "live bytes"]
    assert tuple(live) == LIVE
    last = {record["name"]: record["args"]["bytes"] for record in counters}
    assert last["parameters bytes"] + last["input bytes"] == last["live bytes"] == LIVE[-1]
    assert last["workspace bytes"] == last["saved bytes"] == 0


def test_it_says_that_there_is_no_clock(trace: dict[str, Any]) -> None:
    assert trace["otherData"]["clock"].startswith("no clock")
    assert trace["otherData"]["peak_bytes"] == max(LIVE)
    names = [record["args"]["name"] for record in trace["traceEvents"] if record["ph"] == "M"]
    assert any("no clock" in name for name in names)


def test_it_needs_memory(tmp_path: Path) -> None:
    with pytest.raises(torchtally.TallyError, match="did not measure memory"):
        trained().to_perfetto(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []
