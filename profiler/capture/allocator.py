"""The allocator's own account: every request and return of memory, in order, with what was running.

PyTorch's profiler reports each allocation with its exact size and pointer, workspaces inside operators included, and
the ranges around it: operators, autograd nodes, and ranges of our own. Memory that was there before is never reported,
not even when it is returned.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.autograd import profiler as torch_profiler

from ..errors import RunStateError
from . import cuda
from .entries import NO_NUMBER, Entry, Kernel, Moment, Request, Span

# Opens a range of that name in the account. Cheap, and nothing where no account is being kept.
Range = torch._C._profiler._RecordFunctionFast


class Account:
    """What the allocator of `device` did while `account()` was open; read once it is closed.

    `beyond` names what it held, when most was live, beyond what was asked for; nothing on the CPU.
    """

    def __init__(self, device: str = "cpu", *, memory: bool = True) -> None:
        self.beyond: tuple[tuple[str, int], ...] = ()
        self._device = device
        kernels = device == "cuda" and not memory
        self._profile = torch_profiler.profile(
            use_cpu=True, profile_memory=memory, use_device=device if kernels else None
        )
        self._kernels: tuple[Kernel, ...] = ()
        self._entries: tuple[Entry, ...] | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Requests and spans in order of time. Raises RunStateError while the account is open."""
        if self._entries is None:
            raise RunStateError("the allocator's account is read when it is closed")
        return self._entries

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """What a CUDA device did, in order of time, where memory is left out. Raises as `entries` does."""
        return self._kernels if self.entries is not None else ()

    def _open(self) -> None:
        if torch._C._autograd._profiler_enabled():
            raise RunStateError(
                "memory and time cannot be measured while another profiler session is active; leave that one first"
            )
        with _quiet():
            self._profile.__enter__()

    def _close(self) -> None:
        with _quiet():
            self._profile.__exit__(None, None, None)
        results: Any = self._profile.kineto_results
        launchers: dict[int, Span] = {}
        roots = results.experimental_event_tree()
        timed = [entry for root in roots for entry in _entries(root, self._device, launchers)]
        timed.sort(key=lambda entry: entry[0])  # threads run side by side; within one, the order stays
        self._entries = tuple(entry for _, entry in timed)
        self._kernels = kernels_of(results.events(), launchers)
        del self._profile


@contextmanager
def account(device: str = "cpu", *, memory: bool = True) -> Iterator[Account]:
    """Keep the account of the CPU's allocator for a block, or that of the current CUDA device. Without `memory` it has
    the ranges alone, and costs less."""
    kept = Account(device, memory=memory)
    with ExitStack() as exits:
        if memory and device == "cuda":
            exits.enter_context(_as_requested(kept))
        kept._open()
        exits.callback(kept._close)
        yield kept


@contextmanager
def _as_requested(kept: Account) -> Iterator[None]:
    """The profiler reports CUDA's blocks: lay the allocator's own history of requests over them."""
    start = cuda.level_now()
    with cuda.history() as trace:
        yield
    blocks = kept.entries
    kept._entries = cuda.requested(blocks, trace)
    kept.beyond = cuda.level_at_peak(start, blocks, trace).beyond


def kernels_of(events: Iterable[Any], launchers: Mapping[int, Span]) -> tuple[Kernel, ...]:
    """Work on a device among the profiler's events, in order of time. Ranges that it draws there, of `record_function`,
    are no work."""
    found = [
        Kernel(event.start_ns(), event.start_ns() + event.duration_ns(), launchers.get(event.linked_correlation_id()))
        for event in events
        if event.device_type().name == "CUDA" and not event.is_user_annotation()
    ]
    return tuple(sorted(found, key=lambda kernel: (kernel.at, kernel.ends)))


def _entries(root: Any, device: str, launchers: dict[int, Span]) -> Iterator[tuple[int, Entry]]:
    """The tree under one event, depth first, each entry with its time; `launchers` gets the ranges by the number that
    what they launch will name. Without recursion: models nest deeply."""
    todo: list[tuple[Any, Span | None]] = [(root, None)]
    while todo:
        event, outer = todo.pop()
        if isinstance(event, Span):
            time, thread = todo.pop()[0]
            yield time, Moment("ends", event, time, thread)
            continue
        if event.tag.name == "Allocation":
            facts = event.extra_fields
            if facts.device.type == device:
                yield event.start_time_ns, Request(facts.ptr or 0, facts.alloc_size, outer)
            continue
        if event.tag.name == "Kineto":
            continue  # a device's work, or a call of its library: neither is a range of ours
        span = Span(event.name, getattr(event.extra_fields, "sequence_number", NO_NUMBER), outer)
        launchers[event.correlation_id] = span
        yield event.start_time_ns, Moment("begins", span, event.start_time_ns, event.start_tid)
        todo += (((event.end_time_ns, event.start_tid), None), (span, None))
        todo += ((child, span) for child in reversed(event.children))


@contextmanager
def _quiet() -> Iterator[None]:
    """Some builds print a line on the console whenever the profiler starts or stops; this is where they look."""
    before = os.environ.get("KINETO_LOG_LEVEL")
    os.environ["KINETO_LOG_LEVEL"] = "99"
    try:
        yield
    finally:
        if before is None:
            del os.environ["KINETO_LOG_LEVEL"]
        else:
            os.environ["KINETO_LOG_LEVEL"] = before
