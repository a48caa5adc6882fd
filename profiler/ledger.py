"""Facts priced: one row per module path and phase.

Rows are exclusive (what a module does itself, not its children) and add up to the totals. What was not measured is
None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from .biases import bias_additions
from .formulas import Price
from .pricing import PRICES, Prices
from .records import (
    PHASES,
    SAVED_ROLES,
    CallFacts,
    GradientFacts,
    ModuleFacts,
    OperatorFacts,
    Phase,
    SavedFacts,
    Trace,
)
from .seconds.timing import Timing

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One module in one phase. Bytes and FLOPs are sums over its calls; shapes are those of the first tensor of the
    first kind of call.

    In a backward row `input_shape` is that of the gradient of the input (None where none is computed), `output_shape`
    that of the gradient of the output, and `parameter_gradient_bytes` belongs to the gradients of the parameters.

    `saved_bytes` are of the storages that autograd kept for backward and this module saved first, without parameters
    and buffers; known only where a backward ran and all could be seen, and then also apart by what they are to the
    module.

    `seconds` are of the observed step, and `share` is their part of it, where time was measured.
    """

    path: str
    type: str
    phase: Phase
    calls: int | None = None
    input_shape: Shape | None = None
    output_shape: Shape | None = None
    parameters: int | None = None
    parameter_bytes: int | None = None
    activation_bytes: int | None = None
    gradient_bytes: int | None = None
    parameter_gradient_bytes: int | None = None
    saved_bytes: int | None = None
    saved_input_bytes: int | None = None
    saved_output_bytes: int | None = None
    saved_index_bytes: int | None = None
    saved_mask_bytes: int | None = None
    saved_statistics_bytes: int | None = None
    flops: int | None = None
    matmul_flops: int | None = None
    bias_flops: int | None = None
    seconds: float | None = None
    share: float | None = None
    unpriced: tuple[str, ...] = ()


