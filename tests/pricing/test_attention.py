"""Attention in one operator: as its products by hand, as FlopCounterMode, as the operators it stands for."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchtally.profiler.formulas import Price

from .running import count, numbers, priced, tensor

N, HEADS, L, S, D, DV = 2, 4, 6, 5, 8, 7
SCORES = N * HEADS * L * S
FORWARD = Price(2 * SCORES * (D + DV) + 5 * SCORES, 2 * SCORES * (D + DV))
BACKWARD = Price(2 * SCORES * (3 * D + 2 * DV) + 5 * SCORES, 2 * SCORES * (3 * D + 2 * DV))

Q, K, V = tensor(N, HEADS, L, D), tensor(N, HEADS, S, D), tensor(N, HEADS, S, DV)
OUT, LSE, SEED = tensor(N, HEADS, L, DV), tensor(N, HEADS, L), tensor(dtype="int64")

FUSED = [
    ("_scaled_dot_product_flash_attention", (Q, K, V, None, False)),
    ("_scaled_dot_product_flash_attention_for_cpu", (Q, K, V, None, True)),
    ("_scaled_dot_product_efficient_attention", (Q, K, V, None, True)),
    ("_scaled_dot_product_cudnn_attention", (Q, K, V, None, True, None, True)),
    ("_scaled_dot_product_fused_attention_overrideable", (Q, K, V)),
]
FUSED_BACKWARD = [
    (
        "_scaled_dot_product_flash_attention_backward",
        (OUT, Q, K, V, OUT, LSE, None, None, L, S, None, False, SEED, SEED),
    ),
    ("_scaled_dot_product_flash_attention_for_cpu_backward", (OUT, Q, K, V, OUT, LSE, None, False)),
    (
        "_scaled_dot_product_efficient_attention_backward",
        (OUT, Q, K, V, None, OUT, LSE, SEED, SEED, None, (True, True, True, False)),
    ),
    ("_scaled_dot_product_cudnn_attention_backward", (OUT, Q, K, V, OUT, LSE, SEED, SEED, None, None, None, L, S)),
    ("_scaled_dot_product_fused_attention_overrideable_backward", (OUT, Q, K, V, None, (True,) * 4, OUT, LSE)),
]


@pytest.mark.parametrize(("operator", "arguments"), FUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_fused_kernels_cost_the_same_everywhere(operator: str, arguments: tuple[Any, ...]) -> None:
    assert priced(f"aten.{operator}.default", *arguments, outputs=[OUT, LSE]) == FORWARD


@pytest.mark.parametrize(
    ("operator", "arguments"), FUSED_BACKWARD, ids=lambda value: value if isinstance(value, str) else ""
)
def test_fused_backward_computes_the_scores_again(operator: str, arguments: tuple[Any, ...]) -> None:
    """Five products where separate operators need four."""
    assert priced(f"aten.{operator}.default", *arguments, outputs=[Q, K, V]) == BACKWARD


def test_length_first_layouts() -> None:
    """(N, L, heads, d); packed sequences' lengths are data."""
    q, k, v = tensor(N, L, HEADS, D), tensor(N, S, HEADS, D), tensor(N, S, HEADS, DV)
    out = tensor(N, L, HEADS, DV)
    assert (
        priced("aten._flash_attention_forward", q, k, v, None, None, L, S, None, False, False, outputs=[out]) == FORWARD
    )
    assert (
        priced("aten._efficient_attention_forward", q, k, v, None, None, None, L, S, None, 0, outputs=[out]) == FORWARD
    )
    backward = (out, q, k, v, out, LSE, None, None, L, S, None, False)
    assert priced("aten._flash_attention_backward", *backward) == BACKWARD
    backward = (out, q, k, v, None, out, None, None, L, S, LSE)
    assert priced("aten._efficient_attention_backward", *backward) == BACKWARD


def test_packed_sequences_are_unpriced() -> None:
    q, ends = tensor(N * L, HEADS, D), tensor(N + 1, dtype="int32")
    with pytest.raises(AssertionError, match="has no price"):
        priced("aten._flash_attention_forward", q, q, q, ends, ends, L, L, None, False, False, outputs=[q])


def attend(**keywords: Any) -> Any:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **keywords)


def heads(*, kv: int = HEADS, grad: bool = True) -> list[torch.Tensor]:
    shapes = (N, HEADS, L, D), (N, kv, S, D), (N, kv, S, D)
    return [numbers(*shape, grad=grad) for shape in shapes]


@pytest.mark.parametrize(
    "keywords", [{}, {"is_causal": True}, {"scale": 0.5}, {"attn_mask": torch.zeros(L, S)}], ids=str
)
def test_on_this_machine(keywords: dict[str, Any]) -> None:
    """The CPU's fused kernel; a mask changes nothing."""
    seen = count(attend(**keywords), *heads())
    assert not seen.unpriced
    assert "_scaled_dot_product_flash_attention_for_cpu" in seen.names
    assert (seen.forward.matmul_flops, seen.backward.matmul_flops) == seen.fcm
    assert seen.forward == Price(2 * SCORES * 2 * D + 5 * SCORES, 2 * SCORES * 2 * D)
    assert seen.backward == Price(2 * SCORES * 5 * D + 5 * SCORES, 2 * SCORES * 5 * D)


