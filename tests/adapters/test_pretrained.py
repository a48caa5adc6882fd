"""Attention and experts of other libraries: closed forms of their products agree, or say why there is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.video.mvit import MultiscaleAttention

import torchtally
from torchtally import Profile
from torchtally.profiler.adapters import adapt

from .running import Calling, agreed, differences, step

N, L, S, HEADS, WIDTH = 2, 6, 5, 4, 2
C = HEADS * WIDTH


def matmul(run: Profile, path: str, phase: str) -> int:
    return agreed(run.compare(), path, phase).get("matmul_flops", 0)


def scores(queries: int, keys: int) -> int:
    """FLOPs of queries times keys."""
    return 2 * N * HEADS * queries * keys * WIDTH


# torchvision's MViT ---------------------------------------------------------------------------------------------------

GRID = (2, 4, 4)  # time, height, width of the tokens, besides the one of the class


def multiscale(*, positions: bool, pooled: bool = True) -> nn.Module:
    stride = [1, 2, 2]
    attention = MultiscaleAttention(
        input_size=list(GRID), embed_dim=C, output_dim=C, num_heads=HEADS, kernel_q=[3, 3, 3], kernel_kv=[3, 3, 3],
        stride_q=stride, stride_kv=stride if pooled else [1, 1, 1], residual_pool=False, residual_with_cls_embed=False,
        rel_pos_embed=positions,
    )  # fmt: skip
    return Calling(lambda self, x: self.it(x, GRID)[0], it=attention)


@pytest.mark.parametrize("pooled", [True, False])
def test_multiscale_attention(pooled: bool) -> None:
    queries, keys = 1 + 2 * 2 * 2, 1 + (2 * 2 * 2 if pooled else 2 * 4 * 4)
    axes = 2 + 2 + 2 if pooled else 2 + 4 + 4
    run = step(multiscale(positions=True, pooled=pooled), torch.rand(N, 1 + 2 * 4 * 4, C))
    assert differences(run.compare()) == []
    met = 2 * N * HEADS * (queries - 1) * WIDTH * axes
    assert matmul(run, "it", "forward") == 2 * scores(queries, keys) + met
    assert matmul(run, "it", "backward") == 4 * scores(queries, keys) + 2 * met


def test_multiscale_attention_without_positions_and_with_frozen_parts() -> None:
    x = torch.rand(N, 1 + 2 * 4 * 4, C)
    plain = multiscale(positions=False)
    assert differences((run := step(plain, x)).compare()) == []
    assert matmul(run, "it", "forward") == 2 * scores(9, 9)
    tables = multiscale(positions=True)
    for name, parameter in tables.named_parameters():
        parameter.requires_grad_("rel_pos" in name)
    assert differences((run := step(tables, x)).compare()) == []
    assert matmul(run, "it", "backward") == scores(9, 9) + 2 * N * HEADS * 8 * WIDTH * 6, "scores, then the tables"


# transformers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library() -> Any:
    """Its first model adds a method to torch's modules for good: made here, before a test looks for what is left."""
    found = pytest.importorskip("transformers")
    found.logging.set_verbosity_error()
    found.BertModel(found.BertConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=2))
    return found


def llama(library: Any, **settings: Any) -> nn.Module:
    config = {"vocab_size": 32, "hidden_size": C, "intermediate_size": 20, "num_hidden_layers": 1, **settings}
    return library.LlamaForCausalLM(
        library.LlamaConfig(num_attention_heads=HEADS, num_key_value_heads=2, pad_token_id=0, **config)
    )


ATTENTION = "model.layers.0.self_attn"


def words(length: int = L) -> Tensor:
    return torch.arange(N * length).reshape(N, length) % 32


def trained(model: nn.Module, **given: Any) -> Profile:
    with torchtally.profile(model) as run:
        model(**given).logits.sum().backward()
    assert differences(run.compare()) == []
    return run


@pytest.mark.parametrize(("how", "products"), [("eager", 4), ("sdpa", 5)])
def test_attention_in_one_kernel_or_several(library: Any, how: str, products: int) -> None:
    """One kernel computes the scores again in backward. Keys shared by heads are repeated, and cost the same."""
    run = trained(llama(library, attn_implementation=how), input_ids=words(), use_cache=False)
    assert matmul(run, ATTENTION, "forward") == 2 * scores(L, L)
    assert matmul(run, ATTENTION, "backward") == products * scores(L, L)


def test_projections_that_are_frozen(library: Any) -> None:
    model = llama(library, attn_implementation="eager").requires_grad_(False)
    model.model.layers[0].self_attn.v_proj.requires_grad_(True)
    run = trained(model, input_ids=words(), use_cache=False)
    assert matmul(run, ATTENTION, "backward") == scores(L, L), "the values' gradient"


def test_keys_from_a_cache_are_named(library: Any) -> None:
    model = llama(library).eval()
    with torch.no_grad():
        before = model(input_ids=words(), use_cache=True).past_key_values
        with torchtally.profile(model) as run:
            model(input_ids=words(1), past_key_values=before, use_cache=True)
    assert differences(run.compare()) == []
    assert "they come from a cache" in run.compare().not_compared[ATTENTION]
    assert run.ledger.row(ATTENTION).matmul_flops == 2 * scores(1, L + 1)


@pytest.mark.parametrize("cross", [False, True])
def test_t5_learns_a_bias_of_the_scores(library: Any, cross: bool) -> None:
    config = library.T5Config(
        vocab_size=32, d_model=C, d_kv=WIDTH, d_ff=8, num_layers=1, num_heads=HEADS, decoder_start_token_id=0
    )
    model = library.T5ForConditionalGeneration(config)
    path = "decoder.block.0.layer.1.EncDecAttention" if cross else "encoder.block.0.layer.0.SelfAttention"
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("relative_attention_bias" in name or cross)
    run = trained(model, input_ids=words(S), decoder_input_ids=words(), use_cache=False)
    queries = L if cross else S
    assert matmul(run, path, "forward") == 2 * scores(queries, S)
    assert matmul(run, path, "backward") == scores(queries, S) * (4 if cross else 1)


def test_experts(library: Any) -> None:
    config = library.MixtralConfig(
        vocab_size=32, hidden_size=C, intermediate_size=20, num_hidden_layers=1, num_attention_heads=HEADS,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, pad_token_id=0,
    )  # fmt: skip
    run = trained(library.MixtralForCausalLM(config), input_ids=words(), use_cache=False)
    path = "model.layers.0.mlp.experts"
    pairs = N * L * 2
    assert matmul(run, path, "forward") == 2 * pairs * (C * 2 * 20 + 20 * C)
    assert matmul(run, path, "backward") == 2 * matmul(run, path, "forward")


def test_gpt2(library: Any) -> None:
    model = library.GPT2LMHeadModel(library.GPT2Config(vocab_size=32, n_embd=C, n_layer=1, n_head=HEADS))
    run = trained(model, input_ids=words(), use_cache=False)
    assert matmul(run, "transformer.h.0.attn.c_attn", "forward") == 2 * N * L * C * 3 * C
    assert matmul(run, "transformer.h.0.attn", "forward") == 2 * scores(L, L)


def test_a_subclass_with_another_forward_has_no_closed_form(library: Any) -> None:
    from transformers.models.vit.modeling_vit import ViTAttention

    class Other(ViTAttention):
        def forward(self, *given: Any, **named: Any) -> Any:
            return super().forward(*given, **named)

    config = library.ViTConfig(hidden_size=C, num_attention_heads=HEADS)
    assert adapt(ViTAttention(config)) is not None
    assert adapt(Other(config)) is None
