"""Recurrent layers, attention and the transformer's encoder layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn import functional

from ... import theory
from ...theory.layer import Layer
from .reading import Read, dtype

_RECURRENT = (
    "input_size",
    "hidden_size",
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
    "training",
)


def _recurrent(form: Callable[..., Layer], *extra: str) -> Read:
    names = (*_RECURRENT, *extra)
    return lambda module: form(**{name: getattr(module, name) for name in names}, dtype=dtype(module))


def _attention(module: Any) -> Layer:
    """As it is with one kernel less: each call's own settings, weights or none, are facts of the run."""
    return theory.MultiheadAttention(
        embed_dim=module.embed_dim,
        num_heads=module.num_heads,
        dropout=module.dropout,
        bias=module.in_proj_bias is not None,
        add_bias_kv=module.bias_k is not None,
        add_zero_attn=module.add_zero_attn,
        kdim=module.kdim,
        vdim=module.vdim,
        batch_first=module.batch_first,
        dtype=dtype(module),
        training=module.training,
    )


def _encoder_layer(module: Any) -> Layer | None:
    """With the usual activations, and parts that are what PyTorch made them."""
    name = _activation_name(module.activation)
    made_alike = {module.dropout.p, module.dropout1.p, module.dropout2.p, module.self_attn.dropout}
    if name is None or len(made_alike) > 1:
        return None
    return theory.TransformerEncoderLayer(
        d_model=module.self_attn.embed_dim,
        nhead=module.self_attn.num_heads,
        dim_feedforward=module.linear1.out_features,
        dropout=module.dropout.p,
        activation=name,
        norm_first=module.norm_first,
        batch_first=module.self_attn.batch_first,
        bias=module.linear1.bias is not None,
        dtype=dtype(module.linear1),
        training=module.training,
    )


def _activation_name(activation: Any) -> str | None:
    if activation is functional.relu or type(activation) is nn.ReLU:
        return "relu"
    return "gelu" if activation is functional.gelu or type(activation) is nn.GELU else None


SEQUENCE: dict[type[nn.Module], Read] = {
    nn.RNN: _recurrent(theory.RNN, "nonlinearity"),
    nn.GRU: _recurrent(theory.GRU),
    nn.LSTM: _recurrent(theory.LSTM, "proj_size"),
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _encoder_layer,
}
