"""The seconds of a step on a CUDA device: what it did, given to the module, phase and operator that launched it.

Launching and running are apart in time: ranges say where something was launched, kernels when it ran and in which range
they were launched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ...theory.phase import Phase
from .contexts import Contexts
from .entries import Kernel, Moment, Span
from .spent import Operators, Spent, add, operator_name, whose

NO_KERNELS = (
    "PyTorch's profiler saw no kernel on the CUDA device: this build or this container keeps CUPTI from it, and "
    "without it no seconds can be measured there"
)

Launcher: TypeAlias = tuple[str, Phase, Span | None]
"""Module path and phase, and the operator: who launched a kernel."""


@dataclass(frozen=True, slots=True)
class _DeviceStep:
    """From when to when it went, and the operators that it called, in order."""

    begin: int
    end: int
    called: tuple[Launcher, ...]

    def pieces(self, kernels: Iterable[Kernel]) -> Iterator[tuple[Kernel | None, int]]:
        """Nanoseconds of each kernel, and of each gap, in order; they add up to the step."""
        at = self.begin
        for kernel in kernels:
            first, last = max(kernel.at, at), min(kernel.ends, self.end)
            if last > first:
                yield None, first - at
                yield kernel, last - first
                at = last
        yield None, self.end - at


class DeviceSweep:
    """Notes where each range of any thread began: what was launched in it runs later, on the device."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts
        self._places: dict[Span, Launcher] = {}
        self._steps: list[_DeviceStep] = []
        self._called: list[Launcher] = []
        self._opening: Span | None = None
        self._began: int | None = None

    def read(self, moment: Moment) -> None:
        """Moments in order of time."""
        note = self._contexts.follow(moment)
        span = moment.span
        if moment.what == "ends":
            if span is self._opening:
                self._began = moment.at
            return
        context = self._contexts.of(span)
        launcher = self._places[span] = (*whose(context), context.operator)
        if context.operator is span:
            self._called.append(launcher)
        if note is not None and note.what == "boundary":
            if self._began is not None:
                self._steps.append(_DeviceStep(self._began, moment.at, tuple(self._called)))
            self._began, self._opening, self._called = None, span, []

    def steps(self, kernels: Sequence[Kernel]) -> list[Spent]:
        """The device's time. Of two kernels that run at once, the later has what is left when the earlier has ended."""
        found: list[Spent] = []
        for step in self._steps:
            spent: Spent = {}
            for kernel, nanoseconds in step.pieces(kernels):
                add(spent, ("", "idle") if kernel is None else self._launched(kernel)[:2], nanoseconds)
            found.append(spent)
        return found

    def operators(self, kernels: Sequence[Kernel]) -> list[Operators]:
        """The same by operator: each call that the step made, in order, also those that launched nothing."""
        return [self._by_operator(step, kernels) for step in self._steps]

    def _by_operator(self, step: _DeviceStep, kernels: Sequence[Kernel]) -> Operators:
        apart: dict[tuple[str, Phase, str], dict[Span | None, int]] = {}
        for path, phase, operator in step.called:
            apart.setdefault((path, phase, operator_name(operator)), {})[operator] = 0
        for kernel, nanoseconds in step.pieces(kernels):
            if kernel is not None:
                path, phase, operator = self._launched(kernel)
                calls = apart.setdefault((path, phase, operator_name(operator)), {})
                calls[operator] = calls.get(operator, 0) + nanoseconds
        return {place: [*calls.values()] for place, calls in apart.items()}

    def _launched(self, kernel: Kernel) -> Launcher:
        nobody: Launcher = ("", "outside", None)
        return nobody if kernel.launcher is None else self._places.get(kernel.launcher, nobody)
