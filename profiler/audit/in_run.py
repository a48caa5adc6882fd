"""What the real run says of a claim's quantity: our counts, and what the allocator holds. No closed form is used
here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

from torch import nn

from ...theory.claims.records import Claim, whole
from ...theory.tensor import TensorSpec
from ..capture.storage import Held
from ..formulas import Price
from ..ledger import Ledger, Row
from ..pricing import PRICES
from ..records import CallFacts, OperatorFacts, ParameterFacts, Trace
from ..verdict import NONE, Value
from .runs import Observed, adam_state_bytes, count_variants, parameters_of

# Module type -> the walkthrough's kinds of layer.
_KINDS = {
    "Conv2d": "convolution",
    "BatchNorm2d": "normalization",
    "ReLU": "activation",
    "MaxPool2d": "pooling",
    "GlobalAveragePooling": "pooling",
    "Linear": "linear",
}
# The same by module name, for witnesses that see no types.
_KIND_OF_NAME = {
    "conv": "convolution",
    "batchnorm": "normalization",
    "relu": "activation",
    "pool": "pooling",
    "gap": "pooling",
    "fc": "linear",
}


class RunWitness:
    """Looks claims up in one observed run, and in runs of its variants where a claim compares."""

    def __init__(self, observed: Observed, device: str) -> None:
        self._observed = observed
        self._ledger = observed.ledger
        self._device = device

    @cached_property
    def _variants(self) -> dict[str, Ledger]:
        return count_variants(self._observed.config, self._observed.batch_size, self._device)

    # Counted ----------------------------------------------------------------------------------------------------------

    def counted(self, claim: Claim) -> Value | None:
        """Our count of the claimed quantity, None where a count cannot tell, "none" where nothing of it was seen."""
        if claim.layer == "input":
            return self._input(claim.quantity)
        if claim.quantity in _VARIATIONS:
            return _VARIATIONS[claim.quantity](self)
        if claim.layer in self._observed.leaves:
            return self._layer(claim)
        return self._sums(claim, self._rows(claim.layer))

    def _rows(self, layer: str) -> list[Row]:
        rows = [row for row in self._ledger.rows if row.phase in ("forward", "backward")]
        if layer.startswith("kind:"):
            return [row for row in rows if _KINDS.get(row.type) == layer.removeprefix("kind:")]
        return [row for row in rows if not layer or row.path == layer or row.path.startswith(layer + ".")]

    def _input(self, quantity: str) -> Value | None:
        call = self._call("")
        images, learned = call.inputs[0], call.inputs_need_grad[0]
        known: dict[str, Value] = {
            "input_shape": images.shape,
            "output_shape": images.shape,
            "elements": images.elements,
            "activation_bytes": images.nbytes,
            "parameters": images.elements if learned else 0,
            "flops": self._ledger.totals.get("outside_flops", 0),  # dispatched in the block, and in no module
        }
        return known.get(quantity)

    def _call(self, path: str) -> CallFacts:
        return _call(self._observed.trace, path)

    def _layer(self, claim: Claim) -> Value | None:
        facts = _LayerFacts(self._observed, claim.layer)
        if claim.quantity == "flops":
            return self._flops(claim.layer, claim.phase)
        find = _LAYER.get(claim.quantity)
        if find is None:
            return None
        try:
            seen = find(facts)
        except LookupError:
            seen = None
        return NONE if seen is None else seen

    def _flops(self, path: str, phase: str) -> Value | None:
        try:
            return self._ledger.row(path, "backward" if phase == "backward" else "forward").flops
        except KeyError:
            return NONE

    def _sums(self, claim: Claim, rows: list[Row]) -> Value | None:
        find = _SUMS.get(claim.quantity)
        if find is not None:
            return find(rows)
        if claim.quantity == "flops":
            return _flops(rows, claim.phase)
        if claim.quantity == "flops_share":
            everything = self._rows("")
            whole = _flops(everything, claim.phase) if claim.layer else _flops(everything, "training")
            return Fraction(100 * _flops(rows, claim.phase), whole)
        if claim.quantity == "output_shape":
            return next(row.output_shape for row in rows if row.path == claim.layer)
        if claim.quantity == "backward_to_forward_flops":
            return Fraction(_flops(rows, "backward"), _flops(rows, "forward"))
        if claim.quantity == "itemsize":
            return self._call("").inputs[0].itemsize
        if claim.quantity == "flops_per_multiply_add":
            return self._flops_per_multiply_add()
        return None

    def _flops_per_multiply_add(self) -> Value:
        """FlopCounterMode's FLOPs of the classifier over the multiply-adds of the operands seen there."""
        left, right = _LayerFacts(self._observed, "fc").product_operands("forward")
        multiply_adds = left.elements * right.shape[1]
        return Fraction(self._observed.dispatcher["fc", "forward"], multiply_adds)

    # Measured ---------------------------------------------------------------------------------------------------------

    def measured(self, claim: Claim) -> Value | None:
        """What the allocator holds: shapes and bytes of single layers, and sums of bytes."""
        storages = self._observed.storages
        path, leaves = claim.layer, self._leaves(claim.layer)
        shaped = {"output_shape": storages.outputs, "gradient_shape": storages.input_gradients}.get(claim.quantity)
        if shaped is not None:
            if path not in self._observed.leaves:
                return None
            return shaped[path].shape if path in shaped else NONE
        held = {
            "activation_bytes": _bytes(storages.outputs),
            "gradient_bytes": _bytes(storages.input_gradients),
            "parameter_bytes": storages.parameter_bytes,
            "parameter_gradient_bytes": storages.parameter_gradient_bytes,
        }.get(claim.quantity)
        if held is None or not leaves:
            return None
        return sum(held.get(leaf, 0) for leaf in leaves)

    def dispatched(self, claim: Claim) -> int | None:
        """FlopCounterMode's figure, where it counts all that the claimed FLOPs count: products and nothing else."""
        leaves = self._leaves(claim.layer)
        kinds = {_kind(leaf) for leaf in leaves}
        products_alone = kinds == {"convolution"} or (kinds == {"linear"} and claim.phase == "forward")
        if claim.quantity != "flops" or not products_alone:
            return None
        return sum(self._observed.dispatcher.get((leaf, claim.phase), 0) for leaf in leaves)

    def _leaves(self, layer: str) -> list[str]:
        """Paths of the layer's, block's or kind's modules without children."""
        kind = layer.removeprefix("kind:") if layer.startswith("kind:") else None
        return [
            path
            for path in self._observed.leaves
            if (_kind(path) == kind if kind else not layer or path == layer or path.startswith(layer + "."))
        ]


