"""What theory says of a claim's quantity: closed forms for the step that is really run.

The walkthrough's own rules are read on that step (the images need no gradient) but for those in which PyTorch does
something else by design. What is live together is asked of theory's stream: see `memory`.
"""

from __future__ import annotations

from fractions import Fraction

from ...theory.claims.records import Claim, Own, Phase, Shape
from ...theory.claims.rules import OWN_RULES, Rule, of_row, of_totals, read, rows
from ...theory.prediction import LayerPrediction, Prediction
from ..verdict import NONE, Value


def by_theory(claim: Claim, step: Prediction) -> Value | None:
    """The closed form's value of the claimed quantity, or None where theory does not speak of it.

    It is "none" where theory has no such layer, parameter or gradient.
    """
    try:
        return _found(claim, step)
    except (KeyError, ValueError):
        return NONE


def _found(claim: Claim, step: Prediction) -> Value | None:
    rule = RUN_RULES.get(claim.quantity)
    if rule is not None:
        found = read(rule, step, claim)
        return NONE if found is None else found
    return read(OWN_RULES[claim.quantity], step, claim)


def _weight_shape(row: LayerPrediction) -> Shape:
    return next(parameter.shape for parameter in row.layer.parameters if parameter.name == "weight")


def _gradient_shape(row: LayerPrediction) -> Own:
    gradient = row.backward.input_gradients[0] if row.backward else None
    return gradient.shape if gradient else None


def _gradient_elements(row: LayerPrediction) -> Own:
    gradient = row.backward.input_gradients[0] if row.backward else None
    return gradient.elements if gradient else 0


def _flops_per_element(step: Prediction, layer: str, phase: Phase) -> Own:
    """By the convention, whatever steps a document lists."""
    (row,) = rows(layer, step)
    return Fraction(row.forward.flops, row.output.elements)


RUN_RULES: dict[str, Rule] = {
    "gradient_shape": of_row(_gradient_shape),
    "gradient_elements": of_row(_gradient_elements),
    "flops_per_element": _flops_per_element,
    # The same parameters serve both passes: a step holds them once.
    "parameter_bytes": of_totals(lambda sums: sums.parameter_bytes),
    # A weight is (out, in): its gradient is (out, N) by (N, in).
    "weight_shape": of_row(_weight_shape),
    "weight_gradient_shape": of_row(_weight_shape),
    "weight_gradient_left_shape": of_row(lambda row: row.output.shape[::-1]),
    "weight_gradient_right_shape": of_row(lambda row: row.input.shape),
}
