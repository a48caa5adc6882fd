"""Budgets: "2 GFLOP", "1 M", "64 MiB", read strictly, and a cost held against them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..amounts import BYTES, DECIMAL, FLOPS, amount
from ..errors import UsageError
from ..ledger import Row
from ..run import Run


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


def excesses(run: Run, budget: Iterable[Bound]) -> list[str]:
    """What is over its bound, or cannot be shown to be within it, in words; nothing where all is well."""
    return [found for bound in budget if (found := _excess(run, bound))]


def _excess(run: Run, bound: Bound) -> str:
    kind = KINDS[bound.name]
    cost, unknown = kind.cost(run), kind.unknown(run)
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
    """`cost` of a run; `unknown` says why it is less than all, or nothing."""

    units: Mapping[str, int]
    example: str
    cost: Callable[[Run], int | None]
    unknown: Callable[[Run], str]


def _total(*names: str) -> Callable[[Run], int | None]:
    """The sum of those that there are: a phase that did not happen cost nothing."""

    def cost(run: Run) -> int | None:
        found = [run.totals[name] for name in names if name in run.totals]
        return sum(found) if found else None

    return cost


def _unpriced(*phases: str) -> Callable[[Run], str]:
    def unknown(run: Run) -> str:
        names = sorted({name for row in _rows(run, phases) for name in row.unpriced})
        return f": no price for {', '.join(names)}" if names else ""

    return unknown


def _rows(run: Run, phases: tuple[str, ...]) -> Iterable[Row]:
    return (row for row in run.ledger.rows if row.phase in phases)


def _unseen(run: Run) -> str:
    paths = [path or "(model)" for path, phase in run.trace.saved_unknown if phase == "forward"]
    return f": not all that {', '.join(paths[:3])} saved could be seen" if paths else ""


def _nothing(run: Run) -> str:
    return ""


def _flop_kind(*phases: str) -> Kind:
    return Kind(FLOPS, "2 GFLOP", _total(*(f"{phase}_flops" for phase in phases)), _unpriced(*phases))


KINDS: Mapping[str, Kind] = {
    "flops": _flop_kind("forward", "backward"),
    "forward_flops": _flop_kind("forward"),
    "backward_flops": _flop_kind("backward"),
    "parameters": Kind(DECIMAL, "1 M", _total("parameters"), _nothing),
    "saved": Kind(BYTES, "64 MiB", _total("saved_bytes"), _unseen),
}
"""`flops` is forward and backward of the model; `saved` what autograd keeps for backward."""
