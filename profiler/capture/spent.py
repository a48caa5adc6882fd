"""How the time of a step is written down, and to whom it is given."""

from __future__ import annotations

from typing import TypeAlias

from ...theory.phase import Gap, Phase
from .contexts import Context
from .entries import Span

Spent: TypeAlias = dict[tuple[str, Phase | Gap], int]
"""Nanoseconds of one step by module path and phase, or by gap (path ""). They add up to the step."""

Operators: TypeAlias = dict[tuple[str, Phase, str], list[int]]
"""The same, but for gaps, apart by operator as the dispatcher sees it (`aten.relu`, no overload), each call apart and
in order; "" has the time in none, in one figure."""

_SUMS = ("aten::add", "aten::add_")


def whose(context: Context) -> tuple[str, Phase]:
    """The module and phase. Gradients that meet are added beside a node, not in it: that is autograd's, as in
    counting."""
    operator = context.operator
    if operator is not None and operator.name in _SUMS and operator.outer is context.node is not None:
        return context.path, "accumulation"
    return context.path, context.phase


def operator_name(operator: Span | None) -> str:
    """As the dispatcher sees it."""
    return "" if operator is None else operator.name.replace("::", ".", 1)


def add(spent: Spent, place: tuple[str, Phase | Gap], nanoseconds: int) -> None:
    """To what was spent there before; a place where no time was spent is none."""
    if nanoseconds:
        spent[place] = spent.get(place, 0) + nanoseconds
