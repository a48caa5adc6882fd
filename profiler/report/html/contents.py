"""What a report of a run, and of the audit, has in it: headline figures, remarks, sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ....theory.roofline import Ceilings
from ...compare import Comparison, ComparisonRow
from ...ledger import Ledger
from ...memory import Memory
from ...run import Run
from ...seconds.roofed import RoofRow
from ...seconds.timing import Timing
from ...verdict import Verdict
from ..audit import conclusion
from ..remarks import remarks
from ..terminal import ORDER, apart_text, covered_text
from ..units import bytes_text, count_text, flops_text
from ..words import setting
from .columns import Json
from .modules import module_tree
from .moments import memory_view
from .page import Card, Page, Section, html
from .roofline import roofline_view
from .tables import claims_table, comparison_table, environment_table, ledger_table, not_compared_table

if TYPE_CHECKING:
    from ...audit.walkthrough import Audit


def run_html(
    run: Run,
    *,
    memory: Memory | None,
    timing: Timing | None,
    roofs: tuple[Sequence[RoofRow], Ceilings] | None,
    beside: Memory | None,
    names: tuple[str, str],
) -> bytes:
    """A run's report. `roofs` are its rows against a machine's ceilings; `beside` is another run's memory, laid over
    this one's or, where this one has none, shown alone; `names` are what the two are called."""
    trace, comparison = run.trace, run.compare()
    found = (
        _modules(run.ledger),
        *_memories(memory, beside, names),
        *([] if roofs is None else [_roofline(*roofs)]),
        _theory(comparison.rows, comparison),
        _ledger(run.ledger),
        _environment(trace.environment),
    )
    return html(
        Page(
            title=trace.modules[0].type if trace.modules else "A run",
            setting=setting(run),
            cards=tuple(_cards(run.ledger, _peaks(memory, beside, names), timing)),
            remarks=(*remarks(trace, run.ledger), *filter(None, [apart_text(run.ledger)])),
            sections=found,
        )
    )


def audit_html(audit: Audit) -> bytes:
    """The audit's report: the walkthrough's claims first, where they apply."""
    seen = audit.observed
    height, width = seen.config.resolution
    where = audit.environment.get("device_name") or audit.environment["device"]
    claims = [_claims(audit)] if audit.claims else []
    if audit.seconds:
        claims.append(_by_the_clock(audit))
    return html(
        Page(
            title="The walkthrough, audited",
            setting=f"CNN, N = {seen.batch_size}, {seen.config.in_channels}x{height}x{width}, forward and backward, "
            f"on {where}, torch {audit.environment['torch']}",
            cards=tuple(_verdicts([entry.row for entry in audit.claims], audit.layers)),
            remarks=(conclusion(audit),),
            sections=(
                *claims,
                _theory(audit.layers),
                _memory(audit.memory, audit.foreseen, ("the run", "the closed form")),
                _modules(seen.ledger),
                _ledger(seen.ledger),
                _environment(audit.environment),
            ),
        )
    )


# Sections -------------------------------------------------------------------------------------------------------------


def _modules(ledger: Ledger) -> Section:
    return Section(
        id="modules",
        title="Where it goes",
        about="Each module with all that is inside it, as tall as its part of the whole. Choose one to look inside.",
        data=module_tree(ledger),
    )


def _memories(memory: Memory | None, beside: Memory | None, names: tuple[str, str]) -> Sequence[Section]:
    if memory is not None:
        return (_memory(memory, beside, names),)
    if beside is None:
        return ()
    about = f"{_EACH}. {_ORDER_OF_EVENTS} This is {names[1]}, as the run has no memory measured.{_without(beside)}"
    return (_memory_section(f"Memory over the step ({names[1]})", about, memory_view(beside), names),)


_EACH = "Bytes live after each allocation and free of one step, by what they are for"
_ORDER_OF_EVENTS = "The axis is the order of events and not time."


def _memory(memory: Memory, beside: Memory | None, names: tuple[str, str]) -> Section:
    about = f"{_EACH}, on {memory.device}. {_ORDER_OF_EVENTS}"
    if beside is not None:
        about += f" The line is {names[1]}, laid along {names[0]} layer by layer.{_without(beside)} Each has a peak of "
        about += "its own, and the table below says what was live there."
    return _memory_section("Memory over the step", about, memory_view(memory, beside), names)


def _without(memory: Memory) -> str:
    if any(block.category == "workspace" for block in memory.stream.blocks):
        return ""
    return " It leaves out workspaces, the scratch memory inside operators, which is a backend's."


def _memory_section(title: str, about: str, view: Json, names: tuple[str, str]) -> Section:
    return Section(id="memory", title=title, about=about, data={**view, "names": list(names)})