def _kind(path: str) -> str | None:
    return _KIND_OF_NAME.get(path.rpartition(".")[2])


def _bytes(held: Mapping[str, Held]) -> dict[str, int]:
    return {path: tensor.bytes for path, tensor in held.items()}


def _flops(rows: Iterable[Row], phase: str) -> int:
    phases = ("forward", "backward") if phase == "training" else (phase,)
    return sum(row.flops or 0 for row in rows if row.phase in phases)


def _sum(column: str) -> Callable[[list[Row]], int]:
    return lambda rows: sum(getattr(row, column) or 0 for row in rows)


_SUMS: dict[str, Callable[[list[Row]], Value]] = {
    name: _sum(name)
    for name in (
        "parameters",
        "parameter_bytes",
        "activation_bytes",
        "gradient_bytes",
        "parameter_gradient_bytes",
    )
}


def _call(trace: Trace, path: str) -> CallFacts:
    """The first kind of call. Raises LookupError where there was none."""
    for call in trace.calls:
        if call.path == path:
            return call
    raise LookupError(f"{path!r} was not called")


class _LayerFacts:
    """Everything the trace has on one module. What is asked of rows and calls that are not there is a LookupError."""

    def __init__(self, observed: Observed, path: str) -> None:
        self.path = path
        self.trace = observed.trace
        self._ledger = observed.ledger

    @property
    def forward(self) -> Row:
        return self._ledger.row(self.path, "forward")

    @property
    def backward(self) -> Row:
        return self._ledger.row(self.path, "backward")

    @property
    def call(self) -> CallFacts:
        return _call(self.trace, self.path)

    def held(self, name: str) -> ParameterFacts | None:
        facts = next(facts for facts in self.trace.modules if facts.path == self.path)
        return next((held for held in (*facts.parameters, *facts.buffers) if held.name == name), None)

    def gradient(self, of: str, name: str) -> TensorSpec | None:
        return next((g.tensor for g in self.trace.gradients if (g.path, g.of, g.name) == (self.path, of, name)), None)

    def operators(self, phase: str) -> list[OperatorFacts]:
        return [facts for facts in self.trace.operators if (facts.path, facts.phase) == (self.path, phase)]

    def argument(self, position: int) -> Any:
        """A setting as the dispatcher saw it, from the layer's one operator."""
        return self.operators("forward")[0].signature.arguments[position]

    def product_operands(self, phase: str, result: tuple[int, ...] | None = None) -> tuple[TensorSpec, TensorSpec]:
        """The two matrices of the product in that phase; of several, the one with this result."""
        for facts in self.operators(phase):
            signature = facts.signature
            name = signature.operator
            if name.startswith(("aten.mm.", "aten.addmm.")) and result in (None, signature.outputs[0].shape):
                tensors = [a for a in signature.arguments if isinstance(a, TensorSpec)]
                return tensors[-2], tensors[-1]
        raise LookupError(f"no product with result {result} in {self.path!r}, {phase}")

    def product_flops(self, result: tuple[int, ...]) -> int:
        """FLOPs of the gradient product with that result: its own operator, or its part of a fused backward."""
        for facts in self.operators("backward"):
            signature = facts.signature
            if len(signature.outputs) == 1 and signature.outputs[0].shape == result:
                return (PRICES.price(signature) or Price()).matmul_flops
            if signature.operator.startswith("aten.convolution_backward"):
                mask: Any = signature.arguments[10]
                return (PRICES.price(signature) or Price()).matmul_flops // sum(map(bool, mask[:2]))
        raise LookupError(f"no gradient of shape {result} in {self.path!r}")


