"""Which modules have a closed form, and which look as if they had one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from torchtally import theory
from torchtally.profiler.adapters import adapt

from .running import Calling, agreed, differences, step


class Same(nn.Linear):
    """Another name, and a method that nobody calls."""

    def describe(self) -> str:
        return f"{self.in_features} to {self.out_features}"


class OtherForward(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class OtherHelper(nn.Conv1d):
    """`forward` is Conv1d's, and calls this."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, 2 * weight, bias)


class HelperOfAHelper(nn.TransformerEncoderLayer):
    def _ff_block(self, x: Tensor) -> Tensor:
        return 2 * super()._ff_block(x)


class OtherCall(nn.Linear):
    def __call__(self, *args: Any) -> Any:
        return 2 * super().__call__(*args)


class WithScale(nn.Linear):
    """A parameter more, which some hook may use."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.scale = nn.Parameter(torch.ones(4))


def patched() -> nn.Module:
    module = nn.Linear(4, 4)
    module.forward = lambda x: 2 * x  # type: ignore[method-assign]
    return module


def weight_as_a_buffer() -> nn.Module:
    module = nn.Linear(4, 4)
    weight = module.weight.detach()
    del module.weight
    module.register_buffer("weight", weight)
    return module


def mixed() -> nn.Module:
    """A bias of another dtype than the weight."""
    module = nn.Linear(4, 4)
    module.bias = nn.Parameter(module.bias.detach().half())
    return module


NOT_WHAT_THEY_LOOK_LIKE = {
    "another forward": lambda: OtherForward(4, 4),
    "another method that forward calls": lambda: OtherHelper(4, 4, 1),
    "a method called by such a method": lambda: HelperOfAHelper(4, 2),
    "another call": lambda: OtherCall(4, 4),
    "a forward of its own": patched,
    "another parameter": WithScale,
    "no weight to train": weight_as_a_buffer,
    "two dtypes": mixed,
    "parametrized": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "with a weight from hooks": lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
    "pruned": lambda: prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
    "lazy, before its first call": lambda: nn.LazyLinear(4),
    "of no features": lambda: nn.Linear(4, 0),
    "a norm that scales rows at look-up": lambda: nn.Embedding(4, 4, max_norm=1.0),
    "a sparse gradient": lambda: nn.Embedding(4, 4, sparse=True),
    "a gradient scaled by frequency": lambda: nn.Embedding(4, 4, scale_grad_by_freq=True),
    "a last offset": lambda: nn.EmbeddingBag(4, 4, include_last_offset=True),
    "an index that is padding": lambda: nn.EmbeddingBag(4, 4, padding_idx=0),
    "weights of classes": lambda: nn.CrossEntropyLoss(weight=torch.ones(4)),
    "smoothed labels": lambda: nn.CrossEntropyLoss(label_smoothing=0.1),
    "weights of terms": lambda: nn.BCELoss(weight=torch.ones(4)),
    "weights of positives": lambda: nn.BCEWithLogitsLoss(pos_weight=torch.ones(4)),
    "no smooth part": lambda: nn.SmoothL1Loss(beta=0.0),
    "log-probabilities as target": lambda: nn.KLDivLoss(log_target=True),
    "rates as they are": lambda: nn.PoissonNLLLoss(log_input=False),
    "all of a likelihood": lambda: nn.PoissonNLLLoss(full=True),
    "an activation of its own": lambda: nn.TransformerEncoderLayer(4, 2, activation=torch.tanh),
    "no kind of torch.nn": lambda: Calling(lambda self, x: x),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("what", NOT_WHAT_THEY_LOOK_LIKE)
def test_no_closed_form(what: str) -> None:
    assert adapt(NOT_WHAT_THEY_LOOK_LIKE[what]()) is None


def test_a_subclass_that_does_the_same() -> None:
    assert adapt(Same(4, 3)) == theory.Linear(in_features=4, out_features=3)


def test_a_lazy_module_after_its_first_call() -> None:
    lazy = nn.LazyConv2d(3, 2)
    lazy(torch.rand(1, 5, 4, 4))
    assert adapt(lazy) == theory.Conv2d(in_channels=5, out_channels=3, kernel_size=2)


def test_settings_are_those_of_the_entry() -> None:
    """In-place, dtype, mode, options: as the module has them when the block is entered."""
    assert adapt(nn.ReLU(inplace=True)) == theory.ReLU(in_place=True)
    assert adapt(nn.Hardtanh(inplace=True)) == theory.activation("Hardtanh", in_place=True)
    assert adapt(nn.Linear(2, 3, bias=False).half()) == theory.Linear(
        in_features=2, out_features=3, bias=False, dtype="float16"
    )
    assert adapt(nn.Dropout2d(0.25).eval()) == theory.Dropout(p=0.25, training=False, per_channel=True, dimensions=2)
    assert adapt(nn.BatchNorm2d(4, bias=False)) == theory.BatchNorm(num_features=4, bias=False)
    assert adapt(nn.LSTM(4, 3, proj_size=2)) == theory.LSTM(input_size=4, hidden_size=3, proj_size=2)
    assert adapt(nn.KLDivLoss(reduction="batchmean")) == theory.KLDivLoss(reduction="sum", batch_mean=True)


def test_what_has_no_closed_form_is_named() -> None:
    model = nn.Sequential(OtherForward(4, 4), nn.Linear(4, 4), nn.PixelShuffle(1), nn.LPPool2d(2, 2))
    comparison = step(model, torch.rand(2, 1, 4, 4)).compare()
    assert differences(comparison) == []
    assert comparison.not_compared == {
        "0": "no closed form for this OtherForward",
        "3": "no closed form for this LPPool2d",
    }, "shuffling is no arithmetic"
    assert agreed(comparison, "1", "forward")["matmul_flops"] == 2 * 2 * 4 * 4 * 4


@pytest.mark.parametrize("name", ["swin_t", "maxvit_t"])
def test_adapting_needs_no_torchvision(name: str) -> None:
    """Its kinds are known by name."""
    import torchvision

    kinds = {type(module).__name__ for module in getattr(torchvision.models, name)().modules() if adapt(module)}
    assert kinds & {"ShiftedWindowAttention", "RelativePositionalMultiHeadAttention"}
