"""Bias additions of the forward pass, which the convention leaves out, where PyTorch dispatches them apart.

A product usually adds its bias itself (`addmm`). Where it does not, because the input is not contiguous or the product
has no such form (`Bilinear`), a vector is added to its result along the last dimension: the same work, by the same
convention, as if it had. One operator alone does not show it, only together with the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..theory.tensor import TensorSpec
from .records import OperatorFacts, Phase

_ADDITIONS = frozenset({"aten.add.Tensor", "aten.add_.Tensor"})
_PRODUCTS = frozenset({"aten.mm.default", "aten.bmm.default", "aten._trilinear.default"})

# Path, phase, elements of the result and its last dimension.
_Key = tuple[str, Phase, int, int]


def bias_additions(operators: Iterable[OperatorFacts]) -> Iterator[OperatorFacts]:
    """Those additions for which, in their module and phase, as many products made what the vector was added to."""
    products: dict[_Key, int] = {}
    additions: dict[_Key, list[OperatorFacts]] = {}
    for facts in operators:
        name, outputs = facts.signature.operator, facts.signature.outputs
        if facts.phase in ("forward", "recompute") and outputs and outputs[0].shape:
            key: _Key = (facts.path, facts.phase, outputs[0].elements, outputs[0].shape[-1])
            if name in _PRODUCTS:
                products[key] = products.get(key, 0) + facts.times
            elif name in _ADDITIONS and _adds_vector(facts):
                additions.setdefault(key, []).append(facts)
    for key, found in additions.items():
        if sum(facts.times for facts in found) <= products.get(key, 0):
            yield from found


def _adds_vector(facts: OperatorFacts) -> bool:
    """(..., n) + (n,)"""
    result, *terms = facts.signature.outputs[0], *facts.signature.arguments[:2]
    shapes = [term.shape for term in terms if isinstance(term, TensorSpec)]
    return len(result.shape) > 1 and shapes == [result.shape, result.shape[-1:]]
