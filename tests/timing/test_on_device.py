"""A CUDA step's seconds, from fakes: kernels that run after they were launched, on a device that is sometimes idle."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from torchtally.profiler.capture.allocator import Account, kernels_of
from torchtally.profiler.capture.clock import Clock
from torchtally.profiler.capture.contexts import Contexts
from torchtally.profiler.capture.device import DeviceSweep
from torchtally.profiler.capture.entries import Entry, Kernel, Moment, Span
from torchtally.profiler.capture.spent import Operators, Spent
from torchtally.profiler.errors import MeasurementError

from .tape import BEGINNING, NODE, Tape


def swept(tape: Tape, *others: list[Entry]) -> DeviceSweep:
    sweep = DeviceSweep(Contexts(tape.paths, tape.table, tape.notes))
    entries = [*tape.entries, *(entry for found in others for entry in found)]
    for entry in sorted((each for each in entries if isinstance(each, Moment)), key=lambda each: each.at):
        sweep.read(entry)
    return sweep


def spent(tape: Tape, kernels: list[Kernel], *others: list[Entry]) -> Spent:
    (only,) = swept(tape, *others).steps(kernels)
    return only


def operators(tape: Tape, kernels: list[Kernel], *others: list[Entry]) -> Operators:
    (only,) = swept(tape, *others).operators(kernels)
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


# By operator ----------------------------------------------------------------------------------------------------------


def spans(tape: Tape, name: str) -> list[Span]:
    begun = [each for each in tape.entries if isinstance(each, Moment) and each.what == "begins"]
    return [each.span for each in begun if each.span.name == name]


def test_each_call_of_an_operator_has_what_it_launched() -> None:
    """The second call launched nothing, the third two kernels, the second of which began before the first had ended."""
    tape = Tape("twice")
    tape.boundary()
    with tape.module("twice"):
        for _ in range(3):
            tape.operator(1, "aten::relu")
    tape.spend(97)
    tape.boundary()
    first, _, third = spans(tape, "aten::relu")
    kernels = [(10, 14, first), (20, 30, third), (25, 33, third)]
    found = operators(tape, [Kernel(BEGINNING + begins, BEGINNING + ends, span) for begins, ends, span in kernels])
    assert found == {("twice", "forward", "aten.relu"): [14 - 10, 0, (30 - 20) + (33 - 30)]}


def test_what_an_operator_calls_is_its_own() -> None:
    tape = Tape("conv")
    tape.boundary()
    with tape.module("conv"), tape.range("aten::convolution", 0), tape.range("aten::cudnn_convolution"):
        tape.spend(5)
    tape.boundary()
    (inner,) = spans(tape, "aten::cudnn_convolution")
    found = operators(tape, [Kernel(BEGINNING + 1, BEGINNING + 4, inner)])
    assert found == {("conv", "forward", "aten.convolution"): [4 - 1]}


def test_operators_of_backward_are_their_modules() -> None:
    tape = Tape("fc")
    tape.boundary()
    with tape.module("fc"):
        number = tape.operator(1, "aten::addmm")
    engine = Tape("fc", thread=2)
    engine.spend(2)
    with engine.range(NODE + "AddmmBackward0", number):
        engine.operator(3, "aten::mm")
        engine.operator(3, "aten::mm")
    tape.spend(50)
    tape.boundary()
    of_input, of_weight = spans(engine, "aten::mm")
    kernels = [Kernel(BEGINNING + at, BEGINNING + at + 5, span) for at, span in ((10, of_input), (20, of_weight))]
    found = operators(tape, kernels, engine.entries)
    assert found[("fc", "backward", "aten.mm")] == [5, 5]
    assert found[("fc", "forward", "aten.addmm")] == [0]


def test_a_kernel_in_a_module_and_in_no_operator_has_no_name() -> None:
    tape = forward()
    (module,) = spans(tape, "torchtally.module:1")
    found = operators(tape, [Kernel(BEGINNING + 10, BEGINNING + 17, module)])
    assert found["first", "forward", ""] == [7]


def test_the_operators_of_each_step_are_its_own() -> None:
    tape = Tape("relu")
    for _ in range(2):
        tape.boundary()
        with tape.module("relu"):
            tape.operator(10, "aten::relu")
    tape.boundary()
    one, two = spans(tape, "aten::relu")
    kernels = [Kernel(BEGINNING + at, BEGINNING + at + 3, span) for at, span in ((2, one), (14, two))]
    place = ("relu", "forward", "aten.relu")
    assert swept(tape).operators(kernels) == [{place: [3]}, {place: [3]}]


@dataclass
class Kept:
    """A closed account of a device."""

    entries: list[Entry]
    kernels: list[Kernel]


def test_the_clock_of_a_cuda_device_reads_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    tape = forward()
    kept = Kept(tape.entries, [kernel(tape, 10, 40, "aten::addmm")])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    model = torch.nn.Sequential(OrderedDict(first=torch.nn.Identity(), second=torch.nn.Identity()))
    clock = Clock(model, "cuda", keep=lambda: nullcontext(cast(Account, kept)))
    clock.observe(lambda: None)
    clock._markers.notes[:], clock._markers.table = tape.notes, tape.table  # the tape's step, not the one taken
    assert clock.spent() == ({("first", "forward"): 40 - 10, ("", "idle"): 100 - 30},)
    assert clock.operators() == ({("first", "forward", "aten.addmm"): [30], ("second", "forward", "aten.relu"): [0]},)


def test_a_profiler_that_sees_no_kernel_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not a step of nothing but idleness."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    kept = Kept(forward().entries, [])
    clock = Clock(torch.nn.Identity(), "cuda", keep=lambda: nullcontext(cast(Account, kept)))
    clock.observe(lambda: None)
    for read in (clock.spent, clock.operators):
        with pytest.raises(MeasurementError, match="saw no kernel on the CUDA device"):
            read()


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
