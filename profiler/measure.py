"""A workload's real step, observed from every side: counted under hooks, and its memory taken from the allocator."""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping
from typing import Any

import torch

from .capture.watch import STEPS, MemoryWatch, memory_device
from .errors import StepOutOfMemoryError, UsageError
from .formulas import Formula
from .memory import Memory
from .pricing import PRICES, Prices
from .profile import profile
from .run import Run
from .workload import Build, Workload


def measure(
    workload: Workload | Build, *, prices: Prices = PRICES, formulas: Mapping[Any, Formula] | None = None
) -> Run:
    """Run the workload's step four times and merge what was seen: its memory from three steps without a dispatch mode,
    which would change it, then one that is counted.

    The steps are real ones: the model is trained by them. A factory is called for its default workload.

    Raises StepsDifferError where the steps are not of one shape; StepOutOfMemoryError, with the memory up to there,
    where one did not fit; RunStateError while another profiler session is active. Other errors of the step pass
    through.
    """
    if not isinstance(workload, Workload):
        workload = _built(workload)
    prices = prices.extend(formulas) if formulas else prices
    memory = measure_memory(workload)
    with profile(workload.model, prices=prices) as counted:
        workload.step()
    return Run(counted.trace, layers=counted.layers, prices=prices, memory=memory)


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
