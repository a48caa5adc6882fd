"""What closed forms expect of a run's modules, given the inputs that the run gave them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..theory.cost import ZERO, Cost
from ..theory.layer import Layer, ShapeError, parameter_bytes, parameter_count
from .ledger import Ledger
from .records import CallFacts, GradientFacts, ModuleFacts, Phase, Trace
from .verdict import Value

Place = tuple[str, Phase]


def from_observed_inputs(
    ledger: Ledger, trace: Trace, layers: Mapping[str, Layer]
) -> tuple[dict[Place, dict[str, Value | None]], dict[str, str]]:
    """(path, phase) -> quantity -> value for modules with a closed form; and path -> why for those without."""
    calls: dict[str, list[CallFacts]] = defaultdict(list)
    arrivals: dict[str, list[GradientFacts]] = defaultdict(list)
    for call in trace.calls:
        if call.phase == "forward":
            calls[call.path].append(call)
    for gradient in trace.gradients:
        if gradient.of == "output":
            arrivals[gradient.path].append(gradient)
    expected: dict[Place, dict[str, Value | None]] = {}
    missing = _without_form(ledger, layers)
    for facts in trace.modules:
        layer = layers.get(facts.path)
        if layer is None or not calls[facts.path]:
            continue
        try:
            expected[facts.path, "forward"] = _forward(layer, calls[facts.path])
            times = sum(arrival.times for arrival in arrivals[facts.path] if arrival.name == "0")
            backward = _backward(layer, facts, calls[facts.path], times)
            if isinstance(backward, str):
                missing[facts.path] = backward
            elif backward is not None:
                expected[facts.path, "backward"] = backward
        except ShapeError as error:
            missing[facts.path] = str(error)
    return expected, missing


def _without_form(ledger: Ledger, layers: Mapping[str, Layer]) -> dict[str, str]:
    return {
        row.path: f"{row.type} has no closed form"
        for row in ledger.rows
        if row.path not in layers and row.phase in ("forward", "backward") and row.flops
    }


def _forward(layer: Layer, calls: Sequence[CallFacts]) -> dict[str, Value | None]:
    cost = ZERO
    activation = 0
    for call in calls:
        inputs = call.inputs[: _arity(layer)]
        cost += call.times * layer.forward(*inputs)
        activation += call.times * layer.output(*inputs).nbytes
    first = calls[0].inputs[: _arity(layer)]
    return {
        "output_shape": layer.output(*first).shape,
        "parameters": parameter_count(layer),
        "parameter_bytes": parameter_bytes(layer),
        "activation_bytes": activation,
        "flops": cost.flops,
        "matmul_flops": cost.matmul_flops,
    }


def _arity(layer: Layer) -> int:
    return getattr(layer, "arity", 1)


def _backward(
    layer: Layer, facts: ModuleFacts, calls: Sequence[CallFacts], times: int
) -> dict[str, Value | None] | str | None:
    """None where no gradient came; a reason where it cannot be told which of several calls had one."""
    if not times:
        return None
    if times != sum(call.times for call in calls):
        if len(calls) > 1:
            return f"backward ran through {times} of several calls of different shapes"
        chosen = [(calls[0], times)]
    else:
        chosen = [(call, call.times) for call in calls]
    weight = any(p.trainable for p in facts.parameters if not p.name.startswith("bias"))
    bias = any(p.trainable for p in facts.parameters if p.name.startswith("bias"))
    total: Cost = ZERO
    gradient_bytes = 0
    for call, repeats in chosen:
        arity = _arity(layer)
        one = layer.backward(
            *call.inputs[:arity],
            needs_input_grad=call.inputs_need_grad[:arity],
            needs_weight_grad=weight,
            needs_bias_grad=bias,
        )
        total += repeats * one.total
        gradient_bytes += repeats * one.gradient_bytes
    return {
        "gradient_bytes": gradient_bytes,
        "parameter_gradient_bytes": one.parameter_gradient_bytes,
        "flops": total.flops,
        "matmul_flops": total.matmul_flops,
        "bias_flops": total.bias_flops,
    }
