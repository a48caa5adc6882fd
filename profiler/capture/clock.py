"""The seconds of a step, from the profiler's ranges: each interval between two moments belongs to what was innermost.

Nothing is synchronized at a layer, nothing hooked in backward, and no operator is seen by Python: ranges around module
calls, and autograd's own around its nodes, are read when the step has ended. The intervals are those of the step's own
thread, and add up to the step to the nanosecond.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeAlias, TypeVar

import torch
from torch import nn

from ...theory.phase import Gap, Phase
from .allocator import Account, account
from .attribution import SequenceTable
from .contexts import Context, Contexts, is_node, is_remark
from .entries import Entry, Kernel, Moment, Span
from .memory import NOTE, Markers, Note
from .watch import same_shapes

Spent: TypeAlias = dict[tuple[str, Phase | Gap], int]
"""Nanoseconds of one step by module path and phase, or by gap (path ""). They add up to the step."""

Operators: TypeAlias = dict[tuple[str, Phase, str], list[int]]
"""The same, but for gaps, apart by operator as the dispatcher sees it (`aten.relu`, no overload), each call apart and
in order; "" has the time in none, in one figure."""

Now = Callable[[], int]
"""Nanoseconds of a clock that only rises."""

Keep = Callable[[], AbstractContextManager[Account]]

_S = TypeVar("_S", bound="_Sweep")


class Clock:
    """Takes the time of steps: bare ones with a clock, observed ones under the profiler's account."""

    def __init__(
        self, model: nn.Module, device: str = "cpu", *, now: Now = time.perf_counter_ns, keep: Keep | None = None
    ) -> None:
        self._now = now
        self._keep = keep or (lambda: account(device, memory=False))
        self._device = device
        self._markers = Markers(model, device=device)
        self._accounts: list[Account] = []

    def bare(self, step: Callable[[], Any]) -> int:
        """Nanoseconds of a step with nothing installed."""
        self._wait()
        begin = self._now()
        step()
        self._wait()
        return self._now() - begin

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
        if self._device == "cuda":
            torch.cuda.synchronize()

    def spent(self) -> tuple[Spent, ...]:
        """Of each observed step, on a CUDA device by what it did, else by what the step's thread did. Raises
        StepsDifferError where the model was not given the same shapes in each."""
        if self._device == "cuda":
            return tuple(step for kept in self._accounts for step in self._on_device(kept))
        return tuple(step for found in self._swept(_Sweep) for step in found.steps)

    def operators(self) -> tuple[Operators, ...]:
        """Of each observed step, without its gaps. Raises as `spent` does."""
        return tuple(step for found in self._swept(_ByOperator) for step in found.operators)

    def _on_device(self, kept: Account) -> list[Spent]:
        markers = self._markers
        same_shapes(_without_pauses(markers.notes))
        sweep = DeviceSweep(Contexts(markers.paths, markers.table, markers.notes))
        for entry in kept.entries:
            if isinstance(entry, Moment):
                sweep.read(entry)
        return sweep.steps(kept.kernels)

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
            _add(self._step, self._place(moment), spent)

    def _place(self, moment: Moment) -> tuple[str, Phase | Gap]:
        context = self._context()
        if context is not None:
            return _whose(context)
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
            name = "" if operator is None else operator.name.replace("::", ".", 1)
            calls = self._apart.setdefault((*_whose(context), name), {})
            calls[operator] = calls.get(operator, 0) + spent
        super()._spend(moment)


class DeviceSweep:
    """Notes where each range of any thread began: what was launched in it runs later, on the device."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts
        self._places: dict[Span, tuple[str, Phase]] = {}
        self._steps: list[tuple[int, int]] = []
        self._opening: Span | None = None
        self._began: int | None = None

    def read(self, moment: Moment) -> None:
        """Moments in order of time."""
        note = self._contexts.follow(moment)
        if moment.what == "ends":
            if moment.span is self._opening:
                self._began = moment.at
            return
        self._places[moment.span] = _whose(self._contexts.of(moment.span))
        if note is not None and note.what == "boundary":
            if self._began is not None:
                self._steps.append((self._began, moment.at))
            self._began, self._opening = None, moment.span

    def steps(self, kernels: Sequence[Kernel]) -> list[Spent]:
        """The device's time. Of two kernels that run at once, the later has what is left when the earlier has ended."""
        return [self._between(begin, end, kernels) for begin, end in self._steps]

    def _between(self, at: int, end: int, kernels: Sequence[Kernel]) -> Spent:
        spent: Spent = {}
        for kernel in kernels:
            first, last = max(kernel.at, at), min(kernel.ends, end)
            if last > first:
                _add(spent, ("", "idle"), first - at)
                _add(spent, self._place(kernel.launcher), last - first)
                at = last
        _add(spent, ("", "idle"), end - at)
        return spent

    def _place(self, launcher: Span | None) -> tuple[str, Phase]:
        return ("", "outside") if launcher is None else self._places.get(launcher, ("", "outside"))


_SUMS = ("aten::add", "aten::add_")


def _whose(context: Context) -> tuple[str, Phase]:
    """The module and phase. Gradients that meet are added beside a node, not in it: that is autograd's, as in
    counting."""
    operator = context.operator
    if operator is not None and operator.name in _SUMS and operator.outer is context.node is not None:
        return context.path, "accumulation"
    return context.path, context.phase


def _add(spent: Spent, place: tuple[str, Phase | Gap], nanoseconds: int) -> None:
    if nanoseconds:
        spent[place] = spent.get(place, 0) + nanoseconds


def _work(span: Span | None) -> Span | None:
    """The range itself, or the first around it that is work."""
    while span is not None and is_remark(span):
        span = span.outer
    return span
