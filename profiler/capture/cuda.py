"""CUDA's account: the profiler tells when and where, in whole blocks; the memory history tells what was asked for.

PyTorch's caching allocator rounds a request up to a block (512 bytes, or more of a large one), takes blocks from
segments that it keeps, and reports blocks to the profiler. Its memory history has every request in the same order. One
laid over the other is the stream as asked, and the difference has names: rounding, and cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..errors import MeasurementError
from .entries import Entry, Request

# What the history calls the moments that the profiler sees too.
_ASKED, _RETURNED = "alloc", "free_requested"
# What the device's driver gave and took back.
_SEGMENTS = {"segment_alloc": 1, "segment_map": 1, "segment_free": -1, "segment_unmap": -1}


@dataclass(frozen=True, slots=True)
class Level:
    """Bytes of the whole device: asked for, in blocks given out, and in segments kept."""

    requested: int
    allocated: int
    reserved: int

    @property
    def beyond(self) -> tuple[tuple[str, int], ...]:
        """What is held beyond what was asked for, by name."""
        return ("rounding", self.allocated - self.requested), ("cache", self.reserved - self.allocated)


def level_now() -> Level:
    """Of the current device."""
    stats = torch.cuda.memory_stats()
    return Level(*(stats.get(f"{name}_bytes.all.current", 0) for name in ("requested", "allocated", "reserved")))


@contextmanager
def history() -> Iterator[list[Mapping[str, Any]]]:
    """The allocator's own record of a block, on the current device; the list is filled when the block has ended.

    Raises MeasurementError where a history is being recorded already: it would be lost.
    """
    found: list[Mapping[str, Any]] = []
    device = torch.cuda.current_device()
    if torch._C._cuda_isHistoryEnabled():
        raise MeasurementError("CUDA's memory history is being recorded by somebody else; stop that first")
    torch.cuda.memory._record_memory_history(enabled="all", context=None, stacks="python", device=device)
    try:
        yield found
    finally:
        found += torch.cuda.memory._snapshot(device)["device_traces"][device]
        torch.cuda.memory._record_memory_history(enabled=None, device=device)


def requested(entries: Iterable[Entry], trace: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """The entries with each request's own bytes instead of its block's.

    Raises MeasurementError where the two accounts part: then neither can be believed.
    """
    asked = iter([moment for moment in trace if moment["action"] in (_ASKED, _RETURNED)])
    return tuple(_joined(entry, asked) if isinstance(entry, Request) else entry for entry in entries)


def _joined(request: Request, asked: Iterator[Mapping[str, Any]]) -> Request:
    moment = next(asked, None)
    action = _ASKED if request.bytes > 0 else _RETURNED
    if moment is None or (moment["action"], moment["addr"]) != (action, request.pointer):
        there = "nothing more" if moment is None else f"{moment['action']} at {moment['addr']:#x}"
        raise MeasurementError(
            f"CUDA's memory history has {there} where the profiler has {action} at {request.pointer:#x}; "
            "memory was used by another thread or stream in between: measure a step that has the device to itself"
        )
    size = moment["size"]
    return replace(request, bytes=size if request.bytes > 0 else -size)


def level_at_peak(start: Level, entries: Iterable[Entry], trace: Iterable[Mapping[str, Any]]) -> Level:
    """The device when most was requested. `entries` have blocks, as the profiler reports them; `trace` the rest."""
    blocks = iter([entry.bytes for entry in entries if isinstance(entry, Request)])
    now = peak = start
    for moment in trace:
        action, size = moment["action"], moment.get("size", 0)
        if action in (_ASKED, _RETURNED):
            asked = size if action == _ASKED else -size
            now = replace(now, requested=now.requested + asked, allocated=now.allocated + next(blocks))
        elif action in _SEGMENTS:
            now = replace(now, reserved=now.reserved + _SEGMENTS[action] * size)
        peak = max(peak, now, key=lambda level: level.requested)
    return peak
