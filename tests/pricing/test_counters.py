"""Where well-known counters agree with torchtally, and where they are wrong: each case a figure by hand.

FlopCounterMode of torch 2.11 to 2.15; fvcore and torchinfo where they are installed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import torchtally

from .running import Calls, count, numbers

N, C, K = 2, 8, 3


def same(function: Any, *inputs: Any) -> None:
    seen = count(function, *inputs)
    assert not seen.unpriced
    assert (seen.forward.matmul_flops, seen.backward.matmul_flops) == seen.fcm
    assert sum(seen.fcm) > 0


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda a, b: a @ b, [(4, 5), (5, 6)]),
        (lambda a, b: a @ b, [(2, 1, 4, 5), (3, 5, 6)]),
        (lambda a, b: torch.einsum("bij,bkj->bik", a, b), [(2, 3, 4), (2, 5, 4)]),
        (nn.Linear(5, 6), [(4, 5)]),
        (nn.Linear(5, 6), [(2, 4, 5)]),
        (nn.Conv1d(C, 6, K), [(N, C, 9)]),
        (nn.Conv2d(C, 6, K, stride=2, padding=1, dilation=2), [(N, C, 9, 9)]),
        (nn.Conv3d(C, 6, K), [(N, C, 5, 5, 5)]),
        (nn.ConvTranspose2d(C, 6, K, stride=2, output_padding=1), [(N, C, 5, 5)]),
        (nn.MultiheadAttention(C, 2), [(4, N, C)] * 3),
        (F.scaled_dot_product_attention, [(N, 2, 4, C)] * 3),
        (nn.LSTMCell(C, 4), [(N, C)]),
        (nn.TransformerEncoderLayer(C, 2, 16, dropout=0.0), [(4, N, C)]),
    ],
)
def test_flop_counter_mode_agrees(function: Any, shapes: list[tuple[int, ...]]) -> None:
    same(function, *(numbers(*shape) for shape in shapes))


# FlopCounterMode's defects: function, inputs, (forward, backward) by hand, and what it says instead -------------------


def fast(layer: nn.Module) -> Callable[..., Any]:
    """In evaluation and without gradients, as nobody trains."""

    def call(*inputs: Tensor) -> Any:
        with torch.no_grad():
            return layer(*inputs)

    layer.eval()
    return call


POSITIONS = 7 * 7
FAST_ATTENTION = fast(nn.MultiheadAttention(C, 2, batch_first=True))
DEFECTS: list[tuple[str, Any, list[tuple[int, ...]], tuple[int, int], tuple[int, int]]] = [
    ("mv", torch.mv, [(4, 5), (5,)], (2 * 4 * 5, 0), (0, 0)),
    ("dot", torch.dot, [(5,), (5,)], (2 * 5, 0), (0, 0)),
    ("addmv", torch.addmv, [(4,), (4, 5), (5,)], (2 * 4 * 5, 0), (0, 0)),
    (
        "depthwise convolution",
        nn.Conv2d(C, C, K, groups=C, bias=False),
        [(N, C, 9, 9)],
        (2 * N * C * POSITIONS * K * K, 2 * 2 * N * C * POSITIONS * K * K),
        (2 * N * C * POSITIONS * K * K, (C + 1) * 2 * N * C * POSITIONS * K * K),
    ),
    (
        "grouped convolution",
        nn.Conv2d(C, C, K, groups=2, bias=False),
        [(N, C, 9, 9)],
        (2 * N * C * POSITIONS * 4 * K * K, 2 * 2 * N * C * POSITIONS * 4 * K * K),
        (2 * N * C * POSITIONS * 4 * K * K, 3 * 2 * N * C * POSITIONS * 4 * K * K),
    ),
    (
        "LSTM",
        nn.LSTM(4, 6),
        [(5, N, 4)],
        (2 * 5 * N * 24 * (4 + 6), 2 * 2 * 5 * N * 24 * (4 + 6)),
        (0, 0),
    ),
    (
        "bilinear",
        nn.Bilinear(3, 4, 5, bias=False),
        [(N, 3), (N, 4)],
        (2 * N * 5 * (12 + 4), 2 * N * 5 * (2 * 12 + (12 + 4) + (12 + 3))),
        (0, 0),
    ),
    (
        "TransformerEncoderLayer's fast path",
        fast(nn.TransformerEncoderLayer(C, 2, 16, batch_first=True)),
        [(N, 4, C)],
        (2 * (4 * N * 4 * C * C + 2 * N * 4 * 4 * C + 2 * N * 4 * C * 16), 0),
        (0, 0),
    ),
    (
        "MultiheadAttention's fast path",
        lambda x: FAST_ATTENTION(x, x, x),
        [(N, 4, C)],
        (2 * (4 * N * 4 * C * C + 2 * N * 4 * 4 * C), 0),
        (0, 0),
    ),
]


@pytest.mark.parametrize(("name", "function", "shapes", "right", "said"), DEFECTS, ids=[case[0] for case in DEFECTS])
def test_flop_counter_mode_is_wrong(
    name: str, function: Any, shapes: list[tuple[int, ...]], right: tuple[int, int], said: tuple[int, int]
) -> None:
    grad = bool(right[1])
    seen = count(function, *(numbers(*shape, grad=grad) for shape in shapes))
    assert not seen.unpriced
    assert (seen.forward.matmul_flops, seen.backward.matmul_flops) == right
    assert seen.fcm == said != right


def test_attention_is_one_number_on_every_device_and_in_every_mode() -> None:
    """ViT's encoder: FlopCounterMode has three figures for it."""
    layer, x = nn.TransformerEncoderLayer(C, 2, 16, batch_first=True, dropout=0.0), numbers(N, 4, C, grad=False)
    trained, evaluated = count(layer, x), count(fast(layer), x)
    with torch.device("meta"):
        meta = count(nn.TransformerEncoderLayer(C, 2, 16, batch_first=True, dropout=0.0), torch.empty(N, 4, C))
    figures = [seen.forward.matmul_flops for seen in (trained, evaluated, meta)]
    assert len(set(figures)) == 1
    assert evaluated.fcm[0] == 0 < trained.fcm[0]


