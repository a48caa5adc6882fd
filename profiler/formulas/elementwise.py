"""Per element: arithmetic, reductions, normalizations, losses, scattered additions, optimizers.

By the convention an operation is one FLOP per element, whatever the function; of a complex element, one per real
number (2), but a complex product or quotient is 6: four multiplications, two additions.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..records import Signature
from .price import Formula, Price, argument, is_complex, is_floating, is_tensor, numbers, tensors


def per_output(flops: int) -> Formula:
    """`flops` for each number of the first output, where floating-point numbers are involved."""

    def formula(signature: Signature) -> Price:
        operands = [*signature.outputs, *tensors(signature.arguments), *tensors(tuple(signature.keywords.values()))]
        if not signature.outputs or not any(map(is_floating, operands)):
            return Price()
        return Price(flops * numbers(signature.outputs[0]))

    return formula


def multiplication(signature: Signature) -> Price | None:
    """A product or quotient: one per number, but 6 for each of two complex elements."""
    operands = [a for a in (*signature.arguments, *signature.keywords.values()) if is_tensor(a)]
    if len(operands) > 1 and all(map(is_complex, operands)):
        return Price(6 * signature.outputs[0].elements)
    return per_output(1)(signature)


def per_input(flops: int, position: int = 0, keyword: str = "self") -> Formula:
    """`flops` for each number of one argument, where that is floating-point."""

    def formula(signature: Signature) -> Price:
        tensor = argument(signature, position, keyword)
        return Price(flops * numbers(tensor)) if is_floating(tensor) else Price()

    return formula


def per_listed(flops: int) -> Formula:
    """`flops` for each number of each tensor in the first argument, a list (`_foreach_*`, fused optimizers)."""

    def formula(signature: Signature) -> Price:
        listed = tensors(argument(signature, 0, "self"))
        return Price(flops * sum(numbers(tensor) for tensor in listed if is_floating(tensor)))

    return formula


def nothing(signature: Signature) -> Price:
    """Data is moved, made or drawn, and no floating-point arithmetic done: copies, gathers, sorting by comparison."""
    return Price()


# Losses -----------------------------------------------------------------------------------------------------------


def nll_loss(signature: Signature) -> Price:
    """input, target, ...: one addition per target."""
    return Price(argument(signature, 1, "target").elements)


def nll_loss_backward(signature: Signature) -> Price:
    """grad_output, input, target, ...: one multiplication per target."""
    return Price(argument(signature, 2, "target").elements)


# Scattered additions ----------------------------------------------------------------------------------------------


def put(signature: Signature) -> Price:
    """self, indices, values, accumulate: values move, or one addition for each place that is indexed.

    (How many places a mask selects is data: then the values are taken to be as many.)"""
    target, indices = argument(signature, 0, "self"), argument(signature, 1, "indices")
    if not argument(signature, 3, "accumulate", False) or not is_floating(target):
        return Price()
    places = max(argument(signature, 2, "values").elements, _places(target, indices))
    return Price(places * (2 if is_complex(target) else 1))


def put_flat(signature: Signature) -> Price:
    """self, index, source, accumulate: values move, or one addition for each index."""
    adds = argument(signature, 3, "accumulate", False)
    return Price(argument(signature, 1, "index").elements if adds and is_floating(argument(signature, 0)) else 0)


def _places(target: Any, indices: tuple[Any, ...]) -> int:
    """Elements that index tensors address, as their shapes broadcast; None is a whole dimension. 0 for a mask."""
    given = [index for index in indices if is_tensor(index)]
    if any(index.dtype in ("bool", "uint8") for index in given):
        return 0
    rank = max((len(index.shape) for index in given), default=0)
    padded = [(1,) * (rank - len(index.shape)) + index.shape for index in given]
    broadcast = [next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True)]
    whole = [size for at, size in enumerate(target.shape) if at >= len(indices) or not is_tensor(indices[at])]
    return int(prod(broadcast) * prod(whole))


def scattered_additions(signature: Signature) -> Price:
    """scatter_add: self, dim, index, src, of which as many are added as there are indices."""
    source = argument(signature, 3, "src")
    return Price(argument(signature, 2, "index").elements * (numbers(source) // max(source.elements, 1)))


def scattered(signature: Signature) -> Price:
    """scatter, scatter_reduce: values move; with `reduce` one operation per element scattered."""
    if argument(signature, 4, "reduce") is None:
        return Price()
    return Price(argument(signature, 2, "index").elements) if is_floating(signature.outputs[0]) else Price()


def embedding_bag(signature: Signature) -> Price:
    """weight, indices, ..., per_sample_weights at 6: each row looked up is added to its bag, or first weighted too."""
    weight, indices = argument(signature, 0, "weight"), argument(signature, 1, "indices")
    weighted = is_tensor(argument(signature, 6, "per_sample_weights"))
    return Price(indices.elements * weight.shape[-1] * (1 + weighted))


def embedding_bag_backward(mode: int, weights: int, sparse: int | None = None) -> Formula:
    """grad, indices, ...: with the places of the mode, of per_sample_weights and of `sparse`.

    One addition per element looked up, none where the gradient is sparse and rows stand side by side; one
    multiplication more where they are weighted. For maxima (mode 2) an addition for each of the bags' only.
    """

    def formula(signature: Signature) -> Price:
        gradient, indices = argument(signature, 0, "grad"), argument(signature, 1, "indices")
        if argument(signature, mode, "mode", 0) == 2:
            return Price(gradient.elements)
        added = not (sparse is not None and argument(signature, sparse, "sparse", False))
        weighted = is_tensor(argument(signature, weights, "per_sample_weights"))
        return Price(indices.elements * gradient.shape[-1] * (added + weighted))

    return formula


def looked_up(flops: int, table: int, indices: int) -> Formula:
    """`flops` for each element of each row looked up in a table."""

    def formula(signature: Signature) -> Price:
        rows, of = argument(signature, indices, "indices"), argument(signature, table, "self")
        return Price(flops * rows.elements * of.shape[-1])

    return formula


# Optimizers that do a step in one operator: per number what the step costs as separate operators --------------------


def fused_adam(decay: int) -> Formula:
    """self, grads, exp_avgs, exp_avg_sqs, ...; amsgrad.

    First moment: lerp, 3. Second: times beta, plus (1-beta) g*g, 3. Denominator: root, quotient, plus eps, 3.
    Update: addcdiv, 2. `decay`: AdamW multiplies the parameter, 1. amsgrad: a maximum, 1. (Adam's weight decay, a
    float that signatures leave out, is not seen.)
    """

    def formula(signature: Signature) -> Price | None:
        greatest = bool(signature.keywords.get("amsgrad", False))
        return per_listed(11 + decay + greatest)(signature)

    return formula


def fused_sgd(signature: Signature) -> Price | None:
    """self, grads, momentum buffers; nesterov, is_first_step: the update is one product and sum by the convention 1;
    a buffer's, times the momentum and plus the gradient, 2, but at the first step a copy; nesterov's sum 1."""
    buffers = bool(tensors(argument(signature, 2, "momentum_buffer_list")))
    first = bool(signature.keywords.get("is_first_step", False))
    nesterov = bool(signature.keywords.get("nesterov", False))
    return per_listed(1 + 2 * (buffers and not first) + (buffers and nesterov))(signature)