def _roofline(rows: Sequence[RoofRow], ceilings: Ceilings) -> Section:
    beaten = sum(1 for row in rows if row.failure)
    about = (
        "Each module and phase: the FLOPs of its products per second, over those per byte that it must move. Nothing "
        "can be above the line of its dtype; the lines were measured. The larger a dot, the longer it took."
    )
    if all(row.seconds is None for row in rows):
        about += " No time was measured, so that there are no dots: the table has what each takes at least."
    if beaten:
        about += f" {beaten:,} rows beat their bound, which is a failure of theory or calibration: the table says more."
    return Section(id="roofline", title="Roofline", about=about, data=roofline_view(rows, ceilings))


def _theory(rows: Sequence[ComparisonRow], comparison: Comparison | None = None) -> Section:
    covered = covered_text(comparison) if comparison else ""
    return Section(
        id="theory",
        title="Theory against run",
        about="Closed forms beside what was counted, and what other witnesses say. "
        + (f"{covered[0].upper()}{covered[1:]}." if covered else ""),
        data={
            "table": comparison_table(rows),
            "not_compared": not_compared_table(comparison.not_compared if comparison else {}),
        },
    )


def _ledger(ledger: Ledger) -> Section:
    return Section(
        id="ledger",
        title="Ledger",
        about="A row per module and phase, as in to_frame(). Rows are of the module alone, and add up; a dash is what "
        "was not measured, or does not apply.",
        data=ledger_table(ledger),
    )


def _claims(audit: Audit) -> Section:
    return Section(
        id="claims",
        title="The walkthrough's claims",
        about="Every figure and rule that the document states: whether it follows from the document's own rules "
        "(arithmetic), and whether it holds in a run (verdict).",
        data=claims_table(audit.claims),
    )


def _by_the_clock(audit: Audit) -> Section:
    return Section(
        id="seconds",
        title="The same claims, by the clock",
        about="FLOPs and seconds are different claims. These are the claims of computing work, asked of a clock; "
        "theory is what calibration foresees, where this machine was calibrated.",
        data=claims_table(audit.seconds),
    )


def _environment(facts: Mapping[str, Any]) -> Section:
    return Section(
        id="environment", title="Environment", about="Where the run took place.", data=environment_table(facts)
    )


# Headline figures -----------------------------------------------------------------------------------------------------


def _peaks(memory: Memory | None, beside: Memory | None, names: tuple[str, str]) -> Iterator[Card]:
    if memory is not None:
        yield _bytes_card("Peak memory", memory.peak_bytes)
    elif beside is not None:
        yield _bytes_card(f"Peak memory ({names[1]})", beside.peak_bytes)


def _cards(ledger: Ledger, peaks: Iterator[Card], timing: Timing | None) -> Iterator[Card]:
    totals = ledger.totals
    yield Card(label="Parameters", value=flops_text(totals["parameters"]), exact=count_text(totals["parameters"]))
    for phase in ("forward", "backward"):
        if (flops := totals.get(f"{phase}_flops")) is not None:
            bound = "≥ " if any(row.unpriced for row in ledger.rows if row.phase == phase) else ""
            yield Card(
                label=f"{phase.capitalize()} FLOPs",
                value=bound + flops_text(flops),
                exact=bound + count_text(flops),
            )
    for name, label in (("activation_bytes", "Activations"), ("saved_bytes", "Saved for backward")):
        if (size := totals.get(name)) is not None:
            yield _bytes_card(label, size)
    yield from peaks
    if timing is not None:
        yield Card(label="Step", value=f"{timing.seconds * 1e3:,.4g} ms", exact=_certainty(timing))
    yield Card(label="Priced", value=f"{ledger.coverage.share:.1%}", exact="of operators' bytes")


def _certainty(timing: Timing) -> str:
    steps = len(timing.bare)
    return "one step" if steps == 1 else f"median of {steps}, ±{timing.step.spread / timing.step.median:.1%}"


def _bytes_card(label: str, size: int) -> Card:
    return Card(label=label, value=bytes_text(size), exact=f"{size:,} B")


def _verdicts(claims: Sequence[ComparisonRow], layers: Sequence[ComparisonRow]) -> Iterator[Card]:
    for verdict in reversed(ORDER):
        of = [_count(claims, verdict), _count(layers, verdict)]
        if any(of):
            yield Card(
                label=verdict.capitalize(), value=count_text(sum(of)), exact=f"{of[0]:,} claims, {of[1]:,} of layers"
            )


def _count(rows: Sequence[ComparisonRow], verdict: Verdict) -> int:
    return sum(row.verdict == verdict for row in rows)
