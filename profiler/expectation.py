"""What closed forms expect of a run's modules, given the inputs that the run gave them.

Ledger rows are of a module's own work. A composite kind that does its children's work itself (MultiheadAttention its
output projection's; TransformerEncoderLayer all, where PyTorch runs it as one operator) is held to all of it, and the
children to their parameters alone. Where it calls its children, they are compared instead, and the composite is held
to what is left to it: residual sums and the activation.

Sums of gradients that meet are the autograd engine's work, in a phase of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from ..theory.cost import ZERO, Cost
from ..theory.layer import Backward, Layer, Parameter, is_bias
from ..theory.tensor import TensorSpec
from ..theory.transformer import TransformerEncoderLayer
from ..theory.window_attention import RelativePositionalAttention
from .fitting import Fitted, fit
from .ledger import Ledger, Row
from .observed import NotComparableError, Observed, observe
from .records import CallFacts, Phase, Trace
from .verdict import NONE, Value

# A view's gradient arrives elsewhere once an in-place operation has written into it.
_VIEW = "an in-place operation on a view (ReLU(inplace=True) after a reshape, say)"

Place = tuple[str, Phase]
Figures = dict[str, Value | None]


def from_observed_inputs(
    ledger: Ledger, trace: Trace, layers: Mapping[str, Layer]
) -> tuple[dict[Place, Figures], dict[str, str]]:
    """(path, phase) -> quantity -> value for modules with a closed form; and path -> why for those without."""
    expected: dict[Place, Figures] = {}
    missing = _without_form(ledger, layers)
    rows = {(row.path, row.phase): row for row in ledger.rows}
    for path, seen in observe(trace, layers).items():
        for phase, state in _STATEMENTS.items() if seen.calls else ():
            try:
                figures, left_out = _speakable(state(layers[path], seen), layers[path], rows.get((path, phase)))
                of_children = _of_children(layers[path], seen, phase) if figures else {}
            except ValueError as error:  # ShapeError and NotComparableError among them
                figures, left_out, of_children = None, str(error), {}
            if left_out and left_out not in missing.get(path, ""):
                before = f"{missing[path]}; " if path in missing else ""
                missing[path] = f"{before}{phase}: {left_out}"
            if figures is not None:
                expected[path, phase] = figures
            for place, more in of_children.items():
                expected.setdefault(place, {}).update(more)
    return expected, missing


def _speakable(figures: Figures | None, layer: Layer, row: Row | None) -> tuple[Figures | None, str]:
    """What theory can be held to: not the FLOPs of operators that have no price, say. And what is left out, why.

    Where it expects nothing and there is a row, it expects no work there.
    """
    if figures is None:
        return ({"flops": 0, "matmul_flops": 0} if row is not None and row.phase == "backward" else None), ""
    if row is not None and row.unpriced:
        kept = {name: figure for name, figure in figures.items() if "flops" not in name}
        return kept, f"no price for {', '.join(row.unpriced)}"
    if getattr(layer, "products_only", False):
        unstated = {"flops", "bias_flops"} | (
            {"activation_bytes"} if getattr(layer, "products_alone", False) else set()
        )
        kept = {name: figure for name, figure in figures.items() if name not in unstated}
        return kept, "only products have a closed form"
    return figures, ""


def _without_form(ledger: Ledger, layers: Mapping[str, Layer]) -> dict[str, str]:
    return {
        row.path: f"no closed form for this {row.type}"
        for row in ledger.rows
        if row.path not in layers and row.phase in ("forward", "backward") and (row.flops or row.unpriced)
    }


# Forward --------------------------------------------------------------------------------------------------------------


def _forward(layer: Layer, seen: Observed) -> Figures:
    cost, activation = _sums(layer, seen, seen.calls)
    first = seen.calls[0]
    own = [parameter for parameter in layer.parameters if "." not in parameter.name]
    return {
        "output_shape": _outputs(fit(layer, seen, first), seen, first)[0].shape,
        **_parameter_figures(own),
        "activation_bytes": activation,
        "flops": cost.flops,
        "matmul_flops": cost.matmul_flops,
    }


def _recompute(layer: Layer, seen: Observed) -> Figures | None:
    """The same work again; None where it stopped early: a call that was broken off leaves no inputs to state it by."""
    if _tally(seen.recomputed) != _tally(seen.calls):
        return None
    cost, activation = _sums(layer, seen, seen.recomputed)
    return {"activation_bytes": activation, "flops": cost.flops, "matmul_flops": cost.matmul_flops}


def _tally(calls: Sequence[CallFacts]) -> dict[tuple[TensorSpec, ...], int]:
    found: dict[tuple[TensorSpec, ...], int] = defaultdict(int)
    for call in calls:
        found[call.inputs] += call.times
    return found


def _sums(layer: Layer, seen: Observed, calls: Sequence[CallFacts]) -> tuple[Cost, int]:
    """Cost and output bytes of all calls."""
    cost, activation = ZERO, 0
    for call in calls:
        fitted = fit(layer, seen, call)
        cost += call.times * _forward_cost(fitted, seen, call)
        activation += call.times * sum(spec.nbytes for spec in _own_outputs(fitted, seen, call))
    return cost, activation


def _forward_cost(fitted: Fitted, seen: Observed, call: CallFacts) -> Cost:
    layer, inputs = fitted.layer, fitted.inputs(call)
    if isinstance(layer, TransformerEncoderLayer) and seen.called_inside:
        rows = [row for row in layer.network.predict(*inputs) if row.path in _own_parts(seen)]
        return sum((row.forward for row in rows), start=ZERO)
    return layer.forward(*inputs)


def _outputs(fitted: Fitted, seen: Observed, call: CallFacts) -> tuple[TensorSpec, ...]:
    """All that the form gives."""
    inputs = fitted.inputs(call)
    several = getattr(fitted.layer, "outputs", None)
    stated: tuple[TensorSpec, ...] = several(*inputs) if several else (fitted.layer.output(*inputs),)
    cast = _autocast_dtype(stated[0], seen, call)
    return tuple(spec.with_dtype(cast) if cast and spec.is_floating else spec for spec in stated)


def _autocast_dtype(stated: TensorSpec, seen: Observed, call: CallFacts) -> str | None:
    """Autocast has a module compute in another dtype than its input's: it casts first, and the output shows to what."""
    given = call.outputs[0]
    casts = given.is_floating and given.dtype != stated.dtype and seen.times("aten._to_copy") > 0
    return given.dtype if casts else None


