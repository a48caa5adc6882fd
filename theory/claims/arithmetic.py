"""Does a claim follow from the document's own rules? Exact arithmetic, no floats.

- `exact`: it is the figure; for "at least" and ranges, the figure satisfies it.
- `rounded`: the figure, rounded half up or half to even in the last printed place, is what is printed.
  "About" is no wider than that: "about 300 M" has one significant digit, and its printed precision says so.
- `drift`: not so, but it is the sum, to its printed precision, of its printed parts, none of which is wrong:
  their rounding explains it. A single part is a figure repeated, perhaps in more digits than it had.
- `wrong`: neither. What adds up a wrong part is wrong as well, and says which.
- A rule has no figure to follow: it is `exact` where the document keeps to it, and `wrong` where it is at odds with
  what the document says elsewhere (see `reasons.RULES_AT_ODDS`, argued by hand).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Literal

from .reasons import REASONS, RULES_AT_ODDS
from .records import Claim, Number, Own, Range, roundings
from .rules import by_own_rules

Result = Literal["exact", "rounded", "drift", "wrong"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic:
    """How a claim follows from the document's rules, the right figure, in the claim's unit, and why."""

    result: Result
    right: Own
    reason: str


def arithmetic(
    claim: Claim,
    own_value: Own,
    claims_by_id: Mapping[str, Claim],
    own_values: Callable[[Claim], Own] = by_own_rules,
) -> Arithmetic:
    """Judges a claim against the figure that the document's own rules give.

    `own_values` gives the same for its parts. Raises KeyError where a part is not in `claims_by_id`.
    """
    if own_value is None:
        odds = RULES_AT_ODDS.get(str(claim.value), "")
        return Arithmetic(result="wrong" if odds else "exact", right=None, reason=odds)
    parts = tuple(claims_by_id[part] for part in claim.parts) if _sums_up(claim, claims_by_id) else ()
    wrong = tuple(part for part in parts if _is_wrong(part, claims_by_id, own_values))
    result = _result(claim, own_value, drifts=bool(parts) and not wrong)
    reason = {
        "exact": "",
        "rounded": "rounded",
        "drift": _added(parts),
        "wrong": f"{_added(wrong)}, which is wrong" if wrong else "",
    }[result]
    said = (in_words(own_value, claim.unit), reason, REASONS.get(claim.id, ""))
    return Arithmetic(result=result, right=own_value, reason="; ".join(part for part in said if part))


def _result(claim: Claim, own_value: Own, *, drifts: bool) -> Result:
    if claim.is_exactly(own_value):
        return "exact"
    if claim.agrees(own_value):
        return "rounded"
    return "drift" if drifts else "wrong"


def arithmetic_of(claims: Iterable[Claim]) -> dict[str, Arithmetic]:
    """Every claim's arithmetic by the walkthrough's own rules, by id and in order."""
    by_id = {claim.id: claim for claim in claims}
    return {claim.id: arithmetic(claim, by_own_rules(claim), by_id) for claim in by_id.values()}


def _is_wrong(claim: Claim, claims_by_id: Mapping[str, Claim], own_values: Callable[[Claim], Own]) -> bool:
    return arithmetic(claim, own_values(claim), claims_by_id, own_values).result == "wrong"


def _sums_up(claim: Claim, claims_by_id: Mapping[str, Claim]) -> bool:
    """Whether the claim is the sum of its printed parts, to its own precision; False without parts."""
    parts = [claims_by_id[part].value for part in claim.parts]
    values = [value for value in parts if isinstance(value, int | Fraction)]
    if not values or claim.precision is None:
        return False
    return claim.value in roundings(sum(values, start=Fraction(0)), claim.precision)


def _added(parts: Sequence[Claim]) -> str:
    """Which printed figures a claim adds up, or takes over: at most four, else how many; "" for none."""
    printed = [f"{part.printed.lstrip('≈ ')} of line {part.line}" for part in parts]
    if len(printed) < 2:
        return "".join(f"takes over {part}" for part in printed)
    if len(printed) > 4:
        return f"adds up {len(printed)} printed figures"
    return f"adds up {', '.join(printed[:-1])} and {printed[-1]}"


def in_words(figure: Own | Range, unit: str) -> str:
    """A figure with its unit: 23,872,768 bytes (22.77 MiB), 3.787x, 98.07 %, (128, 10)."""
    if not isinstance(figure, int | Fraction):
        return f"{figure.low} to {figure.high}" if isinstance(figure, Range) else str(figure)
    suffix = {"ratio": "x", "percent": " %"}.get(unit, f" {unit}")
    larger = f" ({_digits(Fraction(figure, 1024**2))} MiB)" if unit == "bytes" and figure >= 1024**2 else ""
    return f"{_digits(figure)}{suffix}{larger}"


def _digits(number: Number) -> str:
    """An integer in full; anything else to four significant digits."""
    if isinstance(number, int):
        return f"{number:,}"
    with localcontext(prec=4):
        return f"{+(Decimal(number.numerator) / Decimal(number.denominator)):,f}"
