"""A workload's real step, observed from every side: counted under hooks, its memory taken from the allocator, its time
from a clock."""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from .capture.cautions import run_eagerly
from .capture.clock import Clock
from .capture.watch import STEPS, MemoryWatch, memory_device
from .errors import StepOutOfMemoryError, UsageError
from .formulas import Formula
from .memory import Memory
from .pricing import PRICES, Prices
from .profile import profile
from .run import Run
from .seconds.timing import Timing
from .workload import Build, Workload

REPEATS = 5


def measure(
    workload: Workload | Build,
    *,
    repeats: int = REPEATS,
    prices: Prices = PRICES,
    formulas: Mapping[Any, Formula] | None = None,
) -> Run:
    """Run the workload's step as often as it takes, and merge what was seen: its memory from three steps without a
    dispatch mode, which would change it; its time from `repeats` bare steps and as many observed ones, in turns; and
    one that is counted. With `repeats=0` time is not measured.

    The steps are real ones: the model is trained by them. A factory is called for its default workload.

    Raises StepsDifferError where the steps are not of one shape; StepOutOfMemoryError, with the memory up to there,
    where one did not fit; RunStateError while another profiler session is active; UsageError for a negative number of
    repeats. Other errors of the step pass through.
    """
    if type(repeats) is not int or repeats < 0:
        raise UsageError(f"repeats must be an integer of at least 0, got {repeats!r}")
    if not isinstance(workload, Workload):
        workload = _built(workload)
    prices = prices.extend(formulas) if formulas else prices
    with ExitStack() as exits:
        run_eagerly(exits)  # as counting does
        memory = measure_memory(workload)
        timing = measure_time(workload, repeats) if repeats else None
    with profile(workload.model, prices=prices) as counted:
        workload.step()
    return Run(counted.trace, layers=counted.layers, prices=prices, memory=memory, timing=timing)


def measure_time(workload: Workload, repeats: int = REPEATS, *, clock: Clock | None = None) -> Timing:
    """The seconds of the workload's step, from now: a step of either kind to warm up, then bare and observed ones in
    turns, first the one and then the other first, so that neither always follows the other."""
    return _timed([workload], [clock or _clock(workload)], repeats)[0]


def measure_times(workloads: Sequence[Workload], repeats: int = REPEATS) -> list[Timing]:
    """The seconds of each workload's step. They take turns, so that what slows the machine for a while slows them all:
    the n-th steps of two belong together."""
    return _timed(workloads, [_clock(workload) for workload in workloads], repeats)


def _clock(workload: Workload) -> Clock:
    return Clock(workload.model, memory_device(workload.model))


def _timed(workloads: Sequence[Workload], clocks: Sequence[Clock], repeats: int) -> list[Timing]:
    bare: list[list[int]] = [[] for _ in workloads]
    gc.collect()  # of older work: what the step itself leaves behind is its own
    for workload, clock in zip(workloads, clocks, strict=True):
        workload.step()
        clock.warm_up(workload.step)
    for turn in range(repeats):
        for workload, clock, found in zip(workloads, clocks, bare, strict=True):
            if turn % 2:
                clock.observe(workload.step)
            found.append(clock.bare(workload.step))
            if not turn % 2:
                clock.observe(workload.step)
    return [
        Timing(bare=tuple(found), observed=clock.spent(), device=memory_device(workload.model))
        for workload, clock, found in zip(workloads, clocks, bare, strict=True)
    ]


def measure_memory(workload: Workload) -> Memory:
    """The memory of the workload's second step, from now."""
    gc.collect()  # what garbage still holds would be given back in the middle of a step
    watch = MemoryWatch(workload.model, workload.step, workload.optimizer, memory_device(workload.model))
    watch.begin()
    try:
        for _ in range(STEPS):
            workload.step()
            watch.step_ended()
    except (torch.OutOfMemoryError, RuntimeError) as error:
        watch.end()
        if not _ran_out(error):
            raise
        raise _out_of_memory(error, Memory.of(watch)) from error
    finally:
        watch.end()
    return Memory.of(watch)


def _built(build: Build) -> Workload:
    workload = build() if callable(build) else build
    if not isinstance(workload, Workload):
        raise UsageError(
            f"measure() needs a torchtally.Workload, or a factory that returns one; got {type(workload).__name__}"
        )
    return workload


def _ran_out(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _out_of_memory(error: BaseException, memory: Memory) -> StepOutOfMemoryError:
    """What was asked, what was live, and the largest part of that."""
    asked = re.search(r"tried to allocate ([\d.]+ ?\w+)", str(error))
    live = memory.stream.live_bytes[-1]
    return StepOutOfMemoryError(
        f"the step asked for {asked.group(1) if asked else 'more memory'} and did not get it, while {live:,} bytes of "
        "it were live; the error's `memory` has the timeline up to there",
        memory,
    )
