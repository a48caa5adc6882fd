"""The walkthrough's every figure, and every layer of the network, held against theory and a real run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from ...models.cnn import CNNConfig
from ...theory.claims.arithmetic import Arithmetic, arithmetic_of, in_words
from ...theory.claims.reader import load_claims
from ...theory.claims.records import Claim
from ...theory.cnn import cnn
from ...theory.network import Network
from ...theory.prediction import Prediction
from ...theory.tensor import TensorSpec
from ..compare import (
    CONVENTION,
    ComparisonRow,
    compare_statements,
    from_dispatcher,
    from_ledger,
    from_prediction,
    from_storages,
    is_failure,
)
from ..environment import environment
from ..errors import UsageError
from ..machine import known_machine
from ..memory import Memory
from ..verdict import OBSERVERS, Judgement, Value, Witness, judge
from .claim_row import ClaimRow
from .in_run import RunWitness
from .memory import ON_STREAMS, MemoryWitness, in_theory
from .on_paper import by_theory
from .reasons import why_the_run_differs
from .rules import CHECKS, Finding
from .runs import Observed, observe
from .seconds import TURNS, seconds_rows, variants_of
from .step_rules import ON_STEPS
from .steps import RealSteps
from .variants import Variant
from .wanting import what_it_would_take

WALKTHROUGH = CNNConfig()
WALKTHROUGH_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Everything the audit found. `claims` is empty for other settings than the walkthrough's.

    `memory` is of a training step with plain SGD, as the allocator has it; `foreseen` is the same step in closed form,
    the framework's part alone. `seconds` has the claims of computing work as a clock answers them, where it was asked.
    """

    environment: Mapping[str, Any]
    observed: Observed
    claims: tuple[ClaimRow, ...]
    layers: tuple[ComparisonRow, ...]
    memory: Memory
    foreseen: Memory
    seconds: tuple[ClaimRow, ...] = ()

    @property
    def rows(self) -> tuple[ComparisonRow, ...]:
        """All rows: the layers', then the claims', then those of seconds."""
        return (*self.layers, *(entry.row for entry in (*self.claims, *self.seconds)))

    @property
    def ok(self) -> bool:
        """False where a row is unexplained, or contradicted by a culprit other than a claim or a known defect."""
        return not self.failures

    @cached_property
    def failures(self) -> tuple[ComparisonRow, ...]:
        """The rows for which the audit fails."""
        return tuple(row for row in self.rows if is_failure(row))

    def summary(self) -> dict[str, int]:
        """Verdict -> number of rows, layers and claims together."""
        return dict(Counter(row.verdict for row in self.rows))

    def to_html(self, path: str | Path) -> None:
        """One file that opens in a browser, offline: the claims with their verdicts, theory against run, memory
        over the step with its closed form laid over it, the ledger.

        Raises UsageError where it cannot be written; the old file is then untouched.
        """
        from ..report.files import check_writable, write_atomically
        from ..report.html.contents import audit_html

        check_writable(Path(path))
        write_atomically(Path(path), audit_html(self))


def audit(
    *,
    device: str = "cpu",
    batch_size: int = WALKTHROUGH_BATCH,
    resolution: tuple[int, int] = (32, 32),
    seconds: bool = False,
) -> Audit:
    """Run the CNN on that device and judge it. With the walkthrough's N = 32 and 32 x 32, its claims are judged too;
    with `seconds` those of computing work also by the clock, in steps of the CNN and its variants that take turns.

    Raises ValueError for settings that make no network (see `CNNConfig`), and for a batch of no images.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    config = CNNConfig(resolution=resolution)
    observed = observe(config, batch_size, device)
    network = network_of(config)
    images = TensorSpec((batch_size, config.in_channels, *resolution))
    prediction = network.predict(images)
    layers = tuple(layer_rows(observed, network, prediction))
    applies = (config, batch_size) == (WALKTHROUGH, WALKTHROUGH_BATCH)
    step = Variant(config=config, batch_size=batch_size)
    claims = tuple(claim_rows(load_claims(), observed, prediction, device, layers)) if applies else ()
    return Audit(
        environment=environment(device),
        observed=observed,
        layers=layers,
        claims=claims,
        memory=observed.steps.memory(step),
        foreseen=Memory(stream=in_theory(step), device=device),
        seconds=tuple(_by_the_clock(claims, observed.steps, step, device)) if seconds else (),
    )


def _by_the_clock(claims: Iterable[ClaimRow], steps: RealSteps, step: Variant, device: str) -> Iterable[ClaimRow]:
    """With what calibration foresees, where this machine was calibrated."""
    timings = steps.timings(variants_of(step), TURNS)
    known = known_machine(device.partition(":")[0])
    foreseen = None if known is None else cache(partial(steps.foreseen, machine=known))
    return seconds_rows(claims, step, timings.__getitem__, foreseen)


def network_of(config: CNNConfig) -> Network:
    """The closed forms of that CNN. Checkpointing changes what is kept and done again, and no layer's own cost."""
    return cnn(
        in_channels=config.in_channels,
        channels=config.channels,
        classes=config.classes,
        kernel_size=config.kernel_size,
        convolution=config.convolution,
        in_place=config.in_place,
    )