def _own_outputs(fitted: Fitted, seen: Observed, call: CallFacts) -> tuple[TensorSpec, ...]:
    """Those that no child gave already, as a last norm or projection does."""
    layer = fitted.layer
    ends_with_child = isinstance(layer, RelativePositionalAttention) or (
        isinstance(layer, TransformerEncoderLayer) and not layer.norm_first
    )
    return () if seen.called_inside and ends_with_child else _outputs(fitted, seen, call)


def _own_parts(seen: Observed) -> set[str]:
    """What an encoder layer does itself when it calls its children: the activation may be one of them."""
    return {"residual1", "residual2"} | {"activation"} - seen.children


# Backward -------------------------------------------------------------------------------------------------------------


def _backward(layer: Layer, seen: Observed) -> Figures | None:
    """None where no gradient came."""
    chosen = _calls_with_backward(seen)
    if not chosen:
        if seen.unseen and any(gradient.of == "input" for gradient in seen.arrivals):
            raise NotComparableError(f"a gradient left it, and none was seen to come: {_VIEW}")
        return None
    needs = _trained(layer, seen)
    if any(g.of == "parameter" and g.tensor != seen.parameters[g.name].tensor for g in seen.arrivals):
        raise NotComparableError("its parameters were changed within the block")
    total, gradient_bytes = ZERO, 0
    for call, times in chosen:
        fitted = fit(layer, seen, call)
        cost, gradients = _backward_cost(fitted, seen, call, needs)
        total += times * cost
        gradient_bytes += times * sum(spec.nbytes for spec in gradients.values())
    received = [p for p in layer.parameters if needs[is_bias(p)] and p.name in seen.first_held]
    figures: Figures = {
        "parameter_gradient_bytes": sum(p.nbytes for p in received if "." not in p.name),
        "flops": total.flops,
        "matmul_flops": total.matmul_flops,
        "bias_flops": total.bias_flops,
    }
    if not seen.called_inside:  # else the input's gradient is the child's to which it was handed
        figures["gradient_bytes"] = gradient_bytes
    if not seen.called_inside and len({call.inputs for call, _ in chosen}) == 1:
        figures["gradient_shape"] = gradients[min(gradients)].shape if gradients else NONE
        figures["output_gradient_shape"] = _outputs(fitted, seen, call)[_first_arrived(seen)].shape
    return figures


def _first_arrived(seen: Observed) -> int:
    """The position of the first output that got a gradient."""
    return min(int(gradient.name) for gradient in seen.arrivals if gradient.of == "output")


def _calls_with_backward(seen: Observed) -> list[tuple[CallFacts, int]]:
    """Which calls had a backward, and how often.

    Gradients that arrive show it by the shape of the output that they are of. Raises NotComparableError where calls
    of one output shape differ, and not all of them had one.
    """
    alike: dict[TensorSpec, list[CallFacts]] = defaultdict(list)
    for call in _recorded(seen):
        if call.outputs:
            alike[call.outputs[0]].append(call)
    chosen = []
    for output, calls in alike.items():
        times, made = seen.arrived(output), sum(call.times for call in calls)
        if times and len({(call.inputs, call.inputs_need_grad) for call in calls}) == 1:
            chosen.append((calls[0], times))
        elif times == made:
            chosen += [(call, call.times) for call in calls]
        elif times:
            raise NotComparableError(f"a gradient came to {times} of {made} calls, which differ")
    return chosen


