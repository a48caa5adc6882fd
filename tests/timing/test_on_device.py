"""A CUDA step's seconds, from fakes: kernels that run after they were launched, on a device that is sometimes idle."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from torchtally.profiler.capture.allocator import kernels_of
from torchtally.profiler.capture.clock import DeviceSweep, Spent
from torchtally.profiler.capture.contexts import Contexts
from torchtally.profiler.capture.entries import Entry, Kernel, Moment, Span

from .tape import BEGINNING, NODE, Tape


def spent(tape: Tape, kernels: list[Kernel], *others: list[Entry]) -> Spent:
    sweep = DeviceSweep(Contexts(tape.paths, tape.table, tape.notes))
    entries = [*tape.entries, *(entry for found in others for entry in found)]
    for entry in sorted((each for each in entries if isinstance(each, Moment)), key=lambda each: each.at):
        sweep.read(entry)
    (only,) = sweep.steps(kernels)
    return only


def launcher(tape: Tape, name: str) -> Span:
    return next(each.span for each in tape.entries if isinstance(each, Moment) and each.span.name == name)


def kernel(tape: Tape, begins: int, ends: int, name: str) -> Kernel:
    """From `begins` to `ends` nanoseconds after the profiler's clock began."""
    return Kernel(BEGINNING + begins, BEGINNING + ends, launcher(tape, name))


def forward() -> Tape:
    """Two operators are launched by nanosecond 3, and the step waits for the device until 100."""
    tape = Tape("", "first", "second")
    tape.boundary()
    with tape.module(""):
        with tape.module("first"):
            tape.operator(1, "aten::addmm")
        with tape.module("second"):
            tape.operator(2, "aten::relu")
    tape.spend(97)
    tape.boundary()
    return tape


def test_kernels_belong_to_who_launched_them_and_the_rest_is_idle() -> None:
    tape = forward()
    found = spent(tape, [kernel(tape, 10, 40, "aten::addmm"), kernel(tape, 45, 60, "aten::relu")])
    assert found == {
        ("first", "forward"): 40 - 10,
        ("second", "forward"): 60 - 45,
        ("", "idle"): (10 - 0) + (45 - 40) + (100 - 60),
    }


def test_of_two_kernels_at_once_the_later_has_what_is_left() -> None:
    tape = forward()
    found = spent(tape, [kernel(tape, 10, 40, "aten::addmm"), kernel(tape, 20, 50, "aten::relu")])
    assert found["first", "forward"] == 40 - 10
    assert found["second", "forward"] == 50 - 40
    assert sum(found.values()) == 100


def test_a_kernel_within_another_adds_nothing() -> None:
    tape = forward()
    found = spent(tape, [kernel(tape, 10, 40, "aten::addmm"), kernel(tape, 20, 30, "aten::relu")])
    assert ("second", "forward") not in found
    assert sum(found.values()) == 100


def test_work_of_other_steps_is_not_this_ones() -> None:
    tape = forward()
    found = spent(tape, [kernel(tape, -20, 5, "aten::addmm"), kernel(tape, 90, 150, "aten::relu")])
    assert found == {("first", "forward"): 5, ("second", "forward"): 100 - 90, ("", "idle"): 90 - 5}


def test_backward_is_launched_by_a_thread_of_its_own() -> None:
    tape = Tape("fc")
    tape.boundary()
    with tape.module("fc"):
        number = tape.operator(1, "aten::addmm")
    engine = Tape("fc", thread=2)
    engine.spend(2)
    engine.node(number, 3, "AddmmBackward0")
    tape.spend(50)
    tape.boundary()
    name = NODE + "AddmmBackward0"
    found = spent(tape, [Kernel(BEGINNING + 10, BEGINNING + 30, launcher(engine, name))], engine.entries)
    assert found == {("fc", "backward"): 20, ("", "idle"): 51 - 20}


def test_what_nobody_launched_is_outside() -> None:
    assert spent(forward(), [Kernel(BEGINNING, BEGINNING + 100, None)]) == {("", "outside"): 100}


# As the profiler reports them -----------------------------------------------------------------------------------------


@dataclass
class Event:
    """The profiler's, as far as it is looked at."""

    at: int
    lasts: int
    linked: int
    device: str = "CUDA"
    annotation: bool = False

    def start_ns(self) -> int:
        return self.at

    def duration_ns(self) -> int:
        return self.lasts

    def linked_correlation_id(self) -> int:
        return self.linked

    def device_type(self) -> Any:
        return SimpleNamespace(name=self.device)

    def is_user_annotation(self) -> bool:
        return self.annotation


def test_kernels_are_found_among_the_profilers_events() -> None:
    span = Span("aten::mm", 3, None)
    events = [
        Event(at=50, lasts=5, linked=99),  # launched by nothing that is known
        Event(at=10, lasts=20, linked=7),
        Event(at=1, lasts=2, linked=0, device="CPU"),
        Event(at=0, lasts=100, linked=7, annotation=True),
    ]
    assert kernels_of(events, {7: span}) == (Kernel(10, 30, span), Kernel(50, 55, None))


def test_the_profilers_events_are_as_the_fakes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name that is used of them exists, and means a number, a device or a truth."""
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")  # is read by the process's first session, for all
    with torch.autograd.profiler.profile(use_cpu=True) as kept:
        torch.ones(3).add(1)
    event: Any = next(iter(kept.kineto_results.events()))
    assert event.device_type().name == "CPU"
    assert event.is_user_annotation() is False
    assert all(type(found) is int for found in (event.start_ns(), event.duration_ns(), event.linked_correlation_id()))
    assert kernels_of(kept.kineto_results.events(), {}) == ()
