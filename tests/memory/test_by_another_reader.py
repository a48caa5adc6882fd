"""Peaks beside those that the profiler's own trace file gives: a format for people, read here by adding up."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity

from torchtally import measure

from .test_measure import MODELS

# Models whose data is made with them: nothing is older than the trace.
OWN_DATA = ("cnn", "cnn in place", "cnn checkpointed", "lstm", "encoder", "embedding")


def peak_by_trace(name: str, path: Path) -> int:
    """Bytes: the most that was live in the second step of what was made while the trace was kept."""
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as kept:
        workload = MODELS[name]()
        workload.step()
        with torch.profiler.record_function("the second step"):
            workload.step()
    kept.export_chrome_trace(str(path))
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    (step,) = [event for event in events if event["name"] == "the second step"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    live = list(accumulate(size for _, size in changes))
    begins, ends = step["ts"], step["ts"] + step["dur"]
    return max(bytes for (at, _), bytes in zip(changes, live, strict=True) if begins <= at <= ends)


@pytest.mark.parametrize("name", OWN_DATA)
def test_the_peak_is_that_of_the_trace(name: str, tmp_path: Path) -> None:
    assert measure(MODELS[name](), repeats=0).memory.peak_bytes == peak_by_trace(name, tmp_path / "trace.json")
