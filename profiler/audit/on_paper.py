"""What theory says of a claim's quantity: closed forms for the step that is really run (the images need no
gradient)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import Any

from ...theory import variations
from ...theory.claims.records import Claim
from ...theory.prediction import LayerPrediction, Prediction, Totals, total
from ...theory.tensor import TensorSpec
from ..verdict import Value


def by_theory(claim: Claim, prediction: Prediction) -> Value | None:
    """The closed form's value of the claimed quantity, or None where theory does not speak of it."""
    if claim.layer == "input":
        return _input(claim.quantity, prediction.input)
    row = next((row for row in prediction if row.path == claim.layer), None)
    if row is not None:
        return _layer(claim, row, prediction)
    return _sums(claim, prediction)


def _input(quantity: str, x: TensorSpec) -> Value | None:
    known: dict[str, Value] = {
        "input_shape": x.shape,
        "output_shape": x.shape,
        "elements": x.elements,
        "activation_bytes": x.nbytes,
        "parameters": 0,
        "flops": 0,
    }
    return known.get(quantity)


# One layer ------------------------------------------------------------------------------------------------------------


def _layer(claim: Claim, row: LayerPrediction, prediction: Prediction) -> Value | None:
    if claim.quantity == "flops":
        return row.backward.total.flops if claim.phase == "backward" and row.backward else row.forward.flops
    find = _FORWARD.get(claim.quantity) or _BACKWARD.get(claim.quantity)
    return None if find is None else find(row)


def _parameter(row: LayerPrediction, name: str) -> Any:
    return next((p for p in (*row.layer.parameters, *row.layer.buffers) if p.name == name), None)


def _elements(name: str) -> Callable[[LayerPrediction], int]:
    return lambda row: parameter.elements if (parameter := _parameter(row, name)) else 0


def _per_output(row: LayerPrediction) -> int:
    return row.forward.flops // row.output.elements


def _travel(row: LayerPrediction) -> int:
    """The last window starts this far from the first: H_in + 2p - k."""
    layer: Any = row.layer
    return int(row.input.shape[2] + 2 * layer.padding[0] - layer.kernel_size[0])


def _window(row: LayerPrediction) -> int:
    kernel: Any = getattr(row.layer, "kernel_size", None)
    return prod(kernel) if kernel else prod(row.input.shape[2:])


_FORWARD: dict[str, Callable[[LayerPrediction], Value | None]] = {
    "input_shape": lambda row: row.input.shape,
    "output_shape": lambda row: row.output.shape,
    "output_spatial_size": lambda row: row.output.shape[2:] or (1, 1),
    "output_height": lambda row: row.output.shape[2],
    "output_width": lambda row: row.output.shape[3],
    "window_travel": _travel,
    "window_elements": _window,
    "elements": lambda row: row.output.elements,
    "activation_bytes": lambda row: row.activation_bytes,
    "itemsize": lambda row: row.output.itemsize,
    "weights": _elements("weight"),
    "biases": _elements("bias"),
    "running_mean": _elements("running_mean"),
    "running_var": _elements("running_var"),
    "parameters": lambda row: row.parameters,
    "parameter_bytes": lambda row: row.parameter_bytes,
    "weight_shape": lambda row: _parameter(row, "weight").shape,
    "flops_per_output_element": _per_output,
    "flops_per_element": _per_output,
    "flops_per_channel": lambda row: row.forward.flops // row.output.shape[1],
    "multiplications_per_output": lambda row: _per_output(row) // 2,
    "multiply_adds_per_output": lambda row: _per_output(row) // 2,
    "additions_per_output": lambda row: _additions(row),
    "bias_additions_per_output": lambda row: 1 if _parameter(row, "bias") else 0,
    "divisions_per_output": lambda row: 1,
    "affine_flops_per_element": lambda row: 2,
}


def _additions(row: LayerPrediction) -> int:
    """A dot product of n terms adds n times, from zero; a mean adds from its first value."""
    return _window(row) - 1 if row.kind == "pooling" else _per_output(row) // 2


def _gradient(row: LayerPrediction) -> TensorSpec | None:
    return row.backward.input_gradients[0] if row.backward else None


def _weight_gradient(row: LayerPrediction) -> Any:
    trained = row.backward.parameter_gradients if row.backward else ()
    return next((p for p in trained if p.name == "weight"), None)


def _bias_gradient(row: LayerPrediction) -> Any:
    trained = row.backward.parameter_gradients if row.backward else ()
    return next((p for p in trained if p.name == "bias"), None)


def _all_gradient_bytes(row: LayerPrediction) -> int:
    return row.gradient_bytes + _parameter_gradient_bytes(row)


def _parameter_gradient_bytes(row: LayerPrediction) -> int:
    return row.backward.parameter_gradient_bytes if row.backward else 0