def test_fewer_heads_of_keys() -> None:
    seen = count(attend(enable_gqa=True), *heads(kv=2))
    assert seen.forward.matmul_flops == 2 * SCORES * 2 * D == seen.fcm[0]
    assert seen.backward.matmul_flops == 2 * SCORES * 5 * D == seen.fcm[1]


def test_separate_operators_differ_in_the_recomputed_product_only() -> None:
    with sdpa_kernel(SDPBackend.MATH):
        apart = count(attend(), *heads())
    fused = count(attend(), *heads())
    assert apart.forward.matmul_flops == fused.forward.matmul_flops
    assert apart.backward.matmul_flops + 2 * SCORES * D == fused.backward.matmul_flops
    meta = count(attend(), *(tensor.to("meta") for tensor in heads(grad=False)))
    assert meta.forward.matmul_flops == fused.forward.matmul_flops


# Fast paths -------------------------------------------------------------------------------------------------------

E, FF = 16, 24


def encoder_layer(**settings: Any) -> nn.TransformerEncoderLayer:
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(E, HEADS, FF, batch_first=True, dropout=0.0, **settings)


@pytest.mark.parametrize("settings", [{}, {"activation": "gelu"}, {"norm_first": True}], ids=str)
def test_encoder_layer_on_the_fast_path_costs_what_it_costs_off_it(settings: dict[str, Any]) -> None:
    layer, x = encoder_layer(**settings), numbers(N, L, E, grad=False)
    slow = count(layer, x, backward=False)
    with torch.no_grad():
        fast = count(layer.eval(), x)
    assert "_transformer_encoder_layer_fwd" in fast.names
    assert "_transformer_encoder_layer_fwd" not in slow.names
    assert fast.forward == slow.forward
    rows, scores = N * L, N * HEADS * L * L
    products = 2 * (4 * rows * E * E + 2 * scores * (E // HEADS) + 2 * rows * E * FF)
    assert fast.forward == Price(products + 5 * scores + rows * FF + 12 * rows * E, products)
    assert (slow.fcm[0], fast.fcm[0]) == (products, 0)  # FlopCounterMode sees nothing on the fast path


@pytest.mark.parametrize("weights", [{"need_weights": False}, {}, {"average_attn_weights": False}], ids=str)
def test_multihead_attention_on_the_fast_path_costs_what_it_costs_off_it(weights: dict[str, Any]) -> None:
    layer, x = nn.MultiheadAttention(E, HEADS, batch_first=True), numbers(N, L, E, grad=False)
    slow = count(layer, x, x, x) if not weights else count(lambda a: layer(a, a, a, **weights), x)
    layer.eval()
    with torch.no_grad():
        fast = count(lambda a: layer(a, a, a, **weights), x)
    assert "_native_multi_head_attention" in fast.names
    assert fast.forward == slow.forward
    assert fast.fcm[0] == 0 < slow.fcm[0]


def test_encoder_of_many_layers() -> None:
    """The fast path's figure is that of training, in a whole model too."""
    model = nn.TransformerEncoder(encoder_layer(), 3, enable_nested_tensor=False)
    x = numbers(N, L, E, grad=False)
    trained = count(model, x)
    with torch.inference_mode():
        fast = count(model.eval(), x)
    assert fast.forward == trained.forward
    assert not fast.unpriced and not trained.unpriced


def test_flex_attention() -> None:
    """One operator of higher order; the function on the scores is part of it, and is not counted."""
    shapes = (Q, K, tensor(N, HEADS, S, DV), "score_mod", (), None, ())
    assert priced("flex_attention", *shapes, outputs=[OUT, LSE]) == FORWARD
    assert priced("flex_attention_backward", Q, K, V, OUT, LSE, OUT, None, outputs=[Q, K, V]) == BACKWARD


FLEX = """
import warnings; warnings.simplefilter("ignore")
import torch, torchtally
from torch.nn.attention.flex_attention import flex_attention

class Model(torch.nn.Module):
    def forward(self, q, k, v):
        return flex_attention(q, k, v, score_mod=lambda score, b, h, i, j: score + i - j)

with torchtally.profile(model := Model()) as run:
    model(torch.rand(2, 4, 6, 8), torch.rand(2, 4, 5, 8), torch.rand(2, 4, 5, 8))
print([entry.operator for entry in run.coverage.unpriced], run.totals["forward_matmul_flops"])
"""


def test_flex_attention_as_it_runs() -> None:
    """In its own process, for it imports torch._dynamo, which changes torch. (FlopCounterMode makes it fail.)"""
    done = subprocess.run([sys.executable, "-c", FLEX], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"[] {2 * SCORES * 2 * D}", done.stderr
