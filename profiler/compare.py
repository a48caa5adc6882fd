"""Witnesses side by side, layer by layer: what each says, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from ..theory.layer import Layer
from ..theory.prediction import Prediction
from .capture.storage import Storages
from .covered import covered
from .defects import known_defect
from .ledger import Ledger, Row
from .records import Phase, Trace
from .verdict import NONE, Judgement, Value, Verdict, Witness, judge

if TYPE_CHECKING:
    import pandas as pd

Place = tuple[str, Phase]
Statements = Mapping[Place, Mapping[str, Value | None]]
"""What one witness says: (path, phase) -> quantity -> value, None where it is silent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonRow:
    """One quantity of one layer and phase, with each witness's figure. FlopCounterMode's stands under `measured`."""

    path: str
    phase: str
    quantity: str
    claim: Value | str | None = None
    theory: Value | None = None
    count: Value | None = None
    measured: Value | None = None
    arithmetic: str | None = None
    verdict: Verdict
    wrong: str | None = None
    reason: str = ""


CONVENTION = "convention: FLOPs per element by the stated rule; only the operands were observed"

COLUMNS = tuple(entry.name for entry in fields(ComparisonRow))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows with verdicts.

    `not_compared` names the modules that did work and have no closed form, with the reason. `covered` has the shares,
    0 to 1, of `forward_matmul_flops`, `backward_flops` and so on whose modules have a closed form that agrees.
    """

    rows: tuple[ComparisonRow, ...]
    not_compared: Mapping[str, str]
    covered: Mapping[str, Fraction] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """False where a row is unexplained, or contradicted by a culprit other than a claim or a listed defect.

        And where nothing was compared: `not_compared` says why.
        """
        return bool(self.rows) and not self.failures

    @cached_property
    def failures(self) -> tuple[ComparisonRow, ...]:
        """The rows that make a run fail."""
        return tuple(row for row in self.rows if is_failure(row))

    def summary(self) -> dict[str, int]:
        """Verdict -> number of rows."""
        return dict(Counter(row.verdict for row in self.rows))

    def to_frame(self) -> pd.DataFrame:
        """One row per path, phase and quantity, with the columns of `ComparisonRow`."""
        from .report.frame import comparison_frame

        return comparison_frame(self.rows)

    def __repr__(self) -> str:
        said = ", ".join(f"{count} {verdict}" for verdict, count in self.summary().items())
        return f"<torchtally comparison: {said or 'nothing compared'}>"

    def __str__(self) -> str:
        from .report.terminal import comparison_text

        return comparison_text(self)

    def _repr_html_(self) -> str:
        from .report.notebook import comparison_html

        return comparison_html(self)


def is_failure(row: ComparisonRow) -> bool:
    """Whether a row speaks against torchtally itself rather than against a claim or a known defect."""
    if row.verdict == "contradicted":
        return row.wrong not in ("claim", "FlopCounterMode (known defect)")
    return row.verdict == "unexplained"


def compare_layers(ledger: Ledger, trace: Trace, layers: Mapping[str, Layer]) -> Comparison:
    """Each module's closed form, on the inputs that the run gave it, against what was counted there."""
    from .expectation import from_observed_inputs

    theory: Statements
    not_compared: Mapping[str, str]
    theory, not_compared = from_observed_inputs(ledger, trace, layers)
    if trace.second_order:
        theory, not_compared = _first_order(theory, not_compared)
    called = {row.path for row in ledger.rows if row.phase == "forward" and row.calls}
    spoken_of = (called & layers.keys()) - not_compared.keys()
    count = {
        place: figures
        for place, figures in from_ledger(ledger).items()
        if place in theory or (place[0] in spoken_of and not (trace.second_order and place[1] == "backward"))
    }
    rows = tuple(compare_statements(theory=theory, count=count, layers=layers))
    return Comparison(rows=rows, not_compared=not_compared, covered=covered(rows, ledger))


