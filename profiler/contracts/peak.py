"""The framework's part of a step's peak: what `cost.check` ran, replayed on fake copies.

Workspaces are left out, and none is learnt, so that no machine has a say in it. Where the replay is not the step that
was counted (it has no values to choose its way by), nothing is said but why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..prediction.called import replayed_call
from ..prediction.merging import Merged
from ..prediction.replaying import ReplayedStep
from ..run import Run

_ADDRESS = re.compile("0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class FrameworkPeak:
    """`bytes` live at once at the most, and `by_path`, the modules' parts of them, which add up. None where that is
    not known, and `unknown` says why."""

    bytes: int | None = None
    by_path: Mapping[str, int] = field(default_factory=dict)
    unknown: str = ""


def framework_peak(counted: Run, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> FrameworkPeak:
    """Of the step that `count(model, *args, **kwargs)` has counted. A replay that fails is no error: it says why."""
    try:
        replayed = replayed_call(model, args, kwargs)
    except Exception as error:  # of whatever kind: the same step has just run on real tensors
        return FrameworkPeak(unknown=f"the step cannot be replayed on fake tensors: {_in_short(error)}")
    if unknown := _another_step(counted, replayed):
        return FrameworkPeak(unknown=unknown)
    stream = Merged(replayed.before, replayed.log, {}).stream(replayed.held, replayed.paths).without("workspace")
    by_path: dict[str, int] = {}
    for (path, _), size in stream.bill().items():
        by_path[path] = by_path.get(path, 0) + size
    return FrameworkPeak(stream.peak_bytes, by_path)


def _another_step(counted: Run, replayed: ReplayedStep) -> str:
    """Why the replay is not known to be the step that was counted; nothing where it is."""
    from .baseline import check_of, differences

    if read := [work for work, _ in replayed.assumed if work is not None]:
        path = replayed.paths[read[0][0]] if read[0][0] >= 0 else ""
        return f"{path or '(model)'}, {read[0][1]}: reads a value, which fake tensors do not have"
    if other := differences(check_of(counted), check_of(replayed.run)):
        of_a_module = (line for line in other if not line.startswith("total: "))
        return f"the step is another one on fake tensors: {next(of_a_module, other[0])}"
    return ""


def _in_short(error: BaseException) -> str:
    """Its kind and first line, which are the same wherever the test runs."""
    first = (str(error).splitlines() or [""])[0]
    return _ADDRESS.sub("0x...", f"{type(error).__name__}: {first}".removesuffix(": "))
