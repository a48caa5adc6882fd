"""torchvision's own kinds, by their full names: it is imported only by who uses it."""

from __future__ import annotations

from typing import Any

from ... import theory
from ...theory.layer import Layer
from .reading import Read, dtype


def _shifted_window(*, cosine: bool = False, adapts: bool = False) -> Read:
    def read(module: Any) -> Layer:
        return theory.ShiftedWindowAttention(
            features=module.proj.out_features,
            heads=module.num_heads,
            window=tuple(module.window_size),
            qkv_bias=module.qkv.bias is not None,
            proj_bias=module.proj.bias is not None,
            cosine=cosine,
            adapts=adapts,
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


def _multiscale(module: Any) -> Layer:
    tables = (module.rel_pos_h, module.rel_pos_w, module.rel_pos_t)
    query, key, value = (("qkv", f"pool_{name}") for name in "qkv")
    return theory.MultiscaleAttention(
        heads=module.num_heads,
        width=module.head_dim,
        out_features=module.output_dim,
        projections=(query, key, value),
        tables=tuple(len(table) for table in tables if table is not None),
        dtype=dtype(module.qkv),
    )


VISION: dict[str, Read] = {
    "torchvision.models.swin_transformer.ShiftedWindowAttention": _shifted_window(),
    "torchvision.models.swin_transformer.ShiftedWindowAttentionV2": _shifted_window(cosine=True),
    "torchvision.models.video.swin_transformer.ShiftedWindowAttention3d": _shifted_window(adapts=True),
    "torchvision.models.video.mvit.MultiscaleAttention": _multiscale,
    "torchvision.models.maxvit.RelativePositionalMultiHeadAttention": _relative,
}
