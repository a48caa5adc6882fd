"""Kinds of the `transformers` library, by their full names: it is imported only by who uses it."""

from __future__ import annotations

from typing import Any

from ... import theory
from ...theory.layer import Layer
from .reading import Read, dtype

_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def _attention(heads: str, width: str, *projections: str, out: str | None) -> Read:
    """By the names of its number of heads, of one's features, of its projections, and of that of its result."""
    query, key, value = projections

    def read(module: Any) -> Layer:
        count, features = _setting(module, heads), getattr(module, width)
        return theory.ProjectedAttention(
            heads=count,
            width=features,
            out_features=_features_out(getattr(module, out)) if out else count * features,
            projections=((query,), (key,), (value,)),
            dtype=dtype(getattr(module, query)),
        )

    return read


def _setting(module: Any, name: str) -> int:
    """The module's own, or its model's."""
    found: int = getattr(module, name, None) or getattr(module.config, name)
    return found


def _features_out(projection: Any) -> int:
    """Of a linear layer, or of GPT-2's, which names them otherwise."""
    found: int = projection.out_features if hasattr(projection, "out_features") else projection.nf
    return found


def _of_gpt2(module: Any) -> Layer | None:
    """One projection for all three, or one for queries and one for keys and values of another sequence."""
    query = "q_attn" if module.is_cross_attention else "c_attn"
    return _attention("num_heads", "head_dim", query, "c_attn", "c_attn", out="c_proj")(module)


def _experts(module: Any) -> Layer:
    return theory.GatedExperts(
        experts=module.num_experts,
        features=module.hidden_dim,
        hidden=module.intermediate_dim,
        dtype=dtype(module),
    )


def _conv1d(module: Any) -> Layer:
    return theory.TransposedLinear(in_features=module.nx, out_features=module.nf, dtype=dtype(module))


_CONFIGURED = _attention("num_attention_heads", "head_dim", *_PROJECTIONS, out="o_proj")
_BERT = _attention("num_attention_heads", "attention_head_size", "query", "key", "value", out=None)

PRETRAINED: dict[str, Read] = {
    f"transformers.{name}": read
    for name, read in {
        "pytorch_utils.Conv1D": _conv1d,
        "models.bert.modeling_bert.BertSelfAttention": _BERT,
        "models.bert.modeling_bert.BertCrossAttention": _BERT,
        "models.gpt2.modeling_gpt2.GPT2Attention": _of_gpt2,
        "models.llama.modeling_llama.LlamaAttention": _CONFIGURED,
        "models.mixtral.modeling_mixtral.MixtralAttention": _CONFIGURED,
        "models.mixtral.modeling_mixtral.MixtralExperts": _experts,
        "models.t5.modeling_t5.T5Attention": _attention("n_heads", "key_value_proj_dim", "q", "k", "v", out="o"),
        "models.vit.modeling_vit.ViTAttention": _CONFIGURED,
        "models.whisper.modeling_whisper.WhisperAttention": _attention(
            "num_heads", "head_dim", *_PROJECTIONS, out="out_proj"
        ),
    }.items()
}
