"""A claim: one result that somebody published, what it says, and how exactly it says it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Literal, get_args

from .quantities import Unit

Relation = Literal["equal", "about", "at least", "range"]
Phase = Literal["", "forward", "backward", "training"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
PHASES: tuple[Phase, ...] = get_args(Phase)

Number = int | Fraction
Shape = tuple[int, ...]
Own = Number | Shape | None


@dataclass(frozen=True, slots=True)
class Range:
    """From `low` to `high`, both included. Raises ValueError where low > high."""

    low: Number
    high: Number

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"a range goes from low to high, got {self.low}..{self.high}")


Value = Number | Shape | Range | str


def whole(number: Number) -> Number:
    """The same number, as an int where it is one."""
    return number.numerator if number.denominator == 1 else number


def roundings(number: Number, precision: Number) -> set[Fraction]:
    """The number to the nearest multiple of the precision, half up and half to even: two answers for ties."""
    steps = Fraction(number) / precision
    return {floor(steps + Fraction(1, 2)) * Fraction(precision), round(steps) * Fraction(precision)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One row of the data.

    `value` is an exact number in `unit` (bytes for all memory), a shape, a range, or the name of a rule.
    `precision` is what one unit in the last printed place is worth, in `unit`: 100,000 for "56.6 M", 1 for
    an integer printed in full; None for shapes and rules. `parts` are the ids of the printed claims that this
    one adds up, or repeats. `cell` is the table column, from 1; `occurrence` counts where `printed` stands
    more than once on its line.
    """

    id: str
    line: int
    cell: int | None
    occurrence: int
    section: str
    layer: str
    phase: Phase
    quantity: str
    relation: Relation
    printed: str
    value: Value
    precision: Number | None
    unit: Unit
    parts: tuple[str, ...] = ()

    def is_exactly(self, figure: Own) -> bool:
        """Whether the claim holds without rounding anything: equal, not less, or inside, by its relation."""
        if isinstance(figure, int | Fraction):
            if isinstance(self.value, Range):
                return self.value.low <= figure <= self.value.high
            if isinstance(self.value, int | Fraction):
                return figure >= self.value if self.relation == "at least" else figure == self.value
        return figure is not None and figure == self.value

    def agrees(self, figure: Own) -> bool:
        """Whether the claim holds for that figure, rounded to the printed precision where it has one."""
        if self.precision is None or not isinstance(figure, int | Fraction):
            return self.is_exactly(figure)
        return self.is_exactly(figure) or any(self.is_exactly(rounded) for rounded in roundings(figure, self.precision))