def _first_order(theory: Statements, not_compared: Mapping[str, str]) -> tuple[Statements, Mapping[str, str]]:
    """Without backward: closed forms know the gradient, and not the gradient of the gradient."""
    why = "backward was recorded and differentiated again (create_graph), which no closed form covers"
    again = {path: f"backward: {why}" for path, phase in theory if phase == "backward"}
    return {place: figures for place, figures in theory.items() if place[1] != "backward"}, {**again, **not_compared}


def compare_statements(
    *,
    theory: Statements,
    count: Statements,
    measured: Statements | None = None,
    dispatcher: Statements | None = None,
    layers: Mapping[str, Layer],
) -> Iterable[ComparisonRow]:
    """Judge every quantity that theory states, and all that observers saw where theory states nothing.

    An absence is a statement: a witness without a figure that it should have says "none". Count should have all that
    theory states; the others should have, of each layer that theory knows, what they have of any layer in that phase.
    Where theory knows no layer, what costs nothing needs no row.
    """
    observers: dict[Witness, Statements] = {
        "count": count,
        "measured": measured or {},
        "FlopCounterMode": dispatcher or {},
    }
    spoken = {witness: _spoken(statements) for witness, statements in observers.items()}
    for place, quantities in theory.items():
        for quantity in (quantity for quantity, value in quantities.items() if value is not None):
            said: dict[Witness, Value | None] = {"theory": quantities[quantity]}
            for witness, statements in observers.items():
                expected = witness == "count" or (place[1], quantity) in spoken[witness]
                figure = statements.get(place, {}).get(quantity)
                said[witness] = NONE if figure is None and expected else figure
            row = _judged(place, quantity, said, layers)
            yield replace(row, reason=CONVENTION) if _by_convention(quantity, quantities, row) else row
    for place, quantity in _left_out(theory, observers.values()):
        seen = {witness: statements.get(place, {}).get(quantity) for witness, statements in observers.items()}
        yield _judged(place, quantity, {"theory": NONE, **seen}, layers)


def _by_convention(quantity: str, quantities: Mapping[str, Value | None], row: ComparisonRow) -> bool:
    """Whether a row agrees on FLOPs that are not all products: those are counted by a rule that both sides share."""
    return quantity == "flops" and row.verdict == "agrees" and quantities["flops"] != quantities.get("matmul_flops")


def _spoken(statements: Statements) -> set[tuple[Phase, str]]:
    """What a witness states of any layer: (phase, quantity)."""
    return {(phase, quantity) for (_, phase), figures in statements.items() for quantity in figures}


def _left_out(theory: Statements, observers: Iterable[Statements]) -> Iterable[tuple[Place, str]]:
    """Costs that were seen in forward or backward, where theory has no statement. Shapes are no cost."""
    found = {
        (place, quantity): None
        for statements in observers
        for place, figures in statements.items()
        if place not in theory and place[1] in ("forward", "backward")
        for quantity, figure in figures.items()
        if isinstance(figure, int) and figure
    }
    return tuple(found)


def _judged(
    place: Place, quantity: str, said: Mapping[Witness, Value | None], layers: Mapping[str, Layer]
) -> ComparisonRow:
    path, phase = place
    defects = (
        known_defect(layers.get(path), phase, right=right, said=said["FlopCounterMode"])
        for right in (said["theory"], said["count"])
    )
    defect = next(filter(None, defects), None)
    return _row(path, phase, quantity, said, judge(said, known_defect=defect), defect)


def _row(
    path: str,
    phase: Phase,
    quantity: str,
    said: Mapping[Witness, Value | None],
    judgement: Judgement,
    defect: str | None,
) -> ComparisonRow:
    wrong = ", ".join(judgement.wrong) or None
    if wrong == "FlopCounterMode" and defect:
        wrong = "FlopCounterMode (known defect)"
    outside = said["measured"] if said["measured"] is not None else said["FlopCounterMode"]
    return ComparisonRow(
        path=path,
        phase=phase,
        quantity=quantity,
        theory=said["theory"],
        count=said["count"],
        measured=outside,
        verdict=judgement.verdict,
        wrong=wrong,
        reason=judgement.reason,
    )


# What each witness says -----------------------------------------------------------------------------------------------


