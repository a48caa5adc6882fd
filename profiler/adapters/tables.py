"""Linear and bilinear layers, and tables looked up by index."""

from __future__ import annotations

from torch import nn

from ... import theory
from .reading import Read, typed, unless

_TABLE = ("num_embeddings", "embedding_dim")

TABLES: dict[type[nn.Module], Read] = {
    nn.Linear: typed(theory.Linear, "in_features", "out_features"),
    nn.Bilinear: typed(theory.Bilinear, "in1_features", "in2_features", "out_features"),
    # A maximal norm scales rows at each look-up; a sparse gradient is no table.
    nn.Embedding: unless(
        typed(theory.Embedding, *_TABLE, bias=False), max_norm=None, scale_grad_by_freq=False, sparse=False
    ),
    nn.EmbeddingBag: unless(
        typed(theory.EmbeddingBag, *_TABLE, "mode", bias=False),
        max_norm=None,
        scale_grad_by_freq=False,
        sparse=False,
        include_last_offset=False,
        padding_idx=None,
    ),
}
