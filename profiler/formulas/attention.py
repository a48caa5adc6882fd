"""Attention in one operator. With B sequences and heads, L queries, S keys, widths d and d_v: B*L*S scores, each d
multiply-adds to make, 5 FLOPs of softmax, d_v multiply-adds to use. Masks, causal ones too, count as if all scores were
computed; scaling, masking and dropout are part of the kernel and not counted.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..records import Signature
from .price import Formula, Price, argument, is_tensor, product

_SOFTMAX = 5
_NORMALIZATION = 5


def _scores(query: Any, key: Any) -> int:
    """(..., L, d) and (..., S, d); fewer heads of keys are shared by several of the queries'."""
    return int(prod(query.shape[:-1]) * key.shape[-2])


def _forward(scores: int, width: int, value_width: int) -> Price:
    return product(scores * (width + value_width)).plus(_SOFTMAX * scores)


def _backward(scores: int, width: int, value_width: int) -> Price:
    """Scores again, dQ and dK: d each; dP and dV: d_v each; and through the softmax."""
    return product(scores * (3 * width + 2 * value_width)).plus(_SOFTMAX * scores)


def attention(signature: Signature) -> Price:
    """query, key, value, ...: (..., L, d), (..., S, d), (..., S, d_v)."""
    query, key, value = (argument(signature, at, name) for at, name in enumerate(("query", "key", "value")))
    return _forward(_scores(query, key), query.shape[-1], value.shape[-1])


def attention_backward(first: int) -> Formula:
    """query, key, value from argument `first` on: five products, for the scores are computed again."""

    def formula(signature: Signature) -> Price:
        query, key, value = (argument(signature, first + at, name) for at, name in enumerate(("query", "key", "value")))
        return _backward(_scores(query, key), query.shape[-1], value.shape[-1])

    return formula


def _by_length(query: Any, key: Any, offsets: Any) -> int | None:
    """Scores of (B, L, heads, d) and (B, S, heads, d); of sequences packed by offsets, which are data, None."""
    if is_tensor(offsets) or len(query.shape) != 4:
        return None
    return int(prod(query.shape[:-1]) * key.shape[1])


def packed_attention(offsets: int) -> Formula:
    """query, key, value as (B, length, heads, width); at `offsets` those of packed sequences."""

    def formula(signature: Signature) -> Price | None:
        query, key, value = (argument(signature, at, name) for at, name in enumerate(("query", "key", "value")))
        scores = _by_length(query, key, argument(signature, offsets))
        return None if scores is None else _forward(scores, query.shape[-1], value.shape[-1])

    return formula


def packed_attention_backward(offsets: int) -> Formula:
    """grad_out, query, key, value as (B, length, heads, width); at `offsets` those of packed sequences."""

    def formula(signature: Signature) -> Price | None:
        query, key, value = (argument(signature, 1 + at, name) for at, name in enumerate(("query", "key", "value")))
        scores = _by_length(query, key, argument(signature, offsets))
        return None if scores is None else _backward(scores, query.shape[-1], value.shape[-1])

    return formula


# Whole layers, on the fast path of evaluation: what their parts cost as separate operators --------------------------


def _multihead(query: Any, key: Any, embed: int, heads: int) -> tuple[Price, int]:
    """Four projections, two products per head and the softmax; and the number of scores."""
    rows, keys = prod(query.shape[:-1]), prod(key.shape[:-1])
    scores = rows * heads * int(key.shape[-2])
    core = _forward(scores, embed // heads, embed // heads)
    projections = product((2 * rows + 2 * keys) * embed * embed)
    return Price(*(a + b for a, b in zip(core, projections, strict=True))), scores


def multihead_attention(signature: Signature) -> Price:
    """query, key, value, embed_dim, num_head, ..., need_weights at 10, average_attn_weights at 11.

    With weights as separate operators do: the queries are scaled, and the scores averaged over the heads.
    """
    query, key = argument(signature, 0, "query"), argument(signature, 1, "key")
    embed, heads = argument(signature, 3, "embed_dim"), argument(signature, 4, "num_head")
    total, scores = _multihead(query, key, embed, heads)
    if not argument(signature, 10, "need_weights", True):
        return total
    averaged = scores if argument(signature, 11, "average_attn_weights", True) else 0
    return total.plus(query.elements + averaged)


def rescaled_queries(signature: Signature) -> Price:
    """_transform_bias_rescale_qkv: queries, keys and values side by side; the queries are scaled, biases left out."""
    return Price(argument(signature, 0, "qkv").elements // 3)


def encoder_layer(signature: Signature) -> Price:
    """src, embed_dim, num_heads, ..., ffn_weight_1 at 14: self-attention without weights, two linear layers with an
    activation between, two residual sums and two normalizations."""
    x, embed, heads = (argument(signature, at, name) for at, name in enumerate(("src", "embed_dim", "num_heads")))
    hidden = argument(signature, 14, "ffn_weight_1").shape[0]
    rows = prod(x.shape[:-1])
    attended, _ = _multihead(x, x, embed, heads)
    feed_forward = product(2 * rows * embed * hidden).plus(rows * hidden)
    total = Price(*(a + b for a, b in zip(attended, feed_forward, strict=True)))
    return total.plus(2 * (1 + _NORMALIZATION) * x.elements)