COLUMNS = tuple(entry.name for entry in fields(Row))


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpriced:
    """An operator without a formula: how often it ran, and the bytes it took and gave."""

    operator: str
    calls: int
    bytes: int
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """What the totals rest on. `share` is the part of all operators' bytes that had a price, in [0, 1]."""

    calls: int
    bytes: int
    unpriced: tuple[Unpriced, ...]
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every operator had a price and nothing went unobserved."""
        return not self.unpriced and not self.notes

    @property
    def share(self) -> float:
        missing = sum(entry.bytes for entry in self.unpriced)
        return 1.0 if not self.bytes else 1.0 - missing / self.bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """The rows, their totals, and what they leave out; with `timing`, where rows have seconds."""

    rows: tuple[Row, ...]
    totals: Mapping[str, int]
    coverage: Coverage
    timing: Timing | None = None

    def row(self, path: str, phase: Phase = "forward") -> Row:
        """One row. Raises KeyError naming the path and phase where there is none."""
        for row in self.rows:
            if row.path == path and row.phase == phase:
                return row
        raise KeyError(f"no row for path {path!r} in phase {phase!r}")


def build(trace: Trace, prices: Prices = PRICES) -> Ledger:
    """Price a trace. Raises PricingError where a formula does not fit an operator that ran."""
    cells: dict[tuple[str, Phase], _Cell] = defaultdict(_Cell)
    unpriced = _charge(trace.operators, prices, cells)
    for call in trace.calls:
        cells[call.path, call.phase].calls.append(call)
    for gradient in trace.gradients:
        cells[gradient.path, "backward"].gradients.append(gradient)
    for saved in trace.saved:
        cells[saved.path, saved.phase].saved.append(saved)
    for place in trace.saved_unknown:
        cells[place].saved_unknown = True
    backward_ran = bool(trace.saved or trace.saved_unknown) or any(phase == "backward" for _, phase in cells)
    modules = {facts.path: facts for facts in trace.modules}
    rows = tuple(_rows(modules, cells, backward_ran))
    return Ledger(rows=rows, totals=_totals(trace, rows), coverage=_coverage(trace, unpriced))


@dataclass
class _Cell:
    """What is gathered for one row before it is frozen."""

    calls: list[CallFacts] = field(default_factory=list)
    gradients: list[GradientFacts] = field(default_factory=list)
    saved: list[SavedFacts] = field(default_factory=list)
    saved_unknown: bool = False
    price: Price | None = None
    unpriced: set[str] = field(default_factory=set)


def _charge(
    operators: Sequence[OperatorFacts], prices: Prices, cells: dict[tuple[str, Phase], _Cell]
) -> dict[str, list[OperatorFacts]]:
    unpriced: dict[str, list[OperatorFacts]] = defaultdict(list)
    left_out = {id(facts) for facts in bias_additions(operators)}
    for facts in operators:
        cell = cells[facts.path, facts.phase]
        price = Price() if id(facts) in left_out else prices.price(facts.signature)
        if price is None:
            cell.unpriced.add(facts.signature.operator)
            unpriced[facts.signature.operator].append(facts)
        cell.price = _add(cell.price, price, facts.times)
    return unpriced


def _add(total: Price | None, price: Price | None, times: int) -> Price:
    have, more = total or Price(), price or Price()
    return Price(*(a + times * b for a, b in zip(have, more, strict=True)))


def _rows(modules: dict[str, ModuleFacts], cells: dict[tuple[str, Phase], _Cell], backward_ran: bool) -> Iterable[Row]:
    for path, facts in modules.items():
        for phase in PHASES:
            cell = cells.get((path, phase))
            if phase == "forward":
                yield _forward_row(facts, cell or _Cell(), "forward", backward_ran)
            elif cell is not None:
                yield _row(facts, phase, cell, backward_ran)


def _row(facts: ModuleFacts, phase: Phase, cell: _Cell, backward_ran: bool) -> Row:
    if phase == "recompute":
        return _forward_row(facts, cell, phase, bool(cell.saved))
    return _backward_row(facts, cell) if phase == "backward" else _plain_row(facts, phase, cell, backward_ran)


def _priced(cell: _Cell) -> dict[str, Any]:
    price = cell.price or Price()
    return {**price._asdict(), "unpriced": tuple(sorted(cell.unpriced))}


def _saved(cell: _Cell, backward_ran: bool) -> dict[str, Any]:
    """Bytes kept, in all and by role; nothing where no backward showed them, or not all of them."""
    if not backward_ran or cell.saved_unknown:
        return {}
    by_role = {
        f"saved_{role}_bytes": sum(saved.times * saved.bytes for saved in cell.saved if saved.role == role)
        for role in SAVED_ROLES
    }
    return {"saved_bytes": sum(by_role.values()), **by_role}


def _forward_row(facts: ModuleFacts, cell: _Cell, phase: Phase, backward_ran: bool) -> Row:
    trainable = phase == "forward"
    called = bool(cell.calls) or cell.price is not None
    return Row(
        path=facts.path,
        type=facts.type,
        phase=phase,
        calls=sum(call.times for call in cell.calls),
        input_shape=next((call.inputs[0].shape for call in cell.calls if call.inputs), None),
        output_shape=next((call.outputs[0].shape for call in cell.calls if call.outputs), None),
        parameters=sum(p.tensor.elements for p in facts.parameters) if trainable else None,
        parameter_bytes=sum(p.tensor.nbytes for p in facts.parameters) if trainable else None,
        activation_bytes=_bytes(cell.calls) if called else None,
        **(_saved(cell, backward_ran) if called else {}),
        **(_priced(cell) if called else {}),
    )


def _bytes(calls: Iterable[CallFacts]) -> int:
    return sum(call.times * sum(spec.nbytes for spec in call.own_outputs) for call in calls)


def _backward_row(facts: ModuleFacts, cell: _Cell) -> Row:
    def of(kind: str) -> list[GradientFacts]:
        found = [gradient for gradient in cell.gradients if gradient.of == kind]
        return found if kind == "parameter" else sorted(found, key=lambda gradient: int(gradient.name))

    inputs, outputs, parameters = of("input"), of("output"), of("parameter")
    return Row(
        path=facts.path,
        type=facts.type,
        phase="backward",
        input_shape=inputs[0].tensor.shape if inputs else None,
        output_shape=outputs[0].tensor.shape if outputs else None,
        gradient_bytes=sum(g.times * g.tensor.nbytes for g in inputs),
        parameter_gradient_bytes=sum(g.tensor.nbytes for g in parameters),
        **_priced(cell),
    )


def _plain_row(facts: ModuleFacts, phase: Phase, cell: _Cell, backward_ran: bool) -> Row:
    kept = _saved(cell, backward_ran) if phase in ("loss", "outside") else {}
    return Row(path=facts.path, type=facts.type, phase=phase, **kept, **_priced(cell))


def _totals(trace: Trace, rows: tuple[Row, ...]) -> dict[str, int]:
    """Sums over rows, parameters that several modules hold once. Figures of phases that did not happen are absent."""
    unique = {p.identity: p.tensor for facts in trace.modules for p in facts.parameters}
    totals = {
        "parameters": sum(tensor.elements for tensor in unique.values()),
        "parameter_bytes": sum(tensor.nbytes for tensor in unique.values()),
    }
    for phase in PHASES:
        chosen = [row for row in rows if row.phase == phase and row.flops is not None]
        if chosen:
            for column in ("flops", "matmul_flops"):
                totals[f"{phase}_{column}"] = sum(getattr(row, column) for row in chosen)
    if any(row.activation_bytes is not None for row in rows):
        totals["activation_bytes"] = sum(row.activation_bytes or 0 for row in rows if row.phase == "forward")
    if any(row.saved_bytes is not None for row in rows if row.phase == "forward"):
        totals["saved_bytes"] = sum(fact.times * fact.bytes for fact in trace.saved if fact.phase == "forward")
    if "backward_flops" in totals:
        backward = [row for row in rows if row.phase == "backward"]
        totals["gradient_bytes"] = sum(row.gradient_bytes or 0 for row in backward)
        totals["parameter_gradient_bytes"] = sum(row.parameter_gradient_bytes or 0 for row in backward)
    return totals


def _coverage(trace: Trace, unpriced: Mapping[str, list[OperatorFacts]]) -> Coverage:
    return Coverage(
        calls=sum(facts.times for facts in trace.operators),
        bytes=sum(facts.times * _moved(facts) for facts in trace.operators),
        unpriced=tuple(
            Unpriced(
                operator=name,
                calls=sum(facts.times for facts in found),
                bytes=sum(facts.times * _moved(facts) for facts in found),
                paths=tuple(dict.fromkeys(facts.path for facts in found)),
            )
            for name, found in sorted(unpriced.items())
        ),
        notes=trace.notes,
    )


def _moved(facts: OperatorFacts) -> int:
    """Bytes of an operator's tensors, in and out."""
    return sum(t.nbytes for t in _tensors((facts.signature.arguments, facts.signature.outputs)))


def _tensors(value: Any) -> Iterable[Any]:
    if hasattr(value, "nbytes"):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)