def test_gradients_of_the_input_alone() -> None:
    """`autograd.grad` with respect to a module's input, on which FlopCounterMode used to fail."""
    layer, x = nn.Linear(4, 5), numbers(3, 4)
    with torchtally.profile(Calls(layer, layer)) as run:
        torch.autograd.grad(layer(x).sum(), x)
    # The weight's gradient is not asked for.
    assert run.totals["backward_matmul_flops"] == 2 * 3 * 4 * 5


# Tools that hook modules ---------------------------------------------------------------------------------------------


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6, C))

    def forward(self, x: Tensor) -> Tensor:
        return (F.linear(x, self.weight) @ self.weight).softmax(-1)


class Skipped(nn.Module):
    """Calls its layer's `.forward()` itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(C, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer.forward(x)


class Twice(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


TOKENS = 4
# Model, input, products' FLOPs forward.
FOR_HOOKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "functional": (Functional, (TOKENS, C), 2 * 2 * TOKENS * C * 6),
    "forward called directly": (Skipped, (TOKENS, C), 2 * TOKENS * C * 6),
    "linear on tokens": (lambda: nn.Linear(C, 6, bias=False), (N, TOKENS, C), 2 * N * TOKENS * C * 6),
    "transposed convolution": (
        lambda: nn.ConvTranspose2d(C, 6, 2, stride=2, bias=False),
        (N, C, 5, 5),
        2 * N * 25 * C * 6 * 4,
    ),
    "attention": (
        lambda: Calls(lambda x: F.scaled_dot_product_attention(x, x, x)),
        (N, TOKENS, C),
        2 * 2 * N * TOKENS * TOKENS * C,
    ),
    "same padding, even kernel": (
        lambda: nn.Conv2d(C, 6, 4, padding="same", bias=False),
        (N, C, 5, 5),
        2 * N * 25 * 6 * C * 16,
    ),
    "broadcast product": (
        lambda: Calls(lambda x: x[:, None] @ torch.ones(3, C, 6)),
        (N, TOKENS, C),
        2 * N * 3 * TOKENS * C * 6,
    ),
    "LSTM": (lambda: nn.LSTM(C, 6), (TOKENS, N, C), 2 * TOKENS * N * 24 * (C + 6)),
    "used twice": (Twice, (TOKENS, C), 2 * 2 * TOKENS * C * C),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("case", FOR_HOOKS)
def test_torchtally_is_right(case: str) -> None:
    make, shape, right = FOR_HOOKS[case]
    assert count(make(), numbers(*shape, grad=False), backward=False).forward.matmul_flops == right


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "case", ["functional", "forward called directly", "linear on tokens", "transposed convolution", "attention", "LSTM"]
)
def test_torchinfo_is_wrong(case: str) -> None:
    torchinfo = pytest.importorskip("torchinfo")
    make, shape, right = FOR_HOOKS[case]
    said = torchinfo.summary(make(), input_data=torch.rand(shape), verbose=0).total_mult_adds
    assert 2 * said != right


@pytest.mark.filterwarnings("ignore")
def test_torchinfo_prices_look_ups_as_products() -> None:
    torchinfo = pytest.importorskip("torchinfo")
    table, tokens = nn.Embedding(100, C), torch.zeros(N, TOKENS, dtype=torch.int64)
    assert torchinfo.summary(table, input_data=tokens, verbose=0).total_mult_adds > 0
    assert count(table, tokens).forward.flops == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ["attention", "LSTM"])
def test_fvcore_is_wrong(case: str) -> None:
    fvcore = pytest.importorskip("fvcore.nn")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    make, shape, right = FOR_HOOKS[case]
    analysis = fvcore.FlopCountAnalysis(make(), torch.rand(shape))
    said = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    assert 2 * said != right
