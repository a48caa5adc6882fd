"""What a forward pass is made of, from torchtally's own facts, and what each counter makes of each part.

A part is one kind of work, of all layers that do it. `torchtally` says what torchtally books; a tool's rule says what
the tool books for the same work, from the part's own sizes. Rules were read from the sources of the versions that
results/reconcile.md names; whether they are right is held against what the tools print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from math import prod

from torchtally import PRICES, Run, Signature
from torchtally.theory.tensor import TensorSpec


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kind of work. FLOPs, multiply-adds, elements of results and of inputs, and parameters of its modules."""

    torchtally: int = 0
    multiply_adds: int = 0
    elements: int = 0
    inputs: int = 0
    parameters: int = 0

    def __add__(self, other: Part) -> Part:
        return Part(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(Part)})

    def __mul__(self, times: int) -> Part:
        return Part(**{each.name: getattr(self, each.name) * times for each in fields(Part)})


# Parts ----------------------------------------------------------------------------------------------------------------

ELEMENTWISE = {
    "aten.native_batch_norm.default": "BatchNorm",
    "aten.native_layer_norm.default": "LayerNorm",
    "aten.relu_.default": "ReLU",
    "aten.gelu.default": "GELU",
    "aten.max_pool2d_with_indices.default": "max pooling",
    "aten.mean.dim": "global average pooling",
    "aten.add_.Tensor": "additions of branches",
    "aten.add.Tensor": "additions of branches",
}
ATTENTION = "aten._scaled_dot_product_flash_attention_for_cpu.default"
PARAMETERS = {
    ("Linear", "weight"): "linear layers",
    ("Linear", "bias"): "linear layers, bias",
    ("BatchNorm2d", "weight"): "BatchNorm",
    ("BatchNorm2d", "bias"): "BatchNorm",
    ("LayerNorm", "weight"): "LayerNorm",
    ("LayerNorm", "bias"): "LayerNorm",
}


def parts(run: Run) -> dict[str, Part]:
    """The parts of a counted forward pass; torchtally's FLOPs of all parts are its `forward_flops`.

    Raises ValueError for an operator that has FLOPs and belongs to no part.
    """
    types = {module.path: module.type for module in run.trace.modules}
    found: dict[str, Part] = {}
    for facts in run.trace.operators:
        for name, part in _of_operator(types[facts.path], facts.signature):
            found[name] = found.get(name, Part()) + part * facts.times
    for module in run.trace.modules:
        for held in module.parameters:
            name = PARAMETERS.get((module.type, held.name), "")
            if name in found:
                found[name] += Part(parameters=held.tensor.elements)
    return found


def _of_operator(module: str, signature: Signature) -> Iterator[tuple[str, Part]]:
    if signature.operator == "aten.convolution.default":
        yield from _product("convolutions", signature, signature.arguments[2])
    elif signature.operator == "aten.addmm.default":
        name = "attention's projections" if module == "MultiheadAttention" else "linear layers"
        yield from _product(name, signature, signature.arguments[0])
    elif signature.operator == ATTENTION:
        yield from _attention(signature)
    elif signature.operator in ELEMENTWISE:
        yield ELEMENTWISE[signature.operator], _part(signature)
    elif _flops(signature):
        raise ValueError(f"{signature.operator} of {module} belongs to no part")


def _product(name: str, signature: Signature, bias: object) -> Iterator[tuple[str, Part]]:
    yield name, _part(signature)
    if bias is not None:
        yield f"{name}, bias", Part(elements=signature.outputs[0].elements)


