"""Accounts for every number of a document: in exactly one claim, or in something that is no claim."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from math import prod

from torchtally.theory.claims.records import Claim

from .document import cells, is_row, lines

# Every run of digits is in exactly one number; separators and decimals belong to it: 1,048,576 and 0.25.
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class NoClaim:
    """Numbers that claim nothing: what a pattern matches, on some lines or (None) on any."""

    reason: str
    pattern: str = r".+"
    where: Collection[int] | None = None

    def spans(self, number: int, line: str) -> Iterator[range]:
        if self.where is None or number in self.where:
            for match in re.finditer(self.pattern, line):
                yield range(*match.span())


def places(printed: str, line: str) -> list[int]:
    """Where a figure stands on a line as a whole, and not within a longer number or word."""
    before = r"(?<![\w.,])" if re.match(r"\w", printed) else ""
    after = r"(?!\w|[.,]\d)" if re.search(r"\w$", printed) else ""
    return [match.start() for match in re.finditer(before + re.escape(printed) + after, line)]


def place(claim: Claim, line: str) -> range | None:
    """The characters of a claim on its line, in its cell; None where it is not there."""
    found = places(claim.printed, line)
    if claim.occurrence > len(found):
        return None
    start = found[claim.occurrence - 1]
    span = range(start, start + len(claim.printed))
    if claim.cell is None:
        return None if is_row(line) else span
    row = cells(line) if is_row(line) else []
    inside = claim.cell <= len(row) and range(*row[claim.cell - 1])
    return span if inside and span[0] in inside and span[-1] in inside else None


def account(text: str, claims: Iterable[Claim], no_claims: Sequence[NoClaim]) -> list[str]:
    """What does not add up, in words: claims not found, and numbers in nothing, or in too much."""
    document = lines(text)
    of_line: dict[int, list[Claim]] = {number: [] for number in document}
    for claim in claims:
        of_line.setdefault(claim.line, []).append(claim)
    return [
        problem
        for number, those in of_line.items()
        for problem in account_line(number, document.get(number, ""), those, no_claims)
    ]


def account_line(number: int, line: str, claims: Iterable[Claim], no_claims: Iterable[NoClaim]) -> Iterator[str]:
    """The same for the claims of one line. A number may be in one claim, or in things that are none."""
    claimed = {claim.id: place(claim, line) for claim in claims}
    for name, span in claimed.items():
        if span is None:
            yield f"line {number}: {name} is not printed there"
    excused = [(each.reason, span) for each in no_claims for span in each.spans(number, line)]
    for match in NUMBER.finditer(line):
        owners = [name for name, span in claimed.items() if span and _holds(span, match)]
        reasons = [reason for reason, span in excused if _holds(span, match)]
        if len(owners) + bool(reasons) != 1:
            owned = " and ".join(owners + reasons) or "nothing"
            yield f"line {number}: {match[0]} at column {match.start() + 1} belongs to {owned}"


def _holds(span: range, match: re.Match[str]) -> bool:
    return match.start() in span and match.end() - 1 in span


def digest(text: str) -> str:
    """A fingerprint of all numbers of a document and the lines they stand on."""
    numbers = [f"{number}:{match[0]}" for number, line in lines(text).items() for match in NUMBER.finditer(line)]
    return sha256(" ".join(numbers).encode()).hexdigest()


_SIDE = r"(?:\d+(?:,\d{3})*|[×+() ])+"


def equations(line: str) -> Iterator[tuple[int, int]]:
    """Both sides of each equation on a line between sums of products of integers, evaluated."""
    sides = line.split("=")
    for left, right in pairwise(sides):
        ends = re.search(rf"(?<![\w.,^/]){_SIDE}$", left), re.match(_SIDE, right)
        values = [_evaluated(end[0]) for end in ends if end]
        if len(values) == 2 and values[0] is not None and values[1] is not None:
            yield values[0], values[1]


def _evaluated(expression: str) -> int | None:
    """A sum of products; parentheses group products only, so they can be left out. None for anything else."""
    if expression.count("(") != expression.count(")") or expression.strip().startswith(("×", "+")):
        return None
    terms = [re.findall(r"[\d,]+", term) for term in expression.split("+")]
    return sum(prod(int(each.replace(",", "")) for each in term) for term in terms) if all(terms) else None
