"""What a step's memory was: its stream of allocations, read. Pure: it needs no torch, and knows no device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..theory.phase import Phase
from ..theory.stream import Stream
from .amounts import in_bytes

if TYPE_CHECKING:
    import pandas as pd

    from .capture.watch import MemoryWatch


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment when the most bytes were live: after `index` events, in the module at `path`, in `phase`."""

    bytes: int
    index: int
    path: str
    phase: Phase
    operator: str


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The bytes of one step on one device.

    `stream` has what was asked for, request by request. `reserved` names what the device's allocator held beyond that
    at the peak, in bytes: rounding, cache, library workspaces; empty where it has no such thing (CPU). `notes` says in
    words what could not be seen.
    """

    stream: Stream
    device: str = "cpu"
    reserved: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, watch: MemoryWatch) -> Memory:
        """What a watch that has ended saw."""
        return cls(stream=watch.stream(), device=watch.device, reserved=watch.beyond, notes=watch.notes)

    @property
    def peak_bytes(self) -> int:
        """The most bytes live at once, parameters and input included."""
        return self.stream.peak_bytes

    def fits(self, limit: int | str) -> bool:
        """Whether the step stays within `limit`, with what the allocator held beyond it: bytes, or "8 GiB"."""
        return self.peak_bytes + sum(size for _, size in self.reserved) <= in_bytes(limit)

    @property
    def peak(self) -> Peak:
        """When and where that was."""
        index = self.stream.peak_index
        if not index:
            return Peak(self.peak_bytes, 0, "", "outside", "")
        event = self.stream.events[index - 1]
        return Peak(self.peak_bytes, index, event.path, event.phase, self.stream.blocks[event.block].operator)

    @property
    def bill(self) -> pd.DataFrame:
        """What was live at the peak: `path`, `category`, `bytes`, largest first. The bytes add up to `peak_bytes`."""
        from .report.frame import bill_frame

        return bill_frame(self)

    @property
    def timeline(self) -> pd.DataFrame:
        """A row per allocation and free, in order: `event`, `path`, `phase`, `category`, `operator`, `bytes` (negative
        where freed), `live_bytes` after it."""
        from .report.frame import timeline_frame

        return timeline_frame(self)
