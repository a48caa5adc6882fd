"""What the real run says of a claim's quantity: our counts, and what the allocator holds. No closed form is used
here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cached_property
from math import prod

from torch import nn

from ...theory.claims.records import Claim
from ..capture.storage import Held
from ..ledger import Ledger, Row
from ..records import CallFacts
from ..verdict import NONE, Value
from .kinds import kind_of, leaves_of
from .layer_facts import OF_LAYERS, LayerFacts, call_of
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
        return call_of(self._observed.trace, path)

    def _layer(self, claim: Claim) -> Value | None:
        facts = LayerFacts(self._observed, claim.layer)
        if claim.quantity == "flops":
            return self._flops(claim.layer, claim.phase)
        find = OF_LAYERS.get(claim.quantity)
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
        left, right = LayerFacts(self._observed, "fc").product_operands("forward")
        multiply_adds = left.elements * right.shape[1]
        return Fraction(self._observed.dispatcher["fc", "forward"], multiply_adds)

    # Measured ---------------------------------------------------------------------------------------------------------

    def measured(self, claim: Claim) -> Value | None:
        """What the allocator holds: shapes and bytes of single layers, and sums of bytes."""
        storages = self._observed.storages
        path, leaves = claim.layer, leaves_of(claim.layer, self._observed.leaves)
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
        leaves = leaves_of(claim.layer, self._observed.leaves)
        kinds = {kind_of(leaf) for leaf in leaves}
        products_alone = kinds == {"convolution"} or (kinds == {"linear"} and claim.phase == "forward")
        if claim.quantity != "flops" or not products_alone:
            return None
        return sum(self._observed.dispatcher.get((leaf, claim.phase), 0) for leaf in leaves)


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
