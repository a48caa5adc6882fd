"""What each claim should say by the walkthrough's own rules.

The rules are its formulas, which are the closed forms of `theory`, under its settings: 32 RGB images of
32 x 32 in float32, and a gradient of the images themselves, as it counts one for Conv1. Only its own ways of
adding up are written here. Nothing here sees what is printed: a rule gets a step, a layer and a phase.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from ..cnn import IMAGES, cnn
from ..convolution import Conv2d, per_dimension
from ..cost import FLOPS_PER_MULTIPLY_ADD
from ..layer import Backward, Parameter
from ..network import Named, Network, within
from ..pointwise import Identity
from ..pooling import MaxPool2d
from ..prediction import LayerPrediction, Prediction, Totals, total
from ..variations import (
    channels_scaled,
    dense_layer_parameters,
    depthwise_separable_convolutions,
    half_precision,
    one_more_block,
    optimizer_parameters,
    pooled_classifier,
    resolution_scaled,
)
from .records import Claim, Number, Own, Phase, Shape, whole

NETWORK: Prediction = cnn().predict(IMAGES, input_requires_grad=True)
INPUT: Prediction = Network((Named("input", Identity()),)).predict(IMAGES)
KIND = "kind:"

# The operations per element that it names for BatchNorm.
BATCHNORM_STEPS = {
    "mean": ("add",),
    "variance": ("subtract", "square"),
    "normalization": ("subtract the mean", "divide by the deviation"),
    "scale and shift": ("multiply", "add"),
}

Rule = Callable[[Prediction, str, Phase], Own]


def by_own_rules(claim: Claim) -> Own:
    """The exact figure that follows from the walkthrough's own rules; None for a statement without one."""
    return read(OWN_RULES[claim.quantity], NETWORK, claim)


def read(rule: Rule, step: Prediction, claim: Claim) -> Own:
    """What a rule finds in a step for the layer and phase of a claim; the claim's figure is not seen."""
    figure = rule(step, claim.layer, claim.phase)
    return whole(figure) if isinstance(figure, Fraction) else figure


def rows(layer: str, step: Prediction = NETWORK) -> tuple[LayerPrediction, ...]:
    """The rows of a layer, a block, a kind (`kind:pooling`) or the network (""). Raises KeyError for none."""
    if layer == "input":
        return INPUT.rows
    kind = layer.removeprefix(KIND)
    found = tuple(row for row in step if (row.kind == kind if layer.startswith(KIND) else within(row.path, layer)))
    if not found:
        raise KeyError(f"the walkthrough's network has no layer {layer!r}")
    return found


def of_row(find: Callable[[LayerPrediction], Own]) -> Rule:
    """A rule about a single layer."""

    def rule(step: Prediction, layer: str, phase: Phase) -> Own:
        (row,) = rows(layer, step)
        return find(row)

    return rule


def of_totals(find: Callable[[Totals], Number]) -> Rule:
    """A rule about a sum over layers, the same in each phase."""
    return lambda step, layer, phase: find(total(rows(layer, step)))


def _of_network(find: Callable[[], Number]) -> Rule:
    """A rule about the network as a whole."""
    return lambda step, layer, phase: find()


def _parameter(row: LayerPrediction, name: str) -> Parameter:
    (found,) = (each for each in (*row.layer.parameters, *row.layer.buffers) if each.name == name)
    return found


def _elements(name: str) -> Rule:
    return of_row(lambda row: _parameter(row, name).elements)


def _nbytes(name: str) -> Rule:
    return of_row(lambda row: _parameter(row, name).nbytes)


def _weight_shape(row: LayerPrediction) -> Shape:
    """Its linear layer is y = xW + b, so its W is (in, out), the reverse of PyTorch's."""
    shape = _parameter(row, "weight").shape
    return shape[::-1] if row.kind == "linear" else shape


def _backward(row: LayerPrediction) -> Backward:
    if row.backward is None:
        raise ValueError(f"{row.path} has no backward pass")
    return row.backward


