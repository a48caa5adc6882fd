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
from .garbage import no_garbage_collection

# Opens a range of that name in the account. Cheap, and nothing where no account is being kept.
Range = torch._C._profiler._RecordFunctionFast


_MEMORY = "[memory]"  # the profiler's name for a request
_OPERATOR = "aten::"


class Account:
    """What the allocator of `device` did while `account()` was open; read once it is closed.

    `beyond` names what it held, when most was live, beyond what was asked for; nothing on the CPU.
    """

    def __init__(self, device: str, *, memory: bool, operators: bool) -> None:
        self.beyond: tuple[tuple[str, int], ...] = ()
        self._device = device
        self._operators = operators
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
        tree = _Tree(self._device, operators=self._operators)
        with no_garbage_collection():  # of many objects that all stay it would find none, again and again
            timed = [entry for root in results.experimental_event_tree() for entry in tree.entries(root)]
            timed.sort(key=lambda entry: entry[0])  # threads run side by side; within one, the order stays
            self._entries = tuple([entry for _, entry in timed])
        if self._device == "cuda":
            self._kernels = kernels_of(results.events(), tree.launchers)
        del self._profile


@contextmanager
def account(device: str = "cpu", *, memory: bool = True, operators: bool = True) -> Iterator[Account]:
    """Keep the account of the CPU's allocator for a block, or that of the current CUDA device.

    Without `memory` it has the ranges alone, and costs less. Without `operators` it does not say when operators began
    and ended: requests still name them.
    """
    kept = Account(device, memory=memory, operators=operators)
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


class _Tree:
    """Reads the events of the profiler, which lie in one another, as entries in order.

    `launchers` are the ranges by the number that what they launch on a device will name.
    """

    def __init__(self, device: str, *, operators: bool) -> None:
        self.launchers: dict[int, Span] = {}
        self._device = device
        self._operators = operators

    def entries(self, root: Any) -> Iterator[tuple[int, Entry]]:
        """The tree under one event, depth first, each entry with its time. Without recursion: models nest deeply."""
        todo: list[tuple[Any, Span | None]] = [(root, None)]
        while todo:
            event, outer = todo.pop()
            if isinstance(event, Moment):
                yield event.at, event
                continue
            name = event.name
            if name == _MEMORY:
                facts = event.extra_fields
                if facts.device.type == self._device:
                    yield event.start_time_ns, Request(facts.ptr or 0, facts.alloc_size, outer)
                continue
            span = self._span(event, name, outer)
            if span is None:
                continue
            if self._operators or not name.startswith(_OPERATOR):
                thread = event.start_tid
                yield event.start_time_ns, Moment("begins", span, event.start_time_ns, thread)
                todo.append((Moment("ends", span, event.end_time_ns, thread), None))
            children = event.children
            if children:
                todo += [(child, span) for child in reversed(children)]

    def _span(self, event: Any, name: str, outer: Span | None) -> Span | None:
        """None for a device's work, or a call of its library: neither is a range of ours. An operator's number is asked
        for only where somebody follows operators: to ask is dear."""
        if name.startswith(_OPERATOR) and not self._operators:
            return Span(name, NO_NUMBER, outer)
        if self._device != "cpu" and event.tag.name == "Kineto":
            return None
        span = Span(name, getattr(event.extra_fields, "sequence_number", NO_NUMBER), outer)
        if self._device != "cpu":
            self.launchers[event.correlation_id] = span
        return span


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