def _attention(signature: Signature) -> Iterator[tuple[str, Part]]:
    """Queries of samples x heads x Tq x D against keys of Tk: softmax is of samples * heads * Tq * Tk elements."""
    price = PRICES.price(signature)
    queries, keys = signature.arguments[:2]
    assert price is not None
    assert isinstance(queries, TensorSpec)
    assert isinstance(keys, TensorSpec)
    scores = prod(queries.shape[:-1]) * keys.shape[-2]
    products = price.matmul_flops
    yield "attention's products", Part(torchtally=products, multiply_adds=products // 2)
    yield "softmax", Part(torchtally=price.flops - products, elements=scores)
    yield "scaling of queries", Part(elements=queries.elements)


def _part(signature: Signature) -> Part:
    price = PRICES.price(signature)
    first = signature.arguments[0]
    assert price is not None
    assert isinstance(first, TensorSpec)
    return Part(
        torchtally=price.flops,
        multiply_adds=price.matmul_flops // 2,
        elements=signature.outputs[0].elements,
        inputs=first.elements,
    )


def _flops(signature: Signature) -> int:
    price = PRICES.price(signature)
    return 0 if price is None else price.flops


# Rules ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """What a tool books for a part, and why, in words."""

    of: Callable[[Part], int]
    why: str


Rules = Mapping[str, Rule]

_SAME = Rule(lambda part: part.torchtally, "the same")
_ONCE = Rule(lambda part: part.multiply_adds, "a multiply-add is 1, here 2")
_BIAS = Rule(lambda part: part.elements, "1 per element of the output; here none")
_ONE_EACH = Rule(lambda part: part.elements, "1 per element")
_TWO_EACH = Rule(lambda part: 2 * part.elements, "2 per element in evaluation; here always 5")
_TWICE = Rule(lambda part: 2 * part.elements, "counted twice, by a hook and by a patched function")
_OF_INPUT = Rule(lambda part: part.inputs, "1 per element of the input")
_WINDOWS_BY_INPUT = Rule(lambda part: part.inputs, "1 per element of the input; here 1 per element of each window")
_INPUT_TWICE = Rule(lambda part: 2 * part.inputs, "1 per element of the input, twice: by a hook and a patched function")
_PER_SAMPLE = Rule(lambda part: part.parameters, "parameters times samples; tokens are not told apart")
_PARAMETERS = Rule(lambda part: part.parameters, "parameters times samples, whatever the elements")

RULES: dict[str, Rules] = {
    "FlopCounterMode": dict.fromkeys(
        ("convolutions", "linear layers", "attention's projections", "attention's products"), _SAME
    ),
    "fvcore": {
        **dict.fromkeys(("convolutions", "linear layers", "attention's projections"), _ONCE),
        "BatchNorm": _TWO_EACH,
        "LayerNorm": _SAME,
        "global average pooling": _OF_INPUT,
    },
    "torchinfo": {
        "convolutions": _ONCE,
        "convolutions, bias": _BIAS,
        "linear layers": _PER_SAMPLE,
        "linear layers, bias": _PER_SAMPLE,
        "BatchNorm": _PARAMETERS,
        "LayerNorm": _PARAMETERS,
    },
    "ptflops": {
        **dict.fromkeys(("convolutions", "linear layers", "attention's projections", "attention's products"), _ONCE),
        **dict.fromkeys(("convolutions, bias", "linear layers, bias", "attention's projections, bias"), _BIAS),
        "softmax": Rule(lambda part: part.elements, "1 per element; here 5"),
        "scaling of queries": Rule(lambda part: part.elements, "1 per element; here part of the kernel"),
        "BatchNorm": _TWO_EACH,
        "LayerNorm": Rule(lambda part: part.elements, "1 per element, its scale and shift unnoticed; here 5"),
        "ReLU": _TWICE,
        "GELU": _TWICE,
        "max pooling": _INPUT_TWICE,
        "global average pooling": _INPUT_TWICE,
    },
    "ptflops, aten": {
        **dict.fromkeys(("convolutions", "linear layers", "attention's projections"), _ONCE),
        **dict.fromkeys(("convolutions, bias", "linear layers, bias", "attention's projections, bias"), _BIAS),
    },
    "DeepSpeed": {
        **dict.fromkeys(("convolutions", "linear layers", "attention's projections", "attention's products"), _SAME),
        "convolutions, bias": _BIAS,
        "BatchNorm": _TWO_EACH,
        "LayerNorm": _SAME,
        "ReLU": _ONE_EACH,
        "GELU": _ONE_EACH,
        "max pooling": _WINDOWS_BY_INPUT,
        "global average pooling": _OF_INPUT,
    },
}
"""What is not listed for a tool, it does not count. Where each rule stands:

FlopCounterMode   torch/utils/flop_counter.py
fvcore            fvcore/nn/flop_count.py, jit_handles.py
torchinfo         torchinfo/layer_info.py (`calculate_macs`; modules without children alone)
ptflops           ptflops/pytorch_ops.py (module hooks and patched functions); aten_ops.py
DeepSpeed         deepspeed/profiling/flops_profiler/profiler.py (patched functions)
"""

NOT_COUNTED = Rule(lambda part: 0, "not counted")


@dataclass(frozen=True)
class Line:
    """One part of one tool's figure: what torchtally books (FLOPs), what the tool does (its own unit), and why."""

    part: str
    torchtally: int
    tool: int
    why: str


def lines(tool: str, found: Mapping[str, Part]) -> list[Line]:
    """The parts that either of the two counts."""
    rules = RULES[tool]
    made = []
    for name, part in found.items():
        rule = rules.get(name, NOT_COUNTED)
        said = rule.of(part)
        if part.torchtally or said:
            made.append(Line(name, part.torchtally, said, "the same" if said == part.torchtally else rule.why))
    return made