def _gradient_shape(row: LayerPrediction) -> Shape:
    (gradient,) = _backward(row).input_gradients
    if gradient is None:
        raise ValueError(f"{row.path} computes no gradient of its input")
    return gradient.shape


def _transposed(shape: Shape) -> Shape:
    return shape[::-1]


def _output_spatial_size(row: LayerPrediction) -> Shape:
    """Height and width of the output; 1 x 1 where they were averaged away."""
    return row.output.shape[2:] or (1, 1)


def _window_travel(row: LayerPrediction) -> int:
    """H_in + 2p - k, the numerator of its formula."""
    layer = row.layer
    if not isinstance(layer, Conv2d | MaxPool2d) or isinstance(layer.padding, str):
        raise ValueError(f"{row.path} has no window that moves")
    padding = per_dimension(layer.padding, 2, "padding")[0]
    return row.input.shape[2] + 2 * padding - per_dimension(layer.kernel_size, 2, "kernel_size")[0]


def _per_output(row: LayerPrediction) -> Fraction:
    """Forward FLOPs per output element: of a pooling, the elements of its window."""
    return Fraction(row.forward.flops, row.output.elements)


def _multiply_adds_per_output(row: LayerPrediction) -> Fraction:
    return _per_output(row) / FLOPS_PER_MULTIPLY_ADD


def _additions_per_output(row: LayerPrediction) -> Fraction:
    """One per product, added to zero; a mean of n values takes n - 1."""
    return _per_output(row) - 1 if row.kind == "pooling" else _multiply_adds_per_output(row)


def _flops_per_element(row: LayerPrediction) -> Number:
    """For BatchNorm, as many as the operations it names."""
    if row.kind == "normalization":
        return sum(len(operations) for operations in BATCHNORM_STEPS.values())
    return _per_output(row)


def _flops(step: Prediction, layer: str, phase: Phase) -> int:
    sums = total(rows(layer, step))
    return {"forward": sums.forward_flops, "backward": sums.backward_flops}.get(phase, sums.flops)


def _flops_share(step: Prediction, layer: str, phase: Phase) -> Fraction:
    """Of a phase in the step; of anything else in its phase."""
    return Fraction(100 * _flops(step, layer, phase), _flops(step, "", phase if layer else "training"))


def _backward_to_forward(step: Prediction, layer: str, phase: Phase) -> Fraction:
    return Fraction(_flops(step, layer, "backward"), _flops(step, layer, "forward"))


def _parameter_bytes(step: Prediction, layer: str, phase: Phase) -> int:
    """Its training total holds the parameters twice: once for forward, once for backward."""
    return total(rows(layer, step)).parameter_bytes * (2 if phase == "training" else 1)


def _memory_bytes(step: Prediction, layer: str, phase: Phase) -> int:
    """Forward: activations and parameters; backward: all gradients and the parameters; training: both."""
    sums = total(rows(layer, step))
    forward = sums.activation_bytes + sums.parameter_bytes
    backward = sums.gradient_bytes + sums.parameter_bytes + sums.parameter_gradient_bytes
    return {"forward": forward, "backward": backward}.get(phase, forward + backward)


