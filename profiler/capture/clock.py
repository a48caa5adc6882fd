"""The seconds of a step, from the profiler's ranges: each interval between two moments belongs to what was innermost.

Nothing is synchronized at a layer, nothing hooked in backward, and no operator is seen by Python: ranges around module
calls, and autograd's own around its nodes, are read when the step has ended. The intervals are those of the step's own
thread, and add up to the step to the nanosecond.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

import torch
from torch import nn

from ...theory.phase import Gap, Phase
from ..errors import MeasurementError
from .allocator import Account, account
from .attribution import SequenceTable
from .contexts import Context, Contexts, is_node, is_remark
from .device import NO_KERNELS, DeviceSweep
from .entries import Entry, Moment, Span
from .memory import NOTE, Markers, Note
from .spent import Operators, Spent, add, operator_name, whose
from .watch import same_shapes

Now = Callable[[], int]
"""Nanoseconds of a clock that only rises."""

Keep = Callable[[], AbstractContextManager[Account]]

_S = TypeVar("_S", bound="_Sweep")


class Clock:
    """Takes the time of steps on a `device`, "cpu" or the current one of "cuda": bare ones with a clock, observed ones
    under the profiler's account."""

    def __init__(
        self, model: nn.Module, device: str = "cpu", *, now: Now = time.perf_counter_ns, keep: Keep | None = None
    ) -> None:
        self._now = now
        self._keep = keep or (lambda: account(device, memory=False))
        self.device = device
        self._markers = Markers(model, device=device)
        self._accounts: list[Account] = []

    def bare(self, step: Callable[[], Any]) -> int:
        """Nanoseconds of a step with nothing installed."""
        self._wait()
        begin = self._now()
        step()
        self._wait()
        return self._now() - begin

    def warm_up(self, step: Callable[[], Any]) -> None:
        """Observe a step, and forget it: a first account also pays for memory that later ones find there."""
        self.observe(step)
        self._accounts.pop()

    def observe(self, step: Callable[[], Any]) -> None:
        """Run a step under ranges. Raises RunStateError while another profiler session is active."""
        with ExitStack() as exits:
            self._markers.install(exits)
            kept = exits.enter_context(self._keep())
            self._wait()
            self._markers.tick()
            step()
            self._wait()
            self._markers.tick()
        self._accounts.append(kept)

    def _wait(self) -> None:
        """For the device, at both ends of a step and nowhere else."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def spent(self) -> tuple[Spent, ...]:
        """Of each observed step, on a CUDA device by what it did, else by what the step's thread did. Raises
        StepsDifferError where the model was not given the same shapes in each, MeasurementError where the profiler saw
        nothing of a CUDA device."""
        if self.device == "cuda":
            return tuple(step for kept in self._seen() for step in self._on_device(kept).steps(kept.kernels))
        return tuple(step for found in self._swept(_Sweep) for step in found.steps)

    def operators(self) -> tuple[Operators, ...]:
        """Of each observed step, without its gaps. On a CUDA device an operator has the time of what it launched, which
        may be none. Raises as `spent` does."""
        if self.device == "cuda":
            return tuple(step for kept in self._seen() for step in self._on_device(kept).operators(kept.kernels))
        return tuple(step for found in self._swept(_ByOperator) for step in found.operators)

    def _seen(self) -> list[Account]:
        """What was observed, of a device that was seen at work: without a kernel nothing is known of idleness."""
        if not any(kept.kernels for kept in self._accounts):
            raise MeasurementError(NO_KERNELS)
        return self._accounts

    def _on_device(self, kept: Account) -> DeviceSweep:
        markers = self._markers
        same_shapes(_without_pauses(markers.notes))
        sweep = DeviceSweep(Contexts(markers.paths, markers.table, markers.notes))
        for entry in kept.entries:
            if isinstance(entry, Moment):
                sweep.read(entry)
        return sweep

    def _swept(self, sweep: type[_S]) -> list[_S]:
        markers = self._markers
        same_shapes(_without_pauses(markers.notes))
        return [
            _swept(kept.entries, sweep(Contexts(markers.paths, markers.table, markers.notes)))
            for kept in self._accounts
        ]


def _without_pauses(notes: Iterable[Note]) -> list[Note]:
    """One boundary where an observed step ended and the next began, some bare ones later."""
    kept: list[Note] = []
    for note in notes:
        if not (note.what == "boundary" and kept and kept[-1].what == "boundary" and len(kept) > 1):
            kept.append(note)
    return kept


def attribute(
    entries: Iterable[Entry], paths: Sequence[str], table: SequenceTable, notes: Sequence[Note]
) -> list[Spent]:
    """Whose each nanosecond was, for each step between two boundaries."""
    return _swept(entries, _Sweep(Contexts(paths, table, notes))).steps


def _swept(entries: Iterable[Entry], sweep: _S) -> _S:
    """Over the moments of one thread: the one that made the first note."""
    moments = [entry for entry in entries if isinstance(entry, Moment)]
    thread = next((moment.thread for moment in moments if moment.span.name.startswith(NOTE)), None)
    for moment in moments:
        if moment.thread == thread:
            sweep.read(moment)
    return sweep


class _Sweep:
    """Goes from moment to moment of one thread; what lies between two is given to the innermost range."""

    def __init__(self, contexts: Contexts) -> None:
        self.steps: list[Spent] = []
        self._contexts = contexts
        self._step: Spent | None = None
        self._inner: Span | None = None
        self._opening: Span | None = None  # the note that opens a step, which begins when that has ended
        self._at = 0
        self._after_node = False  # whether a node was the last thing that ran outside all else

    def read(self, moment: Moment) -> None:
        """A range begins or ends: the time since the last moment is spent, and what is innermost changes."""
        noted = moment.span.name.startswith(NOTE)
        if moment.what == "begins" and not noted:
            self._contexts.follow(moment)  # a node may learn its number from the range in it: first that, then `of`
        self._spend(moment)
        note = None
        if moment.what == "ends" or noted:
            note = self._contexts.follow(moment)
        self._inner = moment.span if moment.what == "begins" else moment.span.outer
        if note is not None and note.what == "boundary":
            self._close(moment.span)
        if moment.what == "ends" and moment.span is self._opening:
            self._step = {}
        if moment.what == "ends" and not is_remark(moment.span) and _work(moment.span.outer) is None:
            self._after_node = is_node(moment.span)

    def _close(self, note: Span) -> None:
        if self._step is not None:
            self.steps.append(self._step)
        self._step, self._opening, self._after_node = None, note, False

    def _spend(self, moment: Moment) -> None:
        spent, self._at = moment.at - self._at, moment.at
        if self._step is not None and spent:
            add(self._step, self._place(moment), spent)

    def _place(self, moment: Moment) -> tuple[str, Phase | Gap]:
        context = self._context()
        if context is not None:
            return whose(context)
        return "", "autograd" if self._after_node and is_node(moment.span) else "python"

    def _context(self) -> Context | None:
        """Where the step is; None outside all work."""
        work = _work(self._inner)
        return None if work is None else self._contexts.of(work)


class _ByOperator(_Sweep):
    """Each module and phase taken apart by operator."""

    def __init__(self, contexts: Contexts) -> None:
        super().__init__(contexts)
        self.operators: list[Operators] = []
        self._apart: dict[tuple[str, Phase, str], dict[Span | None, int]] = {}

    def _close(self, note: Span) -> None:
        if self._step is not None:
            self.operators.append({place: [*calls.values()] for place, calls in self._apart.items()})
        self._apart = {}
        super()._close(note)

    def _spend(self, moment: Moment) -> None:
        spent, context = moment.at - self._at, self._context()
        if self._step is not None and context is not None:
            operator = context.operator
            calls = self._apart.setdefault((*whose(context), operator_name(operator)), {})
            calls[operator] = calls.get(operator, 0) + spent
        super()._spend(moment)


def _work(span: Span | None) -> Span | None:
    """The range itself, or the first around it that is work."""
    while span is not None and is_remark(span):
        span = span.outer
    return span
