"""Scaled dot-product attention: softmax(Q K^T / sqrt(d)) V, a product, a softmax and a product.

With B sequences and heads together, L queries, S keys, d features per query and key and d_v per value, there
are B*L*S scores: B*L*S*d multiply-adds for them and B*L*S*d_v for the output. Masks, causal ones too, are
counted as if all scores were computed, as dense kernels do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .cost import SOFTMAX_FLOPS_PER_ELEMENT, ZERO, Cost
from .layer import Backward, Saved, ShapeError, gradients, wants
from .parameterless import Parameterless
from .pointwise import Dropout
from .tensor import TensorSpec


@dataclass(frozen=True, kw_only=True)
class ScaledDotProductAttention(Parameterless):
    """`torch.nn.functional.scaled_dot_product_attention`: (*, L, d), (*, S, d), (*, S, d_v) -> (*, L, d_v).

    Keys and values may have fewer heads (the third dimension from the end), if they divide the queries'
    (`enable_gqa`).

    `fused`: one kernel that keeps no scores, and computes them again in backward; scaling, mask and dropout
    are part of it and not counted. Otherwise separate operators: `scaled` says whether both operands are
    multiplied by the scale's root, or the queries by the scale; `mask` that one is added to the scores.
    """

    fused: bool = False
    scaled: Literal["both", "queries"] = "both"
    mask: bool = False
    dropout: float = 0.0
    training: bool = True

    kind: ClassVar[str] = "attention"

    def scores(self, *inputs: TensorSpec) -> TensorSpec:
        """(*, L, S). Raises ShapeError where queries, keys and values do not fit one another."""
        query, key, value = inputs
        shapes = f"queries {query.shape}, keys {key.shape}, values {value.shape}"
        if min(len(spec.shape) for spec in inputs) < 2:
            raise ShapeError(f"attention needs at least two dimensions: {shapes}")
        if key.shape[:-1] != value.shape[:-1] or query.shape[-1] != key.shape[-1]:
            raise ShapeError(f"attention needs as many values as keys, and keys as wide as queries: {shapes}")
        *batch, heads = query.shape[:-2] or (1,)
        *key_batch, key_heads = key.shape[:-2] or (1,)
        if batch != key_batch or key_heads < 1 or heads % key_heads:
            raise ShapeError(f"attention needs the same batch, and heads that divide: {shapes}")
        return query.with_shape(*query.shape[:-1], key.shape[-2])

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(*, L, d_v), in the queries' dtype."""
        query, _, value = inputs
        self.scores(*inputs)
        return query.with_shape(*query.shape[:-1], value.shape[-1])

    def _products(self, *inputs: TensorSpec) -> tuple[Cost, Cost]:
        """Queries times keys, and scores times values; each gradient is one of the two over again."""
        query, _, value = inputs
        scores = self.scores(*inputs).elements
        return Cost.matmul(scores * query.shape[-1]), Cost.matmul(scores * value.shape[-1])

    def _keys(self, *inputs: TensorSpec) -> tuple[TensorSpec, TensorSpec]:
        """Keys and values with as many heads as the queries: repeated, where they have fewer."""
        query, key, value = inputs
        key, value = (spec.with_shape(*query.shape[:-2], *spec.shape[-2:]) for spec in (key, value))
        return key, value

    def _scaling(self, *inputs: TensorSpec) -> tuple[Cost, Cost]:
        """Of the queries and of the keys: one multiplication per element."""
        if self.fused:
            return ZERO, ZERO
        keys = self._keys(*inputs)[0].elements if self.scaled == "both" else 0
        return Cost.elementwise(inputs[0].elements), Cost.elementwise(keys)

    def _sums(self, *inputs: TensorSpec) -> tuple[Cost, Cost]:
        """Of the gradients of repeated keys and values, over the repetitions: one addition per element."""
        pairs = zip(inputs[1:], self._keys(*inputs), strict=True)
        key, value = (0 if self.fused or one == many else many.elements for one, many in pairs)
        return Cost.elementwise(key), Cost.elementwise(value)

    def _dropout(self) -> Dropout:
        return Dropout(p=0.0 if self.fused else self.dropout, training=self.training)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Two products and 5 FLOPs per score; as separate operators, scaling, mask and dropout as well."""
        scores = self.scores(*inputs)
        masking = Cost.elementwise(scores.elements) if self.mask and not self.fused else ZERO
        softmax = Cost.elementwise(scores.elements, SOFTMAX_FLOPS_PER_ELEMENT)
        return sum(
            (*self._products(*inputs), *self._scaling(*inputs), masking, self._dropout().forward(scores)),
            start=softmax,
        )

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """With P the probabilities: dV = P^T dY; dP = dY V^T, through the softmax to dS; dQ = dS K, dK = dS^T Q.

        dV and dP cost what P V does, dQ and dK what Q K^T does. A fused kernel does all, and Q K^T again.
        """
        flags = wants(needs_input_grad, inputs)
        scores = self.scores(*inputs)
        for_query, for_key, for_value = (flag or (self.fused and any(flags)) for flag in flags)
        first, second = self._products(*inputs)
        scaled_query, scaled_key = self._scaling(*inputs)
        summed_key, summed_value = self._sums(*inputs)
        softmax = Cost.elementwise(scores.elements, SOFTMAX_FLOPS_PER_ELEMENT)
        cost = (first + scaled_query) * for_query + (first + scaled_key + summed_key) * for_key
        cost += (second + summed_value) * for_value
        if for_query or for_key:
            cost += second + softmax + self._dropout().input_gradient(scores)
        if self.fused and any(flags):
            cost += first
        return Backward(input_gradients=gradients(flags, inputs), input=cost)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """Fused: the inputs, the output, a float32 log-sum per query. Else scaled or repeated copies and the scores.

        With dropout, the mask and the thinned probabilities too.
        """
        query, key, value = inputs
        scores = self.scores(*inputs)
        if self.fused:
            sums = TensorSpec(query.shape[:-1], "float32")
            kept = tuple(Saved("input", spec) for spec in inputs)
            return (*kept, Saved("output", self.output(*inputs)), Saved("statistics", sums))
        keys, values = self._keys(*inputs)
        copied = self.scaled == "both" or keys != key
        dropout = self._dropout()
        thinned = (*dropout.saved(scores), Saved("intermediate", scores)) if dropout.works else ()
        return (
            Saved("intermediate", query),
            Saved("intermediate" if copied else "input", keys),
            Saved("intermediate" if values != value else "input", values),
            Saved("intermediate", scores),
            *thinned,
        )
