"""Models that the benchmarks run: a chain of small layers, and the shape of a Llama."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own name for it


def chain(pairs: int, width: int = 16) -> nn.Sequential:
    """`pairs` times (Linear, ReLU): almost no work, so that what observing costs shows."""
    return nn.Sequential(*(layer for _ in range(pairs) for layer in (nn.Linear(width, width), nn.ReLU())))


@dataclass(frozen=True, kw_only=True)
class LlamaShape:
    """The published sizes of a Llama 3.1; the defaults are those of the 405-billion-parameter one."""

    layers: int = 126
    hidden: int = 16384
    heads: int = 128
    key_value_heads: int = 8
    feed_forward: int = 53248
    vocabulary: int = 128256


class _Attention(nn.Module):
    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        self.size = shape.hidden // shape.heads
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.key_value_heads * self.size, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.key_value_heads * self.size, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        def split(states: Tensor, heads: int) -> Tensor:
            return states.unflatten(-1, (heads, self.size)).transpose(1, 2)

        shape = self.shape
        q = split(self.q_proj(x), shape.heads)
        k, v = (split(project(x), shape.key_value_heads) for project in (self.k_proj, self.v_proj))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        out: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))
        return out


class _FeedForward(nn.Module):
    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class _Layer(nn.Module):
    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.input_norm = nn.RMSNorm(shape.hidden)
        self.attention = _Attention(shape)
        self.output_norm = nn.RMSNorm(shape.hidden)
        self.feed_forward = _FeedForward(shape)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.input_norm(x))
        out: Tensor = x + self.feed_forward(self.output_norm(x))
        return out


class Llama(nn.Module):
    """Token indices (N, T) -> logits (N, T, vocabulary). Positions are left out: they cost next to nothing."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden)
        self.head = nn.Linear(shape.hidden, shape.vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def llama_on_meta(shape: LlamaShape) -> Llama:
    """The model without any memory."""
    with torch.device("meta"):
        return Llama(shape)