OWN_RULES: Mapping[str, Rule] = {
    "input_shape": of_row(lambda row: row.input.shape),
    "output_shape": of_row(lambda row: row.output.shape),
    "output_spatial_size": of_row(_output_spatial_size),
    "weight_shape": of_row(_weight_shape),
    "gradient_shape": of_row(_gradient_shape),
    "output_gradient_shape": of_row(lambda row: row.output.shape),
    "weight_gradient_shape": of_row(_weight_shape),
    "bias_gradient_shape": of_row(lambda row: _parameter(row, "bias").shape),
    "weight_gradient_left_shape": of_row(lambda row: _transposed(row.input.shape)),
    "weight_gradient_right_shape": of_row(lambda row: row.output.shape),
    "input_gradient_left_shape": of_row(lambda row: row.output.shape),
    "input_gradient_right_shape": of_row(lambda row: _transposed(_weight_shape(row))),
    "output_height": of_row(lambda row: row.output.shape[2]),
    "output_width": of_row(lambda row: row.output.shape[3]),
    "window_travel": of_row(_window_travel),
    "window_elements": of_row(_per_output),
    "elements": of_row(lambda row: row.output.elements),
    "activation_bytes": of_totals(lambda sums: sums.activation_bytes),
    "itemsize": _of_network(lambda: IMAGES.itemsize),
    "weights": _elements("weight"),
    "biases": _elements("bias"),
    "parameters": of_totals(lambda sums: sums.parameters),
    "parameter_bytes": _parameter_bytes,
    "running_mean": _elements("running_mean"),
    "running_var": _elements("running_var"),
    "gradient_elements": of_row(lambda row: row.input.elements),
    "gradient_bytes": of_totals(lambda sums: sums.gradient_bytes),
    "weight_gradient_elements": _elements("weight"),
    "weight_gradient_bytes": _nbytes("weight"),
    "bias_gradient_elements": _elements("bias"),
    "bias_gradient_bytes": _nbytes("bias"),
    "parameter_gradient_elements": of_row(
        lambda row: sum(each.elements for each in _backward(row).parameter_gradients)
    ),
    "parameter_gradient_bytes": of_totals(lambda sums: sums.parameter_gradient_bytes),
    "all_gradient_bytes": of_totals(lambda sums: sums.gradient_bytes + sums.parameter_gradient_bytes),
    "activation_and_gradient_bytes": of_totals(lambda sums: sums.activation_bytes + sums.gradient_bytes),
    "memory_bytes": _memory_bytes,
    "flops": _flops,
    "weight_gradient_flops": of_row(lambda row: _backward(row).weight.flops),
    "bias_gradient_flops": of_row(lambda row: _backward(row).bias.flops),
    "input_gradient_flops": of_row(lambda row: _backward(row).input.flops),
    "flops_per_output_element": of_row(_per_output),
    "flops_per_element": of_row(_flops_per_element),
    "flops_per_channel": of_row(lambda row: Fraction(row.forward.flops, row.output.shape[1])),
    "affine_flops_per_element": _of_network(lambda: len(BATCHNORM_STEPS["scale and shift"])),
    "flops_per_multiply_add": _of_network(lambda: FLOPS_PER_MULTIPLY_ADD),
    "flops_share": _flops_share,
    "multiplications_per_output": of_row(_multiply_adds_per_output),
    "multiply_adds_per_output": of_row(_multiply_adds_per_output),
    "additions_per_output": of_row(_additions_per_output),
    "bias_additions_per_output": of_row(lambda row: sum(each.name == "bias" for each in row.layer.parameters)),
    "divisions_per_output": of_row(lambda row: 1),
    "backward_to_forward_flops": _backward_to_forward,
    "dense_alternative_parameters": _of_network(dense_layer_parameters),
    "gap_parameters_saved": _of_network(lambda: -pooled_classifier().difference),
    "adam_memory_ratio": _of_network(lambda: optimizer_parameters().ratio),
    "depthwise_separable_flops_reduction": _of_network(lambda: depthwise_separable_convolutions()[""].reduction),
    "half_precision_memory_reduction": _of_network(lambda: half_precision().training_bytes.reduction),
    "resolution_doubled_memory_ratio": _of_network(lambda: resolution_scaled().training_bytes.ratio),
    "resolution_doubled_flops_ratio": _of_network(lambda: resolution_scaled().forward_flops.ratio),
    "channels_doubled_parameters_ratio": _of_network(lambda: channels_scaled().parameters.ratio),
    "channels_doubled_flops_ratio": _of_network(lambda: channels_scaled().forward_flops.ratio),
    "extra_block_flops": _of_network(lambda: one_more_block().forward_flops.difference),
    "extra_block_parameters": _of_network(lambda: one_more_block().parameters.difference),
    "rule": lambda step, layer, phase: None,
}