def layer_rows(observed: Observed, network: Network, prediction: Prediction) -> Iterable[ComparisonRow]:
    """Closed form, count, allocator and FlopCounterMode, for every quantity of every layer."""
    return compare_statements(
        theory=from_prediction(prediction),
        count=from_ledger(observed.ledger),
        measured=from_storages(observed.storages),
        dispatcher=from_dispatcher(observed.dispatcher, observed.leaves),
        layers={named.path: named.layer for named in network},
    )


def claim_rows(
    claims: Iterable[Claim],
    observed: Observed,
    prediction: Prediction,
    device: str,
    layers: Iterable[ComparisonRow] = (),
) -> Iterable[ClaimRow]:
    """Every claim, judged by arithmetic and by the run. `layers` are the layers' own rows, with more witnesses.

    Claims of layers are judged before those of their sums, which defer to them.
    """
    claims = tuple(claims)
    follows = arithmetic_of(claims)
    witness, memory = RunWitness(observed, device), MemoryWitness(observed)
    in_layers = [row for row in layers if is_failure(row)]
    judged: dict[str, ClaimRow] = {}

    def judge_one(claim: Claim, errors: Iterable[ComparisonRow]) -> None:
        if claim.quantity == "rule":
            judged[claim.id] = _judge_rule(claim, follows[claim.id], observed, memory, prediction)
        else:
            judged[claim.id] = _judge_figure(claim, follows[claim.id], witness, memory, prediction, errors)

    of_layers = [claim for claim in claims if claim.layer in observed.leaves]
    for claim in of_layers:
        phases = (claim.phase,) if claim.phase in ("forward", "backward") else ("forward", "backward")
        judge_one(claim, [row for row in in_layers if row.path == claim.layer and row.phase in phases])
    errors = in_layers + [entry.row for entry in judged.values() if is_failure(entry.row)]
    for claim in claims:
        if claim.id not in judged:
            judge_one(claim, errors)
    return [judged[claim.id] for claim in claims]


def _judge_rule(
    claim: Claim, follows: Arithmetic, observed: Observed, memory: MemoryWitness, prediction: Prediction
) -> ClaimRow:
    rule = str(claim.value)
    theory = None
    observer: Witness = "count"
    if rule in ON_STEPS:
        finding = ON_STEPS[rule](from_ledger(observed.ledger))
        theory = ON_STEPS[rule](from_prediction(prediction)).holds
        judgement = judge({"claim": True, "theory": theory, "count": finding.holds})
    elif rule in ON_STREAMS:
        observer, finding, theory = "measured", *memory.rule(rule)
        judgement = judge({"claim": True, "theory": theory, "measured": finding.holds})
    else:
        finding = CHECKS[rule](observed)
        judgement = _by_pytorch(finding)
    if judgement.verdict == "agrees" or judgement.wrong == ("claim",):
        judgement = replace(judgement, reason=finding.seen)
    said: dict[Witness, Value | None] = {"theory": _holds(theory), observer: _holds(finding.holds)}
    reason = _joined(judgement.reason, f"by its own rules: {follows.reason}" if follows.reason else "")
    row = _row(claim, "rule", said, judgement, follows.result, reason)
    return ClaimRow(claim=claim, row=row, cause=reason)


def _by_pytorch(finding: Finding) -> Judgement:
    """What autograd computes, beside the rule as it is written, decides alone."""
    return Judgement(verdict="agrees") if finding.holds else Judgement(verdict="contradicted", wrong=("claim",))