def _recorded(seen: Observed) -> Sequence[CallFacts]:
    """The calls that autograd recorded: under a checkpoint of the older kind, only the recomputed ones; where one is
    within another, so that there are more of these than calls, those that were given something that needs a gradient.
    """
    made, again = (sum(call.times for call in calls) for calls in (seen.calls, seen.recomputed))
    flags = (sum(sum(call.inputs_need_grad) for call in calls) for calls in (seen.recomputed, seen.calls))
    if again < made or not int.__gt__(*flags):
        return seen.calls
    return [call for call in seen.recomputed if again == made or any(call.inputs_need_grad)]


def _trained(layer: Layer, seen: Observed) -> dict[bool, bool]:
    """Whether the weights are trained (False) and the biases (True).

    Raises NotComparableError where only some are, or where a trained one's gradient was not asked for: whether it was
    computed does not show then.
    """
    answers: dict[bool, bool] = {False: False, True: False}
    own = [p for p in layer.parameters if p.name.rpartition(".")[0] not in seen.called_children]
    for biases in answers:
        names = {parameter.name for parameter in own if is_bias(parameter) is biases}
        if not names <= seen.parameters.keys():
            raise NotComparableError("it shares a child with another module, which has the child's name")
        trained = {name for name in names if seen.parameters[name].trainable}
        if trained not in (set(), names):
            raise NotComparableError(f"trained are {', '.join(sorted(trained))} alone")
        if not trained <= seen.given:
            left = ", ".join(sorted(trained - seen.given))
            raise NotComparableError(f"no gradient was accumulated for {left}: autograd.grad, or inputs chosen")
        answers[biases] = bool(trained)
    return answers


def _backward_cost(
    fitted: Fitted, seen: Observed, call: CallFacts, needs: Mapping[bool, bool]
) -> tuple[Cost, dict[int, TensorSpec]]:
    """The cost, and the inputs' gradients by their position among the call's tensors."""
    layer, inputs = fitted.layer, fitted.inputs(call)
    flags = tuple(call.inputs_need_grad[position] for position in fitted.positions)
    if isinstance(layer, TransformerEncoderLayer) and seen.called_inside:
        return _backward_of_own_parts(layer, seen, inputs, flags), {}
    if isinstance(layer, RelativePositionalAttention):  # what it works on comes from a child
        made_by_child = any(seen.parameters[f"to_qkv.{name}"].trainable for name in ("weight", "bias"))
        flags = (flags[0] or made_by_child,)
    for position, flag in zip(fitted.positions, flags, strict=True):
        if flag and not seen.called_inside and not seen.reached(position):
            raise NotComparableError(
                f"its input needs a gradient, and none was seen to leave it: autograd.grad, chosen inputs, or {_VIEW}"
            )
    one: Backward = layer.backward(
        *inputs, needs_input_grad=flags, needs_weight_grad=needs[False], needs_bias_grad=needs[True]
    )
    gradients = {
        position: spec for position, spec in zip(fitted.positions, one.input_gradients, strict=True) if spec is not None
    }
    return one.total, gradients


def _backward_of_own_parts(
    layer: TransformerEncoderLayer, seen: Observed, inputs: tuple[TensorSpec, ...], flags: tuple[bool, ...]
) -> Cost:
    frozen = [name for name, parameter in seen.parameters.items() if not parameter.trainable]
    rows = layer.network.predict(*inputs, input_requires_grad=flags[0], frozen=frozen)
    own = [row.backward.total for row in rows if row.path in _own_parts(seen) and row.backward]
    return sum(own, start=ZERO)


# Parameters -----------------------------------------------------------------------------------------------------------


def _parameter_figures(parameters: Sequence[Parameter]) -> Figures:
    return {
        "parameters": sum(parameter.elements for parameter in parameters),
        "parameter_bytes": sum(parameter.nbytes for parameter in parameters),
    }


def _of_children(layer: Layer, seen: Observed, phase: Phase) -> dict[Place, Figures]:
    """What a composite says of children that it did not call: their parameters, and the gradients of these."""
    by_child: dict[str, list[Parameter]] = defaultdict(list)
    for parameter in layer.parameters:
        child = parameter.name.rpartition(".")[0]
        if child and child not in seen.called_children:
            by_child[child].append(parameter)
    paths = {child: f"{seen.path}.{child}".lstrip(".") for child in by_child}
    if phase == "forward":
        return {(paths[child], phase): _parameter_figures(found) for child, found in by_child.items()}
    if phase == "recompute":
        return {}
    needs = _trained(layer, seen)
    given = {
        child: sum(p.nbytes for p in found if needs[is_bias(p)] and p.name in seen.first_held)
        for child, found in by_child.items()
    }
    return {(paths[child], phase): {"parameter_gradient_bytes": figure} for child, figure in given.items() if figure}


_STATEMENTS: dict[Phase, Callable[[Layer, Observed], Figures | None]] = {
    "forward": _forward,
    "recompute": _recompute,
    "backward": _backward,
}
