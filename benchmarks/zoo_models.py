"""The zoo's models: how each is made with random weights, and the smallest input on which it does all its work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

DETECTION = ("rcnn", "retinanet", "ssd", "fcos")
SEGMENTATION = ("deeplabv3", "fcn", "lraspp")
CLIPS = ("mc3_18", "r3d_18", "r2plus1d_18", "swin3d")
# Their sizes are part of the architecture, and too large to compute with here: fake tensors.
ONLY_FAKE = ("mvit_v1_b", "mvit_v2_s", "s3d")
# Models with more parameters run on fake tensors too (but never detection, whose shapes depend on data).
REAL_PARAMETERS = 60_000_000


@dataclass(frozen=True)
class Entry:
    """A model of the zoo: `make()` gives the module, `inputs()` the positional and keyword arguments of a call."""

    name: str
    family: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]
    only_fake: bool = False
    only_real: bool = False


def entries() -> list[Entry]:
    """Every model of torchvision, and shapes of `transformers` where that is installed."""
    return [*(_torchvision(name) for name in torchvision.models.list_models()), *_transformers()]


# torchvision ----------------------------------------------------------------------------------------------------------


def _torchvision(name: str) -> Entry:
    detection = any(part in name for part in DETECTION)
    settings: dict[str, Any] = {"weights": None}
    if detection or name.startswith(SEGMENTATION):
        settings["weights_backbone"] = None
    if detection and "ssd" not in name:
        settings |= {"min_size": 128, "max_size": 160}
    if "googlenet" in name or "inception" in name:
        settings["init_weights"] = False  # which only spares a slow initialization
    return Entry(
        name=name,
        family="detection" if detection else "torchvision",
        make=lambda: torchvision.models.get_model(name, **settings),
        inputs=(lambda: _images_with_boxes(name)) if detection else (lambda: (_pixels(name), {})),
        only_fake=name in ONLY_FAKE,
        only_real=detection,
    )


def _pixels(name: str) -> tuple[Tensor, ...]:
    """Batches of one or two: batch normalization needs two numbers per channel."""
    if name.startswith("raft"):
        return torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)
    if name in ONLY_FAKE:
        return (torch.rand(1, 3, 16, 224, 224),)
    if name.startswith(CLIPS):
        return (torch.rand(1, 3, 8, 64, 64),)
    if "inception" in name:
        return (torch.rand(2, 3, 299, 299),)
    if name.startswith("vit") or name == "maxvit_t":
        return (torch.rand(1, 3, 224, 224),)
    return (torch.rand(2, 3, 64, 64),)


def _images_with_boxes(name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One image; of SSDLite, which normalizes batches down to a pixel, two."""
    boxes = torch.tensor([[10.0, 10.0, 60.0, 70.0], [30.0, 20.0, 100.0, 90.0]])
    target = {"boxes": boxes, "labels": torch.ones(2).long()}
    if name.startswith("mask"):
        target["masks"] = torch.ones(2, 128, 160, dtype=torch.uint8)
    if name.startswith("keypoint"):
        target["keypoints"] = torch.cat([20 + 40 * torch.rand(2, 17, 2), torch.ones(2, 17, 1)], dim=-1)
    count = 2 if name.startswith("ssdlite") else 1
    return ([torch.rand(3, 128, 160) for _ in range(count)], [target] * count), {}


# transformers ---------------------------------------------------------------------------------------------------------

TOKENS = {"vocab_size": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


def _transformers() -> list[Entry]:
    try:
        import transformers as t
    except ImportError:
        return []
    t.logging.set_verbosity_error()
    encoder = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    whisper = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
    whisper |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "num_mel_bins": 16}
    whisper |= {"max_source_positions": 32, "max_target_positions": 32, "decoder_start_token_id": 1}
    llama = {**TOKENS, **DECODER, "intermediate_size": 128}
    shapes: list[tuple[str, Any, Any, dict[str, Any], Callable[[], dict[str, Tensor]]]] = [
        ("bert", t.BertForMaskedLM, t.BertConfig, {**TOKENS, **encoder}, _text),
        ("gpt2", t.GPT2LMHeadModel, t.GPT2Config, {**TOKENS, "n_embd": 64, "n_layer": 2, "n_head": 4}, _text),
        ("llama", t.LlamaForCausalLM, t.LlamaConfig, llama, _text),
        (
            "t5",
            t.T5ForConditionalGeneration,
            t.T5Config,
            {**TOKENS, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
            | {"decoder_start_token_id": 0},
            _text,
        ),
        ("vit", t.ViTForImageClassification, t.ViTConfig, {**encoder, "image_size": 32, "patch_size": 8}, _image),
        ("whisper", t.WhisperForConditionalGeneration, t.WhisperConfig, {**TOKENS, **whisper}, _speech),
        ("mixtral", t.MixtralForCausalLM, t.MixtralConfig, {**llama, "num_local_experts": 4}, _text),
    ]
    return [
        Entry(
            name=f"transformers:{name}",
            family="transformers",
            make=lambda model=model, config=config, settings=settings: model(config(**settings)),
            inputs=lambda given=given: ((), given()),
            only_real=True,
        )
        for name, model, config, settings, given in shapes
    ]


def _text() -> dict[str, Tensor]:
    tokens = torch.randint(3, 128, (2, 16))
    return {"input_ids": tokens, "labels": tokens}


def _image() -> dict[str, Tensor]:
    return {"pixel_values": torch.rand(2, 3, 32, 32), "labels": torch.tensor([0, 1])}


def _speech() -> dict[str, Tensor]:
    return {"input_features": torch.rand(2, 16, 64), "labels": torch.randint(3, 128, (2, 8))}


# Running --------------------------------------------------------------------------------------------------------------


def loss_of(result: Any) -> Tensor:
    """Its `loss`, or the sum of everything floating in it."""
    if getattr(result, "loss", None) is not None:
        return result.loss
    leaves = tree_leaves(tuple(result) if hasattr(result, "_fields") else result)
    return sum(leaf.sum() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point())


@contextmanager
def without_initialization() -> Iterator[None]:
    """Parameters stay as allocated, which for large models is much faster, and takes no memory until it is used."""
    init = torch.nn.init
    saved = {name: value for name, value in vars(init).items() if name.endswith("_") and not name.startswith("_")}
    try:
        for name in saved:
            setattr(init, name, lambda tensor, *_, **__: tensor)
        yield
    finally:
        for name, value in saved.items():
            setattr(init, name, value)


def made(entry: Entry, *, initialized: bool = True) -> nn.Module:
    """The model, the same every time."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if initialized:
            return entry.make()
        with without_initialization():
            return entry.make()


def on_fake(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """The model with fake tensors for all it holds, shared ones shared."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update({name: mode.from_tensor(t) for name, t in tensors.items() if t is not None})
    return model


def moved(inputs: Any, device: str) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.to(device), inputs)
