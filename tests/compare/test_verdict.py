"""`judge`: who is believed, and who is blamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import pytest

from torchtally.profiler.verdict import NONE, Judgement, judge

FCM = "FlopCounterMode"
DEFECT = "it ignores groups"
Said = Mapping[Any, Any]


def within(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: low <= value <= high


# said, verdict, wrong, right
CASES: dict[str, tuple[Said, str, tuple[str, ...], Any]] = {
    "all four agree": ({"claim": 8, "theory": 8, "count": 8, "measured": 8}, "agrees", (), 8),
    "two are enough to agree": ({"theory": 8, "count": 8}, "agrees", (), 8),
    "two observers agree without paper": ({"count": 8, "measured": 8}, "agrees", (), 8),
    "a claim and one observer agree": ({"claim": 8, "count": 8}, "agrees", (), 8),
    "silence is no vote": ({"claim": None, "theory": 8, "count": 8, "measured": None}, "agrees", (), 8),
    "two observers outvote theory": ({"theory": 9, "count": 8, "measured": 8}, "contradicted", ("theory",), 8),
    "two observers outvote theory and claim": (
        {"claim": 9, "theory": 9, "count": 8, "measured": 8},
        "contradicted",
        ("claim", "theory"),
        8,
    ),
    "two observers outvote paper and a third": (
        {"claim": 9, "theory": 9, "count": 9, "measured": 8, FCM: 8},
        "contradicted",
        ("claim", "theory", "count"),
        8,
    ),
    "theory and one observer outvote the claim": ({"claim": 9, "theory": 8, "count": 8}, "contradicted", ("claim",), 8),
    "theory and one observer outvote the other": (
        {"theory": 8, "count": 8, "measured": 9},
        "contradicted",
        ("measured",),
        8,
    ),
    "theory and claim outvote one observer": ({"claim": 8, "theory": 8, "count": 9}, "contradicted", ("count",), 8),
    "claim and observer outvote theory": ({"claim": 8, "theory": 9, "count": 8}, "contradicted", ("theory",), 8),
    "theory and claim outvote two observers that differ": (
        {"claim": 8, "theory": 8, "count": 9, "measured": 7},
        "contradicted",
        ("count", "measured"),
        8,
    ),
    "one against one": ({"theory": 9, "count": 8}, "unexplained", (), None),
    "claim against one observer": ({"claim": 9, "count": 8}, "unexplained", (), None),
    "claim against theory": ({"claim": 9, "theory": 8}, "unexplained", (), None),
    "two against two, an observer in each": (
        {"claim": 9, "theory": 8, "count": 9, "measured": 8},
        "unexplained",
        (),
        None,
    ),
    "three for themselves": ({"claim": 7, "theory": 8, "count": 9}, "unexplained", (), None),
    "four for themselves": ({"claim": 6, "theory": 7, "count": 8, "measured": 9}, "unexplained", (), None),
    "one witness": ({"count": 8}, "not measured", (), None),
    "one witness among the silent": ({"claim": None, "theory": None, "count": 8}, "not measured", (), None),
    "a claim alone": ({"claim": 8}, "not measured", (), None),
    "nobody": ({}, "not measured", (), None),
    "nobody says anything": ({"theory": None, "count": None}, "not measured", (), None),
    "zero is a figure": ({"theory": 0, "count": 0}, "agrees", (), 0),
    "zero against something": ({"theory": 0, "count": 1, "measured": 1}, "contradicted", ("theory",), 1),
    "none is a statement": ({"theory": 8, "count": NONE, "measured": NONE}, "contradicted", ("theory",), NONE),
    "shapes agree": ({"theory": (2, 3), "count": (2, 3)}, "agrees", (), (2, 3)),
    "shapes in another order differ": (
        {"theory": (3, 2), "count": (2, 3), "measured": (2, 3)},
        "contradicted",
        ("theory",),
        (2, 3),
    ),
    "a shape with a dimension more differs": ({"theory": (2, 3, 1, 1), "count": (2, 3)}, "unexplained", (), None),
    "a scalar's shape is a shape": ({"theory": (), "count": (), "measured": (1,)}, "contradicted", ("measured",), ()),
    "fractions agree": ({"theory": Fraction(2, 6), "count": Fraction(1, 3)}, "agrees", (), Fraction(1, 3)),
    "a whole fraction is its integer": ({"theory": Fraction(8), "count": 8}, "agrees", (), 8),
    "fractions are exact": (
        {"claim": Fraction(1, 3), "theory": Fraction(1, 3), "count": Fraction(333_333, 1_000_000)},
        "contradicted",
        ("count",),
        Fraction(1, 3),
    ),
    "FlopCounterMode is an observer": ({"theory": 9, "count": 8, FCM: 8}, "contradicted", ("theory",), 8),
    "FlopCounterMode can err": ({"theory": 8, "count": 8, FCM: 9}, "contradicted", (FCM,), 8),
}


@pytest.mark.parametrize("said, verdict, wrong, right", CASES.values(), ids=CASES)
def test_judge(said: Said, verdict: str, wrong: tuple[str, ...], right: Any) -> None:
    found = judge(said)
    assert (found.verdict, found.wrong, found.right) == (verdict, wrong, right)


# A claim stands for every value that its printed precision admits.
PRECISION: dict[str, tuple[Said, Callable[[Any], bool], str, tuple[str, ...]]] = {
    "admits the exact value": ({"claim": "56.6 M", "theory": 566, "count": 566}, within(565, 567), "agrees", ()),
    "admits the only observer's": ({"claim": "56.6 M", "count": 566}, within(565, 567), "agrees", ()),
    "does not admit it": (
        {"claim": "56.6 M", "theory": 570, "count": 570},
        within(565, 567),
        "contradicted",
        ("claim",),
    ),
    "sides with one of two values": (
        {"claim": "56.6 M", "theory": 566, "count": 570},
        within(565, 567),
        "contradicted",
        ("count",),
    ),
    "admits both, and decides nothing": (
        {"claim": "about 50", "theory": 49, "count": 51},
        within(45, 55),
        "unexplained",
        (),
    ),
    "admits both, and errs with neither": (
        {"claim": "about 50", "theory": 49, "count": 51, "measured": 51},
        within(45, 55),
        "contradicted",
        ("theory",),
    ),
    "admits neither": ({"claim": "about 50", "theory": 39, "count": 41}, within(45, 55), "unexplained", ()),
    "alone is no observer": ({"claim": "about 50", "theory": 49}, within(45, 55), "agrees", ()),
}


@pytest.mark.parametrize("said, holds, verdict, wrong", PRECISION.values(), ids=PRECISION)
def test_a_claim_as_printed(said: Said, holds: Callable[[Any], bool], verdict: str, wrong: tuple[str, ...]) -> None:
    found = judge(said, claim_holds=holds)
    assert (found.verdict, found.wrong) == (verdict, wrong)


DEFECTS: dict[str, tuple[Said, str, tuple[str, ...], Any]] = {
    "excused where the others agree": ({"theory": 8, "count": 8, FCM: 9}, "contradicted", (FCM,), 8),
    "no excuse for theory against count": ({"theory": 8, "count": 7, FCM: 9}, "unexplained", (), None),
    "no vote for a count with the same defect": ({"theory": 8, "count": 9, FCM: 9}, "unexplained", (), None),
    "no vote beside theory alone": ({"theory": 8, FCM: 9}, "not measured", (), None),
    "no vote where others find a culprit": (
        {"claim": 8, "theory": 8, "count": 9, FCM: 9},
        "contradicted",
        ("count",),
        8,
    ),
    "repaired": ({"theory": 8, "count": 8, FCM: 8}, "agrees", (), 8),
    "not asked": ({"theory": 8, "count": 8}, "agrees", (), 8),
}


@pytest.mark.parametrize("said, verdict, wrong, right", DEFECTS.values(), ids=DEFECTS)
def test_a_known_defect(said: Said, verdict: str, wrong: tuple[str, ...], right: Any) -> None:
    found = judge(said, known_defect=DEFECT)
    assert (found.verdict, found.wrong, found.right) == (verdict, wrong, right)
    assert (found.reason == DEFECT) is (found.wrong == (FCM,))


def test_a_defect_that_nobody_listed_is_no_reason() -> None:
    assert judge({"theory": 8, "count": 8, FCM: 9}).reason == f"theory and count find 8, against {FCM} 9"


def test_reasons_name_the_witnesses_and_their_figures() -> None:
    assert judge({"claim": 7, "theory": 9, "count": 8, "measured": 8}).reason == (
        "count and measured find 8, against claim 7, theory 9"
    )
    assert judge({"theory": 9, "count": 8}).reason == "no two witnesses agree against the rest: theory 9, count 8"
    assert judge({"count": 8}).reason == "stated by count alone"
    assert judge({}).reason == "stated by no witness alone"
    assert judge({"theory": 8, "count": 8}).reason == ""


def test_nobody_agrees_alone() -> None:
    """Over all ways in which five witnesses can be silent or say 1 or 2."""
    for said in _everything_said():
        heard = [value for value in said.values() if value is not None]
        found = judge(said)
        assert (found.verdict == "agrees") is (len(heard) >= 2 and len(set(heard)) == 1)
        assert (found.verdict == "not measured") is (len(heard) < 2)
        assert not found.wrong or found.verdict == "contradicted"


def test_blame_needs_two_that_agree() -> None:
    """All who said otherwise are blamed, and nobody else; at least two uphold the right value."""
    for said in _everything_said():
        found = judge(said)
        if found.verdict == "contradicted":
            upholders = {witness for witness, value in said.items() if value == found.right}
            blamed = {witness for witness, value in said.items() if value not in (None, found.right)}
            assert set(found.wrong) == blamed
            assert len(upholders) >= 2


def test_the_order_of_witnesses_does_not_matter() -> None:
    for said in _everything_said():
        backwards = dict(reversed(list(said.items())))
        one, other = judge(said), judge(backwards)
        assert (one.verdict, set(one.wrong), one.right) == (other.verdict, set(other.wrong), other.right)


def _everything_said() -> list[dict[Any, int | None]]:
    found: list[dict[Any, int | None]] = [{}]
    for witness in ("claim", "theory", "count", "measured", FCM):
        found = [{**said, witness: value} for said in found for value in (None, 1, 2)]
    return found


def test_a_judgement_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Judgement(verdict="agrees").verdict = "contradicted"  # type: ignore[misc]