def from_ledger(ledger: Ledger) -> Statements:
    """The counts of a run."""
    return {(row.path, row.phase): _quantities(row) for row in ledger.rows}


def _quantities(row: Row) -> dict[str, Value | None]:
    common: dict[str, Value | None] = {
        "flops": row.flops,
        "matmul_flops": row.matmul_flops,
    }
    if row.phase == "backward":
        return common | {
            "bias_flops": row.bias_flops,
            "gradient_shape": NONE if _arrived(row) and row.input_shape is None else row.input_shape,
            "output_gradient_shape": row.output_shape,
            "gradient_bytes": row.gradient_bytes,
            "parameter_gradient_bytes": row.parameter_gradient_bytes,
        }
    return common | {
        "input_shape": row.input_shape,
        "output_shape": row.output_shape,
        "parameters": row.parameters,
        "parameter_bytes": row.parameter_bytes,
        "activation_bytes": row.activation_bytes,
        "saved_bytes": row.saved_bytes,
    }


def _arrived(row: Row) -> bool:
    """Whether a gradient came to that module; if so, it was seen whether one went on from there."""
    return row.output_shape is not None


def from_prediction(prediction: Prediction) -> Statements:
    """A chain's closed forms, from the network's input alone: nothing of the run is used."""
    statements: dict[Place, dict[str, Value | None]] = {}
    saved = prediction.saved_bytes(network_input=True)
    for layer in prediction:
        statements[layer.path, "forward"] = {
            "input_shape": layer.input.shape,
            "output_shape": layer.output.shape,
            "parameters": layer.parameters,
            "parameter_bytes": layer.parameter_bytes,
            "activation_bytes": layer.activation_bytes,
            "saved_bytes": saved[layer.path],
            "flops": layer.forward.flops,
            "matmul_flops": layer.forward.matmul_flops,
        }
        if layer.backward is not None:
            total = layer.backward.total
            gradient = layer.backward.input_gradients[0]
            statements[layer.path, "backward"] = {
                "gradient_shape": gradient.shape if gradient else NONE,
                "output_gradient_shape": layer.output.shape,
                "gradient_bytes": layer.backward.gradient_bytes,
                "parameter_gradient_bytes": layer.backward.parameter_gradient_bytes,
                "flops": total.flops,
                "matmul_flops": total.matmul_flops,
                "bias_flops": total.bias_flops,
            }
    return statements


def from_storages(storages: Storages) -> Statements:
    """What the allocator holds for real tensors. A module that got no gradient for its input holds 0 bytes of one."""
    statements: dict[Place, dict[str, Value | None]] = {}
    for path, output in storages.outputs.items():
        statements[path, "forward"] = {
            "output_shape": output.shape,
            "activation_bytes": output.bytes,
            "saved_bytes": storages.saved_bytes[path],
            "parameter_bytes": storages.parameter_bytes[path],
        }
        arrived = storages.output_gradients.get(path)
        if arrived is not None:
            gradient = storages.input_gradients.get(path)
            statements[path, "backward"] = {
                "output_gradient_shape": arrived.shape,
                "gradient_shape": gradient.shape if gradient else NONE,
                "gradient_bytes": gradient.bytes if gradient else 0,
                "parameter_gradient_bytes": storages.parameter_gradient_bytes[path],
            }
    return statements


def from_dispatcher(counts: Mapping[tuple[str, str], int], leaves: Iterable[str]) -> Statements:
    """FlopCounterMode's figures for the model's modules without children, and for any other such that it names.

    It counts products; where it counted nothing, there are none.
    """
    phases: tuple[Phase, ...] = ("forward", "backward")
    asked = dict.fromkeys((*leaves, *_innermost({path for path, _ in counts})))
    return {
        (path, phase): {"matmul_flops": counts.get((path, phase), 0)}
        for path in asked
        for phase in phases
        if ("", phase) in counts
    }


def _innermost(paths: Set[str]) -> list[str]:
    """Those in which no other lies; every path lies in ""."""
    return [path for path in paths if not any(other.startswith(f"{path}.".lstrip(".")) for other in paths - {path})]
