"""Scalars that remember how they were made: loops for layers whose gradients pass through one another.

A layer of several products (attention, a recurrent cell) is written as its textbook equations over scalars.
Each multiply-add of a product notes the triple (left, right, result) as it is done. Backward walks the notes
in reverse: a triple gives one multiply-add to the gradient of its left, if that needs one, and one to that of
its right. The standard library only, as `brute`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .brute import Grid, Index, Tally, indices


@dataclass(eq=False)
class Scalar:
    """A number, whether its gradient is wanted, and whether it is an element of a parameter."""

    value: float
    needs: bool = False
    learned: bool = False
    grad: float = 0.0


@dataclass
class Tape:
    """What was computed, in order, and its tallies: `input` of gradients that are not of parameters."""

    forward: Tally = field(default_factory=Tally)
    input: Tally = field(default_factory=Tally)
    weight: Tally = field(default_factory=Tally)
    notes: list[tuple[Scalar, list[tuple[Scalar, Scalar]], list[tuple[Scalar, float]]]] = field(default_factory=list)

    def dot(self, left: Sequence[Scalar], right: Sequence[Scalar]) -> Scalar:
        """The sum of products, one multiply-add each."""
        total = 0.0
        triples = []
        for a, b in zip(left, right, strict=True):
            total += a.value * b.value
            self.forward.products += 1
            triples.append((a, b))
        result = Scalar(total, needs=any(a.needs or b.needs for a, b in triples))
        self.notes.append((result, triples, []))
        return result

    def of(self, value: float, *slopes: tuple[Scalar, float]) -> Scalar:
        """A function of some scalars, given its value and its derivative by each. Not counted here."""
        result = Scalar(value, needs=any(operand.needs for operand, _ in slopes))
        self.notes.append((result, [], list(slopes)))
        return result

    def backward(self, outputs: Iterable[Scalar], upstream: Iterable[float]) -> None:
        for output, gradient in zip(outputs, upstream, strict=True):
            output.grad += gradient
        for result, triples, slopes in reversed(self.notes):
            if not result.needs:
                continue
            for operand, slope in slopes:
                operand.grad += slope * result.grad
            for a, b in triples:
                for one, other in ((a, b), (b, a)):
                    if one.needs:
                        one.grad += result.grad * other.value
                        (self.weight if one.learned else self.input).products += 1

    # --- functions of scalars, with their derivatives ---

    def add(self, *terms: Scalar) -> Scalar:
        return self.of(sum(term.value for term in terms), *((term, 1.0) for term in terms))

    def multiply(self, a: Scalar, b: Scalar) -> Scalar:
        return self.of(a.value * b.value, (a, b.value), (b, a.value))

    def scale(self, a: Scalar, factor: float) -> Scalar:
        return self.of(a.value * factor, (a, factor))

    def tanh(self, a: Scalar) -> Scalar:
        y = math.tanh(a.value)
        return self.of(y, (a, 1 - y * y))

    def relu(self, a: Scalar) -> Scalar:
        return self.of(max(a.value, 0.0), (a, float(a.value > 0)))

    def sigmoid(self, a: Scalar) -> Scalar:
        y = 1 / (1 + math.exp(-a.value))
        return self.of(y, (a, y * (1 - y)))

    def softmax(self, row: Sequence[Scalar]) -> list[Scalar]:
        highest = max(a.value for a in row)
        powers = [math.exp(a.value - highest) for a in row]
        ys = [power / sum(powers) for power in powers]
        return [self.of(y, *((a, y * ((i == j) - ys[j])) for j, a in enumerate(row))) for i, y in enumerate(ys)]


@dataclass
class Scalars:
    """A tensor of scalars."""

    shape: Index
    at: dict[Index, Scalar] = field(repr=False)

    @classmethod
    def of(cls, grid: Grid, *, needs: bool, learned: bool = False) -> Scalars:
        return cls(grid.shape, {index: Scalar(value, needs, learned) for index, value in grid.at.items()})

    def row(self, *lead: int) -> list[Scalar]:
        """The vector at those leading indices."""
        return [self.at[*lead, i] for i in range(self.shape[-1])]

    def flat(self) -> list[Scalar]:
        return [self.at[index] for index in indices(self.shape)]

    def values(self) -> Grid:
        return Grid(self.shape, {index: scalar.value for index, scalar in self.at.items()})

    def gradient(self) -> Grid:
        return Grid(self.shape, {index: scalar.grad for index, scalar in self.at.items()})