_BACKWARD: dict[str, Callable[[LayerPrediction], Value | None]] = {
    "gradient_shape": lambda row: spec.shape if (spec := _gradient(row)) else "none",
    "gradient_elements": lambda row: spec.elements if (spec := _gradient(row)) else 0,
    "gradient_bytes": lambda row: row.gradient_bytes,
    "output_gradient_shape": lambda row: row.output.shape,
    "weight_gradient_shape": lambda row: _weight_gradient(row).shape,
    "weight_gradient_elements": lambda row: _weight_gradient(row).elements,
    "weight_gradient_bytes": lambda row: _weight_gradient(row).nbytes,
    "bias_gradient_shape": lambda row: _bias_gradient(row).shape,
    "bias_gradient_elements": lambda row: _bias_gradient(row).elements,
    "bias_gradient_bytes": lambda row: _bias_gradient(row).nbytes,
    "parameter_gradient_bytes": _parameter_gradient_bytes,
    "all_gradient_bytes": _all_gradient_bytes,
    "weight_gradient_flops": lambda row: row.backward.weight.flops if row.backward else None,
    "bias_gradient_flops": lambda row: row.backward.bias.flops if row.backward else None,
    "input_gradient_flops": lambda row: row.backward.input.flops if row.backward else None,
    # A weight is (out, in): its gradient is (out, N) by (N, in), the input's is (N, out) by (out, in).
    "weight_gradient_left_shape": lambda row: (row.output.shape[1], row.output.shape[0]),
    "weight_gradient_right_shape": lambda row: row.input.shape,
    "input_gradient_left_shape": lambda row: row.output.shape,
    "input_gradient_right_shape": lambda row: (row.output.shape[1], row.input.shape[1]),
}


# Blocks, kinds and the whole ------------------------------------------------------------------------------------------


def _sums(claim: Claim, prediction: Prediction) -> Value | None:
    if claim.quantity in _VARIATIONS:
        return _VARIATIONS[claim.quantity]()
    rows = rows_of(claim.layer, prediction)
    if claim.quantity == "flops_share":
        return _share(claim, total(rows), prediction.totals)
    return _summed(claim, total(rows), prediction)


def rows_of(layer: str, prediction: Prediction) -> list[LayerPrediction]:
    """The rows that a claim about a block, a kind or the network sums over."""
    if layer.startswith("kind:"):
        return [row for row in prediction if row.kind == layer.removeprefix("kind:")]
    return [row for row in prediction if not layer or row.path.startswith(layer + ".")]


def _summed(claim: Claim, sums: Totals, prediction: Prediction) -> Value | None:
    known: dict[str, Callable[[], Value]] = {
        "flops": lambda: _phase_flops(claim.phase, sums),
        "parameters": lambda: sums.parameters,
        # The same parameters serve both passes: a training step holds them once.
        "parameter_bytes": lambda: sums.parameter_bytes,
        "activation_bytes": lambda: sums.activation_bytes,
        "gradient_bytes": lambda: sums.gradient_bytes,
        "parameter_gradient_bytes": lambda: sums.parameter_gradient_bytes,
        "output_shape": lambda: rows_of(claim.layer, prediction)[-1].output.shape,
        "backward_to_forward_flops": lambda: Fraction(sums.backward_flops, sums.forward_flops),
        "itemsize": lambda: prediction.input.itemsize,
        "flops_per_multiply_add": lambda: 2,
    }
    find = known.get(claim.quantity)
    return None if find is None else find()


def _phase_flops(phase: str, sums: Totals) -> int:
    return {"forward": sums.forward_flops, "backward": sums.backward_flops}.get(phase, sums.flops)


def _share(claim: Claim, part: Totals, whole: Totals) -> Fraction:
    """Of a kind in the phase; of a phase in the step."""
    if claim.layer:
        return Fraction(100 * _phase_flops(claim.phase, part), _phase_flops(claim.phase, whole))
    return Fraction(100 * _phase_flops(claim.phase, part), whole.flops)


_VARIATIONS: dict[str, Callable[[], Value]] = {
    "dense_alternative_parameters": variations.dense_layer_parameters,
    "gap_parameters_saved": lambda: -variations.pooled_classifier().difference,
    "depthwise_separable_flops_reduction": lambda: variations.depthwise_separable_convolutions()[""].reduction,
    "resolution_doubled_flops_ratio": lambda: variations.resolution_scaled().forward_flops.ratio,
    "channels_doubled_parameters_ratio": lambda: variations.channels_scaled().parameters.ratio,
    "channels_doubled_flops_ratio": lambda: variations.channels_scaled().forward_flops.ratio,
    "extra_block_flops": lambda: variations.one_more_block().forward_flops.difference,
    "extra_block_parameters": lambda: variations.one_more_block().parameters.difference,
    "adam_memory_ratio": lambda: variations.optimizer_parameters().ratio,
}
