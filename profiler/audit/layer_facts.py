"""Everything that one observed run has on one module: what claims of a single layer are looked up in."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import Any

from ...theory.claims.records import whole
from ...theory.tensor import TensorSpec
from ..formulas import Price
from ..ledger import Row
from ..pricing import PRICES
from ..records import CallFacts, OperatorFacts, ParameterFacts, Trace
from ..verdict import NONE, Value
from .runs import Observed


def call_of(trace: Trace, path: str) -> CallFacts:
    """The first kind of call. Raises LookupError where there was none."""
    for call in trace.calls:
        if call.path == path:
            return call
    raise LookupError(f"{path!r} was not called")


class LayerFacts:
    """The trace and the ledger, asked of one module. Raises LookupError for rows and calls that are not there."""

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
        return call_of(self.trace, self.path)

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


def _elements(name: str) -> Callable[[LayerFacts], int]:
    return lambda facts: held.tensor.elements if (held := facts.held(name)) else 0


def _of_gradient(of: str, name: str, field: str, absent: Value | None) -> Callable[[LayerFacts], Value | None]:
    def find(facts: LayerFacts) -> Value | None:
        spec = facts.gradient(of, name)
        return absent if spec is None else getattr(spec, field)

    return find


def _per_output(facts: LayerFacts) -> Value:
    return whole(Fraction(facts.forward.flops or 0, facts.call.outputs[0].elements))


def _multiply_adds(facts: LayerFacts) -> Value:
    return whole(Fraction(facts.forward.matmul_flops or 0, 2 * facts.call.outputs[0].elements))


def _per_channel(facts: LayerFacts) -> Value:
    return whole(Fraction(facts.forward.flops or 0, facts.call.outputs[0].shape[1]))


def _travel(facts: LayerFacts) -> int:
    """From the operator as dispatched: convolution(x, weight, bias, stride, padding, ...), max_pool2d(x, kernel,
    ...)."""
    height = facts.call.inputs[0].shape[2]
    weight = facts.held("weight")
    if weight is not None:
        return height + 2 * int(facts.argument(4)[0]) - weight.tensor.shape[2]
    return height - int(facts.argument(1)[0])


def _window(facts: LayerFacts) -> int:
    """max_pool2d's kernel; for a mean over positions, all of them."""
    operator = facts.operators("forward")[0].signature
    if operator.operator.startswith("aten.mean"):
        return prod(facts.call.inputs[0].shape[2:])
    kernel: Any = operator.arguments[1]
    return prod(kernel)


def _bias_gradient_flops(facts: LayerFacts) -> int:
    return (facts.backward.flops or 0) - (facts.backward.matmul_flops or 0)


OF_LAYERS: dict[str, Callable[[LayerFacts], Value | None]] = {
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


def _weight_product(facts: LayerFacts) -> tuple[TensorSpec, TensorSpec]:
    weight = facts.held("weight")
    return facts.product_operands("backward", weight.tensor.shape if weight else None)


def _input_product(facts: LayerFacts) -> tuple[TensorSpec, TensorSpec]:
    return facts.product_operands("backward", facts.call.inputs[0].shape)
