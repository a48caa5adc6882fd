"""Hold a closed form to a witness: every quantity it states, against what was counted or observed.

The convention's one factor is written here again: a multiply-add is 2 FLOPs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .brute import Result, Tally

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int64": 8, "bool": 1}
NOTHING = Tally()
Shape = tuple[int, ...]
Parts = Callable[[tuple[bool, ...], bool, bool], tuple[Tally, Tally, Tally]]


@dataclass
class Truth:
    """What a layer is and costs, as a witness has it. None: the witness does not say.

    `input_gradients` has one entry per input, None where that input can have no gradient. `parts` gives the
    tallies of input, weight and bias in backward where they depend on which other ones need a gradient.
    """

    output: Shape
    parameters: Mapping[str, Shape]
    input_gradients: Sequence[Shape | None] | None = None
    dtype: str = "float32"
    buffers: Mapping[str, Shape] | None = None
    forward: Tally | None = None
    input: Tally | None = None
    weight: Tally | None = None
    bias: Tally | None = None
    parts: Parts | None = None
    saved_bytes: int | None = None

    @classmethod
    def counted(cls, result: Result, **stated: Any) -> Truth:
        """A truth whose costs and shapes are those of a brute-force computation."""
        return cls(
            **{
                "output": result.output.shape,
                "parameters": {
                    name: grad.shape for name, grad in (result.weight_gradients | result.bias_gradients).items()
                },
                "input_gradients": [grad.shape for grad in result.input_gradients],
                "forward": result.forward,
                "input": result.input,
                "weight": result.weight,
                "bias": result.bias,
            }
            | stated
        )


def flops(tally: Tally) -> tuple[int, int, int]:
    """(flops, matmul_flops, bias_flops)"""
    products = tally.products + tally.products
    return products + tally.operations, products, tally.bias_additions


def size(shape: Shape, dtype: str) -> int:
    elements = 1
    for extent in shape:
        elements *= extent
    return elements * BYTES[dtype]


def cost(stated: Any) -> tuple[int, int, int]:
    return stated.flops, stated.matmul_flops, stated.bias_flops


def is_bias(name: str) -> bool:
    return name.startswith("bias") or name.endswith("bias")


def disagreements(layer: Any, inputs: Sequence[Any], truth: Truth) -> list[str]:
    """What the closed form states otherwise than the witness, one line each."""
    return [
        f"{what}: theory {stated!r}, oracle {true!r}"
        for what, stated, true in compare(layer, inputs, truth)
        if stated != true
    ]


def hold(layer: Any, inputs: Sequence[Any], truth: Truth) -> None:
    """Fail, naming each quantity, where the closed form and the witness disagree."""
    wrong = disagreements(layer, inputs, truth)
    assert not wrong, "\n".join([f"{layer} of {[x.shape for x in inputs]}", *wrong])


def compare(layer: Any, inputs: Sequence[Any], truth: Truth) -> Iterator[tuple[str, Any, Any]]:
    """(quantity, as theory states it, as the witness does) for everything the witness states."""
    output = layer.output(*inputs)
    yield "output.shape", output.shape, truth.output
    yield "output.dtype", output.dtype, truth.dtype
    yield "output.nbytes", output.nbytes, size(truth.output, truth.dtype)
    yield (
        "parameters",
        [(p.name, p.shape, p.dtype) for p in layer.parameters],
        [(name, shape, truth.dtype) for name, shape in truth.parameters.items()],
    )
    yield (
        "parameter bytes",
        sum(p.nbytes for p in layer.parameters),
        sum(size(shape, truth.dtype) for shape in truth.parameters.values()),
    )
    if truth.buffers is not None:
        yield "buffers", [(b.name, b.shape) for b in layer.buffers], list(truth.buffers.items())
    if truth.forward is not None:
        yield "forward", cost(layer.forward(*inputs)), flops(truth.forward)
    if truth.saved_bytes is not None:
        yield "saved bytes", sum(kept.tensor.nbytes for kept in layer.saved(*inputs)), truth.saved_bytes
    if truth.input_gradients is None:
        return
    able = [(False,) if gradient is None else (True, False) for gradient in truth.input_gradients]
    for to_inputs in itertools.product(*able):
        for to_weight, to_bias in itertools.product((True, False), repeat=2):
            yield from compare_backward(layer, inputs, truth, to_inputs, to_weight, to_bias)


def totals(layer: Any, inputs: Sequence[Any], flags: tuple[bool, ...], weight: bool, bias: bool) -> dict[str, Any]:
    """(flops, matmul_flops) of forward and of the whole backward."""
    needs = {"needs_weight_grad": weight, "needs_bias_grad": bias}
    backward = layer.backward(*inputs, needs_input_grad=flags, **needs).total
    forward = layer.forward(*inputs)
    return {"forward": cost(forward)[:2], f"backward {flags} {weight} {bias}": cost(backward)[:2]}


def compare_backward(
    layer: Any,
    inputs: Sequence[Any],
    truth: Truth,
    to_inputs: tuple[bool, ...],
    to_weight: bool,
    to_bias: bool,
) -> Iterator[tuple[str, Any, Any]]:
    assert truth.input_gradients is not None
    # One flag for all inputs, where they are alike, is the same as one each.
    flags = to_inputs[0] if len(to_inputs) == 1 else to_inputs
    backward = layer.backward(*inputs, needs_input_grad=flags, needs_weight_grad=to_weight, needs_bias_grad=to_bias)
    case = f"backward(inputs={[*map(int, to_inputs)]}, weight={to_weight:d}, bias={to_bias:d})."
    shapes = [shape if flag else None for shape, flag in zip(truth.input_gradients, to_inputs, strict=True)]
    yield case + "input_gradients", [g and g.shape for g in backward.input_gradients], shapes
    yield (
        case + "gradient_bytes",
        backward.gradient_bytes,
        sum(size(shape, x.dtype) for shape, x in zip(shapes, inputs, strict=True) if shape is not None),
    )
    trained = {name: shape for name, shape in truth.parameters.items() if (to_bias if is_bias(name) else to_weight)}
    yield case + "parameter_gradients", {p.name: p.shape for p in backward.parameter_gradients}, trained
    yield (
        case + "parameter_gradient_bytes",
        backward.parameter_gradient_bytes,
        sum(size(shape, truth.dtype) for shape in trained.values()),
    )
    if truth.parts is not None:
        parts = truth.parts(to_inputs, to_weight, to_bias)
    elif truth.input is not None and truth.weight is not None and truth.bias is not None:
        parts = (
            truth.input if any(to_inputs) else NOTHING,
            truth.weight if to_weight else NOTHING,
            truth.bias if to_bias else NOTHING,
        )
    else:
        return
    total = (0, 0, 0)
    for part, tally in zip(("input", "weight", "bias"), parts, strict=True):
        true = flops(tally)
        total = (total[0] + true[0], total[1] + true[1], total[2] + true[2])
        yield case + part, cost(getattr(backward, part)), true
    yield case + "total", cost(backward.total), total