def _elements(name: str) -> Callable[[_LayerFacts], int]:
    return lambda facts: held.tensor.elements if (held := facts.held(name)) else 0


def _of_gradient(of: str, name: str, field: str, absent: Value | None) -> Callable[[_LayerFacts], Value | None]:
    def find(facts: _LayerFacts) -> Value | None:
        spec = facts.gradient(of, name)
        return absent if spec is None else getattr(spec, field)

    return find


def _per_output(facts: _LayerFacts) -> Value:
    return whole(Fraction(facts.forward.flops or 0, facts.call.outputs[0].elements))


def _multiply_adds(facts: _LayerFacts) -> Value:
    return whole(Fraction(facts.forward.matmul_flops or 0, 2 * facts.call.outputs[0].elements))


def _per_channel(facts: _LayerFacts) -> Value:
    return whole(Fraction(facts.forward.flops or 0, facts.call.outputs[0].shape[1]))


def _travel(facts: _LayerFacts) -> int:
    """From the operator as dispatched: convolution(x, weight, bias, stride, padding, ...), max_pool2d(x, kernel,
    ...)."""
    height = facts.call.inputs[0].shape[2]
    weight = facts.held("weight")
    if weight is not None:
        return height + 2 * int(facts.argument(4)[0]) - weight.tensor.shape[2]
    return height - int(facts.argument(1)[0])


def _window(facts: _LayerFacts) -> int:
    """max_pool2d's kernel; for a mean over positions, all of them."""
    operator = facts.operators("forward")[0].signature
    if operator.operator.startswith("aten.mean"):
        return prod(facts.call.inputs[0].shape[2:])
    kernel: Any = operator.arguments[1]
    return prod(kernel)


def _bias_gradient_flops(facts: _LayerFacts) -> int:
    return (facts.backward.flops or 0) - (facts.backward.matmul_flops or 0)


