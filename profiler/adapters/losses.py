"""Losses, without weights of classes or terms: theory has no closed form with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ... import theory
from ...theory.layer import Layer
from .reading import Read, named, unless


def _loss(form: Callable[..., Layer]) -> Read:
    return named(form, "reduction")


def _smooth_l1(module: Any) -> Layer | None:
    """Without a smooth part PyTorch computes another loss."""
    return theory.SmoothL1Loss(reduction=module.reduction) if module.beta else None


def _divergence(module: Any) -> Layer:
    batch_mean = module.reduction == "batchmean"
    return theory.KLDivLoss(reduction="sum" if batch_mean else module.reduction, batch_mean=batch_mean)


LOSSES: dict[type[nn.Module], Read] = {
    nn.L1Loss: _loss(theory.L1Loss),
    nn.MSELoss: _loss(theory.MSELoss),
    nn.SmoothL1Loss: _smooth_l1,
    nn.HuberLoss: _loss(theory.HuberLoss),
    nn.SoftMarginLoss: _loss(theory.SoftMarginLoss),
    nn.BCELoss: unless(_loss(theory.BCELoss), weight=None),
    nn.BCEWithLogitsLoss: unless(_loss(theory.BCEWithLogitsLoss), weight=None, pos_weight=None),
    nn.PoissonNLLLoss: unless(_loss(theory.PoissonNLLLoss), log_input=True, full=False),
    nn.KLDivLoss: unless(_divergence, log_target=False),
    nn.NLLLoss: unless(_loss(theory.NLLLoss), weight=None),
    nn.CrossEntropyLoss: unless(_loss(theory.CrossEntropyLoss), weight=None, label_smoothing=0.0),
}
