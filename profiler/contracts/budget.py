"""Budgets: "2 GFLOP", "1 M", "64 MiB", read strictly, and a cost held against them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from ..amounts import BYTES, DECIMAL, FLOPS, amount
from ..errors import UsageError
from ..ledger import Row
from ..run import Run

if TYPE_CHECKING:
    from .peak import FrameworkPeak


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that something may cost, as it was written and as a number."""

    name: str
    text: str
    most: Fraction


def bounds(budget: Mapping[str, object]) -> tuple[Bound, ...]:
    """`{"flops": "2 GFLOP", "parameters": "1 M"}` read. Raises UsageError for a key, unit or number that is none."""
    for name in budget:
        if name not in KINDS:
            raise UsageError(f"a budget has no {name!r}; there are {', '.join(KINDS)}")
    return tuple(Bound(name, str(given), _most(name, given)) for name, given in budget.items())


def _most(name: str, given: object) -> Fraction:
    return amount(name, given, KINDS[name].units, KINDS[name].example)


@dataclass(frozen=True, slots=True)
class Costs:
    """A run, and the framework's peak where it was asked for."""

    run: Run
    peak: FrameworkPeak | None = None


def excesses(costs: Costs, budget: Iterable[Bound]) -> list[str]:
    """What is over its bound, or cannot be shown to be within it, in words; nothing where all is well."""
    return [found for bound in budget if (found := _excess(costs, bound))]


def _excess(costs: Costs, bound: Bound) -> str:
    kind = KINDS[bound.name]
    cost, unknown = kind.cost(costs), kind.unknown(costs)
    if cost is None:
        return f"{bound.name}: the budget is {bound.text}, and this run does not say what it costs{unknown}"
    if cost > bound.most:
        over = f" ({float(cost / bound.most - 1):+.1%})" if bound.most else ""
        least = "at least " if unknown else ""
        return f"{bound.name}: {least}{cost:,} is over the budget of {bound.text}{over}"
    if unknown:
        return f"{bound.name}: {cost:,} is within the budget of {bound.text}, but a lower bound{unknown}"
    return ""


# What can be bounded --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """`cost` is what is bounded; `unknown` says why it is less than all, or nothing."""

    units: Mapping[str, int]
    example: str
    cost: Callable[[Costs], int | None]
    unknown: Callable[[Costs], str]


def _total(*names: str) -> Callable[[Costs], int | None]:
    """The sum of those that there are: a phase that did not happen cost nothing."""

    def cost(costs: Costs) -> int | None:
        found = [costs.run.totals[name] for name in names if name in costs.run.totals]
        return sum(found) if found else None

    return cost


def _unpriced(*phases: str) -> Callable[[Costs], str]:
    def unknown(costs: Costs) -> str:
        names = sorted({name for row in _rows(costs.run, phases) for name in row.unpriced})
        return f": no price for {', '.join(names)}" if names else ""

    return unknown


def _rows(run: Run, phases: tuple[str, ...]) -> Iterable[Row]:
    return (row for row in run.ledger.rows if row.phase in phases)


def _unseen(costs: Costs) -> str:
    paths = [path or "(model)" for path, phase in costs.run.trace.saved_unknown if phase == "forward"]
    return f": not all that {', '.join(paths[:3])} saved could be seen" if paths else ""


def _peak(costs: Costs) -> int | None:
    return None if costs.peak is None else costs.peak.bytes


def _why_no_peak(costs: Costs) -> str:
    return f": {costs.peak.unknown}" if costs.peak is not None and costs.peak.unknown else ""


def _nothing(costs: Costs) -> str:
    return ""


def _flop_kind(*phases: str) -> Kind:
    return Kind(FLOPS, "2 GFLOP", _total(*(f"{phase}_flops" for phase in phases)), _unpriced(*phases))


KINDS: Mapping[str, Kind] = {
    "flops": _flop_kind("forward", "backward"),
    "forward_flops": _flop_kind("forward"),
    "backward_flops": _flop_kind("backward"),
    "parameters": Kind(DECIMAL, "1 M", _total("parameters"), _nothing),
    "saved": Kind(BYTES, "64 MiB", _total("saved_bytes"), _unseen),
    "peak": Kind(BYTES, "64 MiB", _peak, _why_no_peak),
}
"""`flops` is forward and backward of the model; `saved` what autograd keeps for backward; `peak` the most that is live
at once, without workspaces."""