_LAYER: dict[str, Callable[[_LayerFacts], Value | None]] = {
    "input_shape": lambda facts: facts.call.inputs[0].shape,
    "output_shape": lambda facts: facts.call.outputs[0].shape,
    "output_spatial_size": lambda facts: facts.call.outputs[0].shape[2:] or (1, 1),
    "output_height": lambda facts: facts.call.outputs[0].shape[2],
    "output_width": lambda facts: facts.call.outputs[0].shape[3],
    "window_travel": _travel,
    "window_elements": _window,
    "elements": lambda facts: facts.call.outputs[0].elements,
    "activation_bytes": lambda facts: facts.forward.activation_bytes,
    "itemsize": lambda facts: facts.call.outputs[0].itemsize,
    "weights": _elements("weight"),
    "biases": _elements("bias"),
    "running_mean": _elements("running_mean"),
    "running_var": _elements("running_var"),
    "parameters": lambda facts: facts.forward.parameters,
    "parameter_bytes": lambda facts: facts.forward.parameter_bytes,
    "weight_shape": lambda facts: held.tensor.shape if (held := facts.held("weight")) else None,
    "flops_per_output_element": _per_output,
    "flops_per_element": _per_output,
    "flops_per_channel": _per_channel,
    "multiplications_per_output": _multiply_adds,
    "multiply_adds_per_output": _multiply_adds,
    "gradient_shape": _of_gradient("input", "0", "shape", NONE),
    "gradient_elements": _of_gradient("input", "0", "elements", 0),
    "gradient_bytes": lambda facts: facts.backward.gradient_bytes,
    "output_gradient_shape": _of_gradient("output", "0", "shape", None),
    "weight_gradient_shape": _of_gradient("parameter", "weight", "shape", None),
    "weight_gradient_elements": _of_gradient("parameter", "weight", "elements", None),
    "weight_gradient_bytes": _of_gradient("parameter", "weight", "nbytes", None),
    "bias_gradient_shape": _of_gradient("parameter", "bias", "shape", None),
    "bias_gradient_elements": _of_gradient("parameter", "bias", "elements", None),
    "bias_gradient_bytes": _of_gradient("parameter", "bias", "nbytes", None),
    "parameter_gradient_bytes": lambda facts: facts.backward.parameter_gradient_bytes,
    "all_gradient_bytes": lambda facts: (
        (facts.backward.gradient_bytes or 0) + (facts.backward.parameter_gradient_bytes or 0)
    ),
    "weight_gradient_flops": lambda facts: facts.product_flops(facts.held("weight").tensor.shape),  # type: ignore[union-attr]
    "input_gradient_flops": lambda facts: facts.product_flops(facts.call.inputs[0].shape),
    "bias_gradient_flops": _bias_gradient_flops,
    "parameter_gradient_elements": lambda facts: sum(
        g.tensor.elements for g in facts.trace.gradients if (g.path, g.of) == (facts.path, "parameter")
    ),
    "backward_to_forward_flops": lambda facts: Fraction(facts.backward.flops or 0, facts.forward.flops or 1),
    "weight_gradient_left_shape": lambda facts: _weight_product(facts)[0].shape,
    "weight_gradient_right_shape": lambda facts: _weight_product(facts)[1].shape,
    "input_gradient_left_shape": lambda facts: _input_product(facts)[0].shape,
    "input_gradient_right_shape": lambda facts: _input_product(facts)[1].shape,
}


def _weight_product(facts: _LayerFacts) -> tuple[TensorSpec, TensorSpec]:
    weight = facts.held("weight")
    return facts.product_operands("backward", weight.tensor.shape if weight else None)


def _input_product(facts: _LayerFacts) -> tuple[TensorSpec, TensorSpec]:
    return facts.product_operands("backward", facts.call.inputs[0].shape)


# Variants, really run -------------------------------------------------------------------------------------------------


def _ratio(variant: str, total: str) -> Callable[[RunWitness], Value]:
    return lambda run: Fraction(run._variants[variant].totals[total], run._ledger.totals[total])


def _difference(variant: str, total: str) -> Callable[[RunWitness], Value]:
    return lambda run: run._variants[variant].totals[total] - run._ledger.totals[total]


def _separable_reduction(run: RunWitness) -> Value:
    def convolutions(ledger: Ledger) -> int:
        return sum(r.flops or 0 for r in ledger.rows if r.type == "Conv2d" and r.phase == "forward")

    return Fraction(convolutions(run._ledger), convolutions(run._variants["depthwise-separable"]))


def _dense_alternative(run: RunWitness) -> Value:
    images = run._call("").inputs[0]
    features = run._ledger.row("fc").input_shape
    return parameters_of(nn.Linear(prod(images.shape[1:]), features[-1])) if features else 0


def _gap_saved(run: RunWitness) -> Value:
    last_map, logits = run._ledger.row("gap").input_shape, run._ledger.row("fc").output_shape
    if last_map is None or logits is None:
        return 0
    flattened = nn.Linear(prod(last_map[1:]), logits[-1])
    return parameters_of(flattened) - (run._ledger.row("fc").parameters or 0)


def _adam_ratio(run: RunWitness) -> Value:
    parameters = run._ledger.totals["parameter_bytes"]
    state = adam_state_bytes(run._observed.config, run._device)
    return Fraction(parameters + state, parameters)


_VARIATIONS: dict[str, Callable[[RunWitness], Value]] = {
    "dense_alternative_parameters": _dense_alternative,
    "gap_parameters_saved": _gap_saved,
    "depthwise_separable_flops_reduction": _separable_reduction,
    "resolution_doubled_flops_ratio": _ratio("resolution doubled", "forward_flops"),
    "channels_doubled_parameters_ratio": _ratio("channels doubled", "parameters"),
    "channels_doubled_flops_ratio": _ratio("channels doubled", "forward_flops"),
    "extra_block_flops": _difference("one more block", "forward_flops"),
    "extra_block_parameters": _difference("one more block", "parameters"),
    "adam_memory_ratio": _adam_ratio,
}
