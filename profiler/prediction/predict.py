"""A step's cost without taking it: the workload runs on fake tensors, and nothing large is ever allocated.

Two steps are run, of which the second counts: optimizers make their state in the first. It is counted as a real one is,
and the storages that it makes and drops are followed; what happens inside its operators is learnt from isolated calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

from ..capture.followed import Call, without_overload
from ..capture.forms import Form, Layout
from ..errors import PredictionError
from ..formulas import Formula
from ..machine.record import Machine
from ..memory import Memory
from ..pricing import PRICES, Prices
from ..run import Run
from ..seconds.forecast import forecast
from ..workload import Build
from .inside import Inside
from .merging import Merged
from .replaying import ReplayedStep
from .workspaces import Learner

_REPLAYS = 4  # at most; each corrects what follows from the one before

_NEEDS_VALUES = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)


def predict(
    build: Build,
    *,
    batch_size: int | None = None,
    learn: bool | Learner = True,
    machine: Machine | None = None,
    prices: Prices = PRICES,
    formulas: Mapping[Any, Formula] | None = None,
) -> Run:
    """What `measure(build())` would find, without doing the work.

    `build` makes the workload, and is given `batch_size` where there is one. With `learn`, workspaces inside operators
    are learnt from one real call of each kind, in another process, and kept in a cache; a call that needs more than a
    quarter of the free memory is left out, and `run.memory.notes` names it. A `Learner` has limits of its own. With a
    `machine` that was calibrated (`torchtally.machine()`), the run has the seconds of a step on it.

    Raises UsageError where `build` is no factory of workloads, PredictionError where the step depends on values that
    nobody computed. Other errors of the step pass through.
    """
    prices = prices.extend(formulas) if formulas else prices
    learner = learn if isinstance(learn, Learner) else Learner() if learn else None
    try:
        step, memory = _replayed(build, batch_size, prices, learner)
    except _NEEDS_VALUES as error:
        raise PredictionError(
            f"the step cannot be replayed without computing, since it depends on values ({_first_line(error)}); "
            "measure it with torchtally.measure(workload)"
        ) from error
    finally:
        if learner is not None and learner is not learn:
            learner.close()
    timing = None if machine is None else forecast(step.run.trace, machine, prices)
    return Run(step.run.trace, layers=step.run.layers, prices=prices, memory=memory, timing=timing)


def _replayed(
    build: Build, batch_size: int | None, prices: Prices, learner: Learner | None
) -> tuple[ReplayedStep, Memory]:
    """Where real calls were seen to give other tensors than fake ones, the step is replayed again with those."""
    layouts: dict[Form, tuple[Layout, ...]] = {}
    for _ in range(_REPLAYS):
        step = ReplayedStep(build, batch_size, prices, layouts)
        learnt, why = _learnt(step, learner)
        merged = Merged(step.before, step.log, learnt)
        new = {call.form: learnt[call.form].layouts for call in merged.misshapen if call.form not in layouts}
        if not new:
            break
        layouts |= new
    notes = (
        *(() if learner is None else learner.notes),
        *_assumed(step),
        *_not_learnt(why),
        *_strange(merged.strange),
        *_misshapen(merged.misshapen),
    )
    return step, Memory(stream=merged.stream(step.held, step.paths), notes=notes)


def _learnt(step: ReplayedStep, learner: Learner | None) -> tuple[dict[Form, Inside], dict[Form, str]]:
    calls = {entry.form: entry for entry in step.log if isinstance(entry, Call) and entry.has_inside}
    if learner is None:
        return {}, dict.fromkeys(calls, "learning being turned off")
    return learner.learn({form: _need(call) for form, call in calls.items()})


def _need(call: Call) -> int:
    """Bytes of the call's tensors, in and out."""
    return _bytes(call.form) + sum(block.bytes for block in call.results if block is not None)


def _bytes(form: Any) -> int:
    if not isinstance(form, tuple) or not form:
        return 0
    if form[0] == "tensor":
        dtype: torch.dtype = getattr(torch, form[1])
        return int(prod(size for size, stride in zip(form[2], form[3], strict=True) if stride)) * dtype.itemsize
    return sum(_bytes(part) for part in form)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# What is said of it ---------------------------------------------------------------------------------------------------


def _assumed(step: ReplayedStep) -> Iterator[str]:
    for (work, value), times in step.assumed.items():
        if work is None:
            yield f"a value that building the workload reads was taken to be {value} ({times}x)"
            continue
        path = step.paths[work[0]] if work[0] >= 0 else ""
        yield f"{path or '(step)'}, {work[1]}: a value that the step reads was taken to be {value} ({times}x)"


def _not_learnt(why: Mapping[Form, str]) -> Iterator[str]:
    """A line per reason, with the operators and in how many kinds of call."""
    kinds = Counter((reason, without_overload(form[1])) for form, reason in why.items())
    for each in dict.fromkeys(why.values()):
        named = (f"{operator} ({count}x)" for (reason, operator), count in kinds.items() if reason == each)
        yield f"workspaces not learnt, {each}: {', '.join(named)}"


def _strange(calls: Iterable[Call]) -> Iterator[str]:
    for operator, times in Counter(call.operator for call in calls).items():
        yield f"{operator} gives new memory where it does not on fake tensors ({times}x): its inside is left out"


def _misshapen(calls: Iterable[Call]) -> Iterator[str]:
    for operator, times in Counter(call.operator for call in calls).items():
        yield f"{operator} gives other tensors in a real call than on fake ones ({times}x): what follows may differ"