def _holds(answer: bool | None) -> str | None:
    return None if answer is None else "holds" if answer else "does not hold"


def _judge_figure(
    claim: Claim,
    follows: Arithmetic,
    witness: RunWitness,
    memory: MemoryWitness,
    prediction: Prediction,
    errors: Iterable[ComparisonRow],
) -> ClaimRow:
    said: dict[Witness, Value | None] = {
        "theory": memory.theory(claim) if memory.speaks_of(claim) else by_theory(claim, prediction),
        "count": witness.counted(claim),
        "measured": memory.measured(claim) if memory.speaks_of(claim) else witness.measured(claim),
        "FlopCounterMode": witness.dispatched(claim),
    }
    if all(said[observer] is None for observer in OBSERVERS):
        judgement = Judgement(verdict="not measured", reason=what_it_would_take(claim.quantity))
    else:
        judgement = judge({"claim": claim.printed, **said}, claim_holds=claim.agrees)
        judgement = _as_layers_have_it(judgement, errors)
    cause, reason = _why(claim, follows, judgement, memory.why(claim) or why_the_run_differs(claim))
    if judgement.verdict == "agrees" and memory.speaks_of(claim):  # at the printed precision, which may be coarse
        reason = _joined(f"the run has {_in_words(said['measured'], claim)}", memory.why(claim), reason)
    if judgement.verdict == "agrees" and _by_convention(claim, prediction):
        reason = _joined(CONVENTION, reason)
    row = _row(claim, claim.quantity, said, judgement, follows.result, reason)
    return ClaimRow(claim=claim, row=row, cause=cause)


def _by_convention(claim: Claim, prediction: Prediction) -> bool:
    """Whether the claim is of FLOPs of layers whose cost is no product."""
    if not claim.quantity.startswith("flops"):
        return False
    rows = [row for row in prediction if row.path == claim.layer or f"kind:{row.kind}" == claim.layer]
    return bool(rows) and all(not row.forward.matmul_flops for row in rows)


def _as_layers_have_it(judgement: Judgement, errors: Iterable[ComparisonRow]) -> Judgement:
    """No blame for a witness that is cleared where another one was found to err.

    The claim of a sum, or of a figure per element, is judged by fewer witnesses than the rows that it follows from.
    """
    if judgement.verdict != "contradicted" or judgement.wrong == ("claim",):
        return judgement
    for row in errors:
        if row.wrong and not set(row.wrong.split(", ")) & set(judgement.wrong):
            where = f"{row.path or 'the network'} {row.phase} {row.quantity}"
            return Judgement(
                verdict="unexplained", reason=f"{judgement.reason}; but it is {row.wrong} that errs on {where}"
            )
    return judgement


def _why(claim: Claim, follows: Arithmetic, judgement: Judgement, cause: str) -> tuple[str, str]:
    """The cause, and the whole reason. Where the document's own rules lead elsewhere than the run, both are said."""
    if judgement.verdict == "not measured":
        return judgement.reason, _joined(judgement.reason, f"by its own rules {follows.reason}")
    if judgement.verdict != "contradicted" or judgement.wrong != ("claim",):
        said = _joined(judgement.reason, follows.reason)
        return said, said
    run = f"the run has {_in_words(judgement.right, claim)}"
    if judgement.right == follows.right:
        note = follows.reason.partition("; ")[2]  # without the right figure, which is the run's own
        return note, _joined(run, note)
    return cause, _joined(f"{run}: {cause}", f"by its own rules {follows.reason}")


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _in_words(value: Value | None, claim: Claim) -> str:
    return str(value) if value is None or isinstance(value, (str, float)) else in_words(value, claim.unit)


def _row(
    claim: Claim,
    quantity: str,
    said: Mapping[Witness, Value | None],
    judgement: Judgement,
    arithmetic: str | None,
    reason: str,
) -> ComparisonRow:
    return ComparisonRow(
        path=claim.layer,
        phase=claim.phase,
        quantity=quantity,
        claim=claim.printed,
        theory=said.get("theory"),
        count=said.get("count"),
        measured=said["measured"] if said.get("measured") is not None else said.get("FlopCounterMode"),
        arithmetic=arithmetic,
        verdict=judgement.verdict,
        wrong=", ".join(judgement.wrong) or None,
        reason=reason,
    )
