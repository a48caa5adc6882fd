"""Small models that some counter of FLOPs gets wrong, each with its true figures as arithmetic in named dimensions.

The tests hold torchtally to them, and FlopCounterMode to being wrong; `peers.py` shows what others make of them.
Figures are FLOPs of products (convolution, linear layers, attention); where there is no product, of what there is, by
the convention that torchtally states: 5 a score of softmax, 1 an element of GELU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

N, T, C, H, K = 2, 4, 8, 6, 3  # samples, tokens, features in, features out, kernel
SIDE = 9
OUT = SIDE - K + 1
HEADS, HIDDEN, EMBED = 2, 16, 8
GROUPS = 32
ROWS = 5
RANK = 2
WORDS = 100
EXPERTS, EACH = 3, 16  # a mixture, and the tokens that go to each expert


@dataclass(frozen=True)
class Case:
    """One model and call: `forward` and `backward` are the truth, None where nothing is said.

    `what` is the defect that it shows. `evaluated` is in eval mode and without gradients; `on_meta` without data.
    """

    name: str
    what: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    forward: int
    backward: int | None = None
    keywords: Callable[[], dict[str, Any]] = field(default=dict)
    products: bool = True
    evaluated: bool = False
    on_meta: bool = False


class Does(nn.Module):
    """Calls a function with itself and the inputs; children and parameters by name."""

    def __init__(self, function: Callable[..., Any], **held: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, one in held.items():
            setattr(self, name, one)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


class OwnLinear(nn.Linear):
    """A subclass that changes nothing."""


@dataclass
class Result:
    """What some models return."""

    scores: Tensor


def x(*shape: int, grad: bool = False) -> Callable[[], tuple[Tensor]]:
    return lambda: (torch.rand(*shape).requires_grad_(grad),)


def linear(*, bias: bool = False) -> nn.Linear:
    return nn.Linear(C, H, bias=bias)


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.rand(*shape))


# True figures of what several cases share.
LINEAR = 2 * N * T * C * H
SQUARE = 2 * N * T * C * C
DEPTHWISE = 2 * N * GROUPS * OUT * OUT * K * K
CORE = 2 * N * T * T * EMBED  # queries times keys, or scores times values
ENCODER = 2 * N * T * EMBED * (3 * EMBED + EMBED + 2 * HIDDEN) + 2 * CORE
LSTM = 2 * T * N * 4 * H * (C + H)
MIXTURE = 2 * EXPERTS * EACH * EMBED * HIDDEN
MAP = N * C * SIDE * SIDE


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(EMBED, HEADS, HIDDEN, dropout=0.0, batch_first=True)


def named_twice() -> nn.Module:
    layer = nn.Linear(C, C, bias=False)
    return Does(lambda self, x: self.one(x), one=layer, other=layer)


def lora() -> nn.Module:
    down, up = nn.Linear(C, RANK, bias=False), nn.Linear(RANK, C, bias=False)
    return Does(lambda self, x: self.base(x) + self.up(self.down(x)), base=frozen(square()), down=down, up=up)


def square() -> nn.Linear:
    return nn.Linear(C, C, bias=False)


def mixture() -> nn.Module:
    ends = nn.Buffer(torch.arange(1, EXPERTS + 1, dtype=torch.int32) * EACH)
    experts = weight(EXPERTS, EMBED, HIDDEN)
    return Does(lambda self, x: F.grouped_mm(x, self.experts, offs=self.ends), experts=experts, ends=ends)


CASES = (
    # Backward of convolutions with groups
    Case("depthwise convolution", "backward ignores groups: 33 times forward, not twice",
         lambda: nn.Conv2d(GROUPS, GROUPS, K, groups=GROUPS, bias=False), x(N, GROUPS, SIDE, SIDE, grad=True),
         DEPTHWISE, 2 * DEPTHWISE),
    Case("grouped convolution", "backward ignores groups",
         lambda: nn.Conv2d(GROUPS, GROUPS, K, groups=4, bias=False), x(N, GROUPS, SIDE, SIDE, grad=True),
         DEPTHWISE * GROUPS // 4, 2 * DEPTHWISE * GROUPS // 4),
    # One model, three figures: in training, on meta, in evaluation
    Case("encoder layer", "one model has several figures, by device and mode", encoder, x(N, T, EMBED), ENCODER),
    Case("encoder layer on meta", "one model has several figures, by device and mode",
         encoder, x(N, T, EMBED), ENCODER, on_meta=True),
    Case("encoder layer in evaluation", "the fast path is one operator, counted as nothing",
         encoder, x(N, T, EMBED), ENCODER, evaluated=True),
    # Silent zeros
    Case("matrix times vector", "torch.mv counts as nothing",
         lambda: Does(lambda self, x: torch.mv(self.weight, x), weight=weight(ROWS, C)), x(C), 2 * ROWS * C),
    Case("attention kernel", "scaled_dot_product_attention counts as nothing",
         lambda: Does(lambda self, x: F.scaled_dot_product_attention(x, x, x)), x(N, T, EMBED), 2 * CORE),
    Case("LSTM", "a fused kernel counts as nothing, or its gates as too much",
         lambda: nn.LSTM(C, H, bias=False), x(T, N, C, grad=True), LSTM, 2 * LSTM),
    Case("RNN", "biases that it does not have are counted, or nothing",
         lambda: nn.RNN(C, H, bias=False), x(T, N, C), 2 * T * N * H * (C + H)),
    Case("functional linear", "functional calls are not seen by hooks",
         lambda: Does(lambda self, x: F.linear(x, self.weight), weight=weight(H, C)), x(N, T, C), LINEAR),
    Case("@", "operators are not seen by hooks",
         lambda: Does(lambda self, x: x @ self.weight, weight=weight(C, H)), x(N, T, C), LINEAR),
    Case("padding='same', even kernel", "padded apart, by another route",
         lambda: nn.Conv1d(C, H, 4, padding="same", bias=False), x(N, C, SIDE), 2 * N * H * SIDE * C * 4),
    Case("broadcast product", "the broadcast dimensions are left out",
         lambda: Does(lambda self, x: x[:, None] @ self.weight, weight=weight(ROWS, C, H)), x(N, T, C),
         2 * N * ROWS * T * C * H),
    Case("subclassed layer", "kinds are looked up by exact class", lambda: nn.Sequential(OwnLinear(C, H, bias=False)),
         x(N, T, C), LINEAR),
    Case(".forward() called", "hooks do not run",
         lambda: Does(lambda self, x: self.layer.forward(x), layer=linear()), x(N, T, C), LINEAR),
    Case("softmax", "counts as nothing",
         lambda: Does(lambda self, x: x.softmax(-1)), x(N, T, C), 5 * N * T * C, products=False),
    Case("GELU", "counts as nothing", lambda: Does(lambda self, x: F.gelu(x)), x(N, T, C), N * T * C, products=False),
    # Too much
    Case("layer of two names", "counted once for each name", named_twice, x(N, T, C), SQUARE),
    Case("layer called twice", "counted once, or four times",
         lambda: Does(lambda self, x: self.layer(self.layer(x)), layer=square()), x(N, T, C), 2 * SQUARE),
    Case("transposed convolution", "priced by its output, four times too much",
         lambda: nn.ConvTranspose2d(C, H, 2, stride=2, bias=False), x(N, C, SIDE, SIDE),
         2 * N * C * SIDE * SIDE * H * 2 * 2),
    Case("embedding", "a look-up is priced as a product",
         lambda: nn.Embedding(WORDS, C), lambda: (torch.zeros(N, T, dtype=torch.int64),), 0, products=False),
    Case("linear layer on tokens", "priced per sample instead of per token", linear, x(N, T, C), LINEAR),
    Case("ReLU and pooling, after a convolution", "counted twice, by a hook and by a patched function",
         lambda: nn.Sequential(nn.Conv2d(C, H, K, bias=False), nn.ReLU(), nn.AvgPool2d(OUT)), x(N, C, SIDE, SIDE),
         2 * N * H * OUT * OUT * C * K * K),
    # Backward as twice forward
    Case("first layer", "its input needs no gradient: backward is forward again, not twice",
         linear, x(N, T, C), LINEAR, LINEAR),
    Case("frozen first layer", "backward is half of forward",
         lambda: nn.Sequential(frozen(square()), square()), x(N, T, C), 2 * SQUARE, SQUARE),
    Case("LoRA", "backward is of the two thin matrices alone",
         lora, x(N, T, C), SQUARE + 2 * (2 * N * T * C * RANK), 3 * (2 * N * T * C * RANK)),
    Case("checkpoint", "recomputed work is no model work",
         lambda: Does(lambda self, x: checkpoint(self.block, self.first(x), use_reentrant=True), first=square(),
                      block=nn.Sequential(square(), nn.ReLU(), square())),
         x(N, T, C), 3 * SQUARE, 5 * SQUARE),
    Case("BatchNorm, ReLU and pooling", "no figure for their backward",
         lambda: nn.Sequential(nn.BatchNorm2d(C), nn.ReLU(), nn.MaxPool2d(K)), x(N, C, SIDE, SIDE, grad=True),
         5 * MAP + MAP + MAP, 5 * MAP + MAP + MAP, products=False),
    # Inputs and outputs of other kinds
    Case("keyword input", "keyword inputs are not passed on, or not seen",
         lambda: Does(lambda self, *, tokens: self.layer(tokens), layer=linear()), lambda: (), LINEAR, LINEAR,
         keywords=lambda: {"tokens": torch.rand(N, T, C)}),
    Case("dataclass output", "no backward, or an error",
         lambda: Does(lambda self, x: Result(self.layer(x)), layer=linear()), x(N, T, C), LINEAR, LINEAR),
    Case("tuple output", "no backward, or an error",
         lambda: Does(lambda self, x: (self.layer(x), x), layer=linear()), x(N, T, C), LINEAR, LINEAR),
    Case("mixture of experts", "grouped_mm counts as nothing",
         mixture, x(EXPERTS * EACH, EMBED, grad=True), MIXTURE, 2 * MIXTURE),
)  # fmt: skip
"""What is listed as wrong in some counter of today, in the order in which it is told."""


def tied() -> nn.Module:
    """An embedding whose weight is also the last layer's: WORDS * C parameters, once."""
    table, out = nn.Embedding(WORDS, C), nn.Linear(C, WORDS, bias=False)
    out.weight = table.weight
    return nn.Sequential(table, out)


def outputs_of(result: Any) -> list[Tensor]:
    """The floating tensors of a result, the fields of dataclasses included, that need a gradient."""
    leaves = torch.utils._pytree.tree_leaves(vars(result) if isinstance(result, Result) else result)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]


def prepared(case: Case) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The model and what it is called with, the same every time."""
    torch.manual_seed(0)
    with torch.device("meta" if case.on_meta else "cpu"):
        model, args, keywords = case.make(), case.inputs(), case.keywords()
    return model.train(not case.evaluated), args, keywords
