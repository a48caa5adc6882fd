"""torchvision's own kinds, by their full names: it is imported only by who uses it."""

from __future__ import annotations

from typing import Any

from ... import theory
from ...theory.layer import Layer
from .reading import Read, dtype


def _shifted_window(*, cosine: bool) -> Read:
    def read(module: Any) -> Layer:
        return theory.ShiftedWindowAttention(
            features=module.proj.out_features,
            heads=module.num_heads,
            window=tuple(module.window_size),
            qkv_bias=module.qkv.bias is not None,
            proj_bias=module.proj.bias is not None,
            cosine=cosine,
            dtype=dtype(module),
        )

    return read


def _relative(module: Any) -> Layer:
    return theory.RelativePositionalAttention(
        features=module.n_heads * module.head_dim,
        heads=module.n_heads,
        tokens=module.max_seq_len,
        dtype=dtype(module),
    )


VISION: dict[str, Read] = {
    "torchvision.models.swin_transformer.ShiftedWindowAttention": _shifted_window(cosine=False),
    "torchvision.models.swin_transformer.ShiftedWindowAttentionV2": _shifted_window(cosine=True),
    "torchvision.models.maxvit.RelativePositionalMultiHeadAttention": _relative,
}
