"""Claims of computing work, asked of a clock that is made up: what is read from which turns, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from torchtally.models.cnn import CNNConfig
from torchtally.profiler.audit.claim_row import ClaimRow
from torchtally.profiler.audit.seconds import TimingOf, seconds_rows, variants_of
from torchtally.profiler.audit.steps import RealSteps
from torchtally.profiler.audit.variants import Variant
from torchtally.profiler.audit.walkthrough import Audit, audit
from torchtally.profiler.seconds.timing import Place, Timing
from torchtally.theory.claims.reader import load_claims

STEP = Variant(config=CNNConfig(), batch_size=32)
SEPARABLE, MIXED, ENLARGED, WIDENED, CHECKPOINTED = variants_of(STEP)[1:]

# Nanoseconds of a step. Forward: convolutions 60, pools 30, the rest 10. Backward: 150, of which Conv3 80.
TURN: dict[Place, int] = {
    ("", "forward"): 2,
    ("block1.conv", "forward"): 10,
    ("block1.pool", "forward"): 30,
    ("block2.conv", "forward"): 10,
    ("block3.conv", "forward"): 40,
    ("gap", "forward"): 3,
    ("fc", "forward"): 5,
    ("block2.conv", "backward"): 60,
    ("block3.conv", "backward"): 80,
    ("fc", "backward"): 7,
    ("fc", "accumulation"): 3,
    ("", "loss"): 1000,
    ("", "python"): 1000,
}
SEPARATED: dict[Place, int] = {("block1.depthwise", "forward"): 3, ("block1.pointwise", "forward"): 4}


def turns(*observed: Mapping[Place, int], bare: tuple[int, ...] = (100, 100, 100)) -> Timing:
    return Timing(bare=bare, observed=observed or (TURN, TURN, TURN))


def made(**changed: Timing) -> dict[Variant, Timing]:
    """All steps as they are, but for those named."""
    found = {step: turns() for step in variants_of(STEP)}
    found[SEPARABLE] = turns(SEPARATED, SEPARATED, SEPARATED)
    names = {"plain": STEP, "separable": SEPARABLE, "mixed": MIXED, "enlarged": ENLARGED, "checkpointed": CHECKPOINTED}
    return {**found, **{names[name]: timing for name, timing in changed.items()}}


@cache
def judged() -> Audit:
    """The claims as the count has them: what the clock is asked of."""
    return audit()


def rows(timings: Mapping[Variant, Timing], foreseen: TimingOf | None = None) -> dict[tuple[int, str, str], ClaimRow]:
    found = seconds_rows(judged().claims, STEP, timings.__getitem__, foreseen)
    return {(entry.claim.line, entry.row.phase, entry.row.quantity): entry for entry in found}


# What is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((853, "forward", "seconds_share"), 100 * (10 + 10 + 40) / (60 + 30 + 10)),  # convolutions, of forward
        ((856, "forward", "seconds_share"), 100 * (30 + 3) / 100),  # pools and the global mean
        ((841, "forward", "seconds_share"), 100 * 100 / (100 + 150)),  # of both passes, neither loss nor gaps
        ((842, "backward", "seconds_share"), 100 * 150 / (100 + 150)),
        ((845, "backward", "backward_to_forward_seconds"), 150 / 100),
        ((682, "backward", "backward_to_forward_seconds"), 80 / 40),
        ((885, "forward", "depthwise_separable_seconds_reduction"), 60 / 7),
    ],
)
def test_figures(place: tuple[int, str, str], expected: float) -> None:
    assert rows(made())[place].row.measured == pytest.approx(expected)


def test_ratios_of_whole_steps_are_of_bare_ones() -> None:
    timings = made(enlarged=turns(bare=(410, 420, 430)), mixed=turns(bare=(50, 50, 50)))
    found = rows(timings)
    assert found[890, "", "resolution_doubled_seconds_ratio"].row.measured == pytest.approx(4.2)
    assert found[886, "", "half_precision_seconds_reduction"].row.measured == pytest.approx(2.0)


def test_steps_of_one_turn_belong_together() -> None:
    """Each turn's ratio is 4, though the machine was twice as slow in the last."""
    timings = made(plain=turns(bare=(100, 100, 200)), enlarged=turns(bare=(400, 400, 800)))
    row = rows(timings)[890, "", "resolution_doubled_seconds_ratio"].row
    assert (row.measured, row.verdict) == (4.0, "agrees")


# Verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("enlarged", "verdict", "wrong"),
    [
        ((400, 401, 399), "agrees", None),
        ((349, 350, 351), "within", None),  # 3.50x rounds to 4, and 3.49x, which is within the spread, to 3
        ((300, 301, 299), "contradicted", "claim"),
        ((400, 300, 500), "not measured", None),
    ],
)
def test_a_figure_holds_where_the_claim_admits_all_within_the_spread(
    enlarged: tuple[int, ...], verdict: str, wrong: str | None
) -> None:
    timings = made(enlarged=turns(bare=enlarged))
    row = rows(timings)[890, "", "resolution_doubled_seconds_ratio"].row
    assert (row.verdict, row.wrong) == (verdict, wrong)
    assert row.reason.startswith("of FLOPs: 4.000x; of seconds: ")
    assert "over 3 turns" in row.reason


@pytest.mark.parametrize(
    ("checkpointed", "verdict", "measured"),
    [
        ((130, 131, 129), "agrees", "holds"),
        ((80, 81, 79), "contradicted", "does not hold"),
        ((101, 100, 98), "not measured", "does not hold"),  # too near to 1 to tell
        ((200, 130, 300), "not measured", "holds"),  # too far apart
    ],
)
def test_a_rule(checkpointed: tuple[int, ...], verdict: str, measured: str) -> None:
    timings = made(checkpointed=turns(bare=checkpointed))
    row = rows(timings)[887, "", "rule_of_seconds"].row
    assert (row.verdict, row.measured) == (verdict, measured)
    assert row.reason.startswith("of memory: holds; of seconds: a step with each block recomputed takes ")


def test_dominance_is_of_forward_and_backward() -> None:
    """200 of 250 are convolutions'; with a pool of 1000 they are not half of all."""
    assert rows(made())[859, "", "rule_of_seconds"].row.verdict == "agrees"
    slow = {**TURN, ("block1.pool", "forward"): 1000}
    row = rows(made(plain=turns(slow, slow, slow)))[859, "", "rule_of_seconds"].row
    assert (row.verdict, row.wrong) == ("contradicted", "claim")
    others = 1000 + 3 + 5 + 2 + 7 + 3
    assert f"{200 / others:.3g}x" in row.reason


def test_bottlenecks_are_dearer_than_every_other_layer() -> None:
    """Conv2 takes 70; Block 1's pool 30, then 80."""
    assert rows(made())[876, "", "rule_of_seconds"].row.verdict == "agrees"
    slow = {**TURN, ("block1.pool", "backward"): 50}
    assert rows(made(plain=turns(slow, slow, slow)))[876, "", "rule_of_seconds"].row.verdict == "contradicted"


def test_what_calibration_foresees_stands_beside() -> None:
    foreseen = {step: turns(TURN, bare=(100,)) for step in variants_of(STEP)}
    foreseen |= {SEPARABLE: turns(SEPARATED, bare=(90,)), ENLARGED: turns(TURN, bare=(370,))}
    found = rows(made(), foreseen.__getitem__)
    assert found[890, "", "resolution_doubled_seconds_ratio"].row.theory == pytest.approx(3.7)
    assert found[859, "", "rule_of_seconds"].row.theory == "holds"
    assert rows(made())[859, "", "rule_of_seconds"].row.theory is None


# In the audit -----------------------------------------------------------------------------------------------------


def test_the_audit_asks_no_clock_unasked() -> None:
    assert judged().seconds == ()


def test_the_audit_asks_each_variant_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def timings(self: RealSteps, steps: Any, turns: int) -> dict[Variant, Timing]:
        asked.append(steps)
        return made()

    monkeypatch.setattr(RealSteps, "timings", timings)
    monkeypatch.setattr("torchtally.profiler.audit.walkthrough.known_machine", lambda device: None)
    found = audit(seconds=True)
    assert asked == [variants_of(STEP)]
    assert found.ok
    lines = {entry.claim.line for entry in found.seconds}
    assert lines == {682, 841, 842, 845, 853, 854, 855, 856, 857, 859, 875, 876, 880, 881, 885, 886, 887, 890, 891}
    assert found.rows[-len(found.seconds) :] == tuple(entry.row for entry in found.seconds)


def test_variants_are_timed_for_real() -> None:
    """Real steps, one turn: nothing is said of how long they take."""
    small = replace(STEP, batch_size=2)
    steps = RealSteps("cpu").timings(variants_of(small), 1)
    assert list(steps) == list(variants_of(small))
    assert all(len(timing.bare) == len(timing.observed) == 1 for timing in steps.values())
    places = set(steps[replace(small, config=SEPARABLE.config)].places)
    assert ("block2.pointwise", "forward") in places
    assert {claim.line for claim in load_claims()} >= {885}
