"""One quantity, several witnesses: do they tally, and if not, who errs?

Blame needs two independent witnesses that agree against the rest. Observers of the run (count, measured,
FlopCounterMode) go before paper (claim, theory): two observers that agree say what the run did, whatever was expected
of it. With one observer alone, theory and claim together can outvote it. Anything less is unexplained, unless the
disagreement is a listed defect of a witness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, TypeAlias

Value: TypeAlias = int | Fraction | float | bool | str | tuple[int, ...]
Witness = Literal["claim", "theory", "count", "measured", "FlopCounterMode"]
Verdict = Literal["agrees", "within", "contradicted", "unexplained", "not measured"]

NONE = "none"
"""What a witness says that should have a figure and has none: a gradient not computed, a row that is not there."""

OBSERVERS: tuple[Witness, ...] = ("count", "measured", "FlopCounterMode")


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A verdict; for `contradicted` also who errs, the right value, and why."""

    verdict: Verdict
    wrong: tuple[Witness, ...] = ()
    right: Value | None = None
    reason: str = ""


Holds = Callable[[Any], bool]


def judge(
    said: Mapping[Witness, Value | None],
    *,
    claim_holds: Holds | None = None,
    known_defect: str | None = None,
) -> Judgement:
    """Judge what witnesses said of one quantity; None means that a witness is silent.

    `claim_holds` tells whether a claim, as printed, admits a value (its precision, its relation); without it a claim
    must be equal. `known_defect` is the reason why FlopCounterMode is known to err here, if it is; then it has no vote.
    """
    heard = {witness: value for witness, value in said.items() if value is not None}
    if known_defect and "FlopCounterMode" in heard:
        return _without_defect(heard, claim_holds, known_defect)
    if len(heard) < 2:
        only = next(iter(heard), "no witness")
        return Judgement(verdict="not measured", reason=f"stated by {only} alone")
    camps = _camps(heard, claim_holds)
    right = _settled(camps)
    if right is None:
        return Judgement(verdict="unexplained", reason=_disagreement(heard))
    wrong = tuple(witness for witness in heard if witness not in camps[right])
    if not wrong:
        return Judgement(verdict="agrees", right=right)
    return Judgement(verdict="contradicted", wrong=wrong, right=right, reason=_blame(heard, camps[right], right))


def _without_defect(heard: Mapping[Witness, Value], claim_holds: Holds | None, defect: str) -> Judgement:
    """What the others say. If they agree on another value than FlopCounterMode's, the defect explains its error."""
    others: dict[Witness, Value | None] = {
        witness: value for witness, value in heard.items() if witness != "FlopCounterMode"
    }
    judgement = judge(others, claim_holds=claim_holds)
    if judgement.verdict != "agrees" or judgement.right == heard["FlopCounterMode"]:
        return judgement
    return replace(judgement, verdict="contradicted", wrong=("FlopCounterMode",), reason=defect)


def _camps(heard: Mapping[Witness, Value], claim_holds: Holds | None) -> dict[Value, tuple[Witness, ...]]:
    """Value -> the witnesses that stand for it. A claim stands for every value that it admits."""
    exact = {witness: value for witness, value in heard.items() if witness != "claim"}
    camps: dict[Value, list[Witness]] = {}
    for witness, value in exact.items():
        camps.setdefault(value, []).append(witness)
    if "claim" in heard:
        holds = claim_holds or (lambda value: value == heard["claim"])
        for value, camp in camps.items():
            if holds(value):
                camp.append("claim")
    return {value: tuple(camp) for value, camp in camps.items()}


def _settled(camps: Mapping[Value, tuple[Witness, ...]]) -> Value | None:
    """The value that at least two witnesses uphold against the rest, or None."""
    for voters in (OBSERVERS, None):
        strength = {
            value: sum(voters is None or witness in voters for witness in camp) for value, camp in camps.items()
        }
        best = max(strength.values())
        leaders = [value for value, votes in strength.items() if votes == best]
        if best >= 2 and len(leaders) == 1:
            return leaders[0]
    return None


def _disagreement(heard: Mapping[Witness, Value]) -> str:
    return "no two witnesses agree against the rest: " + ", ".join(
        f"{witness} {value}" for witness, value in heard.items()
    )


def _blame(heard: Mapping[Witness, Value], camp: tuple[Witness, ...], right: Value) -> str:
    others = ", ".join(f"{witness} {value}" for witness, value in heard.items() if witness not in camp)
    return f"{' and '.join(camp)} find {right}, against {others}"
