"""A model by its name: `torchvision:resnet50`, or `package.module:factory` of one's own.

Models are made with random weights. Nothing is downloaded.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

SIZES = {"detection": (640, 640), "optical_flow": (520, 960)}
"""Of models whose pretrained weights say no image size: H and W. Flow networks take multiples of 8."""

FRAMES = 16
"""Of a video clip."""

_TORCHVISION = "torchvision"


class TargetError(ValueError):
    """A name that leads to no model. The message says which part of it, and what there is instead."""


def split(target: str) -> tuple[str, str]:
    """`module:name`. Raises TargetError for anything else."""
    module, colon, name = target.partition(":")
    if not (colon and module and name):
        raise TargetError(f"{target!r} is no target; give torchvision:resnet50, or package.module:factory")
    return module, name


def is_torchvision(target: str) -> bool:
    return split(target)[0] == _TORCHVISION


# torchvision ----------------------------------------------------------------------------------------------------------


def torchvision_model(name: str) -> nn.Module:
    """With random weights, also in its backbone. Raises TargetError for a name that torchvision does not have."""
    import torchvision

    if name not in torchvision.models.list_models():
        raise TargetError(f"torchvision has no model {name!r}{_alike(name, torchvision.models.list_models())}")
    settings: dict[str, Any] = {"weights": None}
    if {"weights_backbone"} <= set(inspect.signature(torchvision.models.get_model_builder(name)).parameters):
        settings["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        settings["init_weights"] = False  # which only spares a slow initialization
    model: nn.Module = torchvision.models.get_model(name, **settings)
    return model


def _alike(name: str, names: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def torchvision_inputs(name: str, model: nn.Module, batch_size: int) -> tuple[Any, ...]:
    """Images (N, 3, H, W) of the size that its pretrained weights were made for; clips (N, 3, T, H, W); of detection
    lists of images, in training with boxes; of optical flow two batches of images."""
    family = _family(name)
    height, width = _size(name, family)
    if family == "detection":
        return _detection(name, model.training, batch_size, height, width)
    if family == "video":
        return (_noise(batch_size, 3, FRAMES, height, width),)
    images = _noise(batch_size, 3, height, width)
    return (images, images.flip(-1)) if family == "optical_flow" else (images,)


def _family(name: str) -> str:
    """ "classification" for what is in no folder of its own."""
    import torchvision

    folder = torchvision.models.get_model_builder(name).__module__.split(".")[2]
    return folder if folder in ("detection", "segmentation", "video", "optical_flow") else "classification"


def _size(name: str, family: str) -> tuple[int, int]:
    import torchvision

    if family in SIZES:
        return SIZES[family]
    found = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    size = found.resize_size if family == "segmentation" else found.crop_size
    return (size[0], size[-1])


def _detection(name: str, training: bool, count: int, height: int, width: int) -> tuple[Any, ...]:
    images = [_noise(3, height, width) for _ in range(count)]
    return (images, [_target(name, height, width) for _ in images]) if training else (images,)


def _target(name: str, height: int, width: int) -> dict[str, Tensor]:
    """Two boxes, with what else the model learns of them."""
    boxes = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.3, 0.2, 0.9, 0.9]]) * torch.tensor([width, height] * 2)
    target = {"boxes": boxes, "labels": torch.ones(2, dtype=torch.int64)}
    if name.startswith("mask"):
        target["masks"] = torch.ones(2, height, width, dtype=torch.uint8)
    if name.startswith("keypoint"):
        places = boxes[:, None, :2].expand(2, 17, 2) + 10.0
        target["keypoints"] = torch.cat([places, torch.ones(2, 17, 1)], dim=-1)
    return target


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# One's own ------------------------------------------------------------------------------------------------------------


def factory(target: str) -> Callable[..., Any]:
    """What `package.module:name` means, imported. Raises TargetError where there is none, or it cannot be called.

    Errors inside the module itself pass through.
    """
    module, name = split(target)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise TargetError(f"there is no module {error.name!r} to import for {target!r}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise TargetError(f"{module!r} has no {name!r}")
        found = getattr(found, part)
    if not callable(found) or isinstance(found, nn.Module):
        raise TargetError(f"{target!r} is no factory, but a {type(found).__name__}; give a function that returns it")
    return found  # type: ignore[no-any-return]


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether it can be called with a keyword of this name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return any(p.kind is inspect.Parameter.VAR_KEYWORD or (p.name == name and p.kind in named) for p in parameters)


def made_input(shape: Sequence[int], dtype: str) -> Tensor:
    """Noise; for integers zeros, which are an index into any table; for bool True. `dtype` by torch's name for it."""
    kind: torch.dtype = getattr(torch, dtype)
    if kind.is_floating_point or kind.is_complex:
        return _noise(*shape).to(kind)
    return torch.full(tuple(shape), kind is torch.bool, dtype=kind)
