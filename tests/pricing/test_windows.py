"""Pooling, interpolation, sampling and regions, against loops over their windows."""

from __future__ import annotations

from itertools import product
from math import ceil, floor, prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from torch import nn

from torchtally.profiler.formulas import Price

from .running import count, numbers, priced, tensor

N, C = 2, 3
SIDES = (9, 8, 7)
POOLS = {
    1: (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
    2: (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    3: (nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
}


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("settings", [{}, {"stride": 1}, {"padding": 1, "stride": 2}, {"ceil_mode": True}], ids=str)
@pytest.mark.parametrize("grad", [False, True])
def test_pooling(dimensions: int, average: bool, settings: dict[str, Any], grad: bool) -> None:
    layer = POOLS[dimensions][average](3, **settings)
    x = numbers(N, C, *SIDES[:dimensions], grad=grad)
    windows = layer(x).numel() * 3**dimensions
    seen = count(layer, x)
    assert not seen.unpriced
    assert seen.forward == Price(windows)
    assert seen.backward == Price(windows if grad else 0)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("average", [2, 3])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_adaptive_pooling_by_its_windows(dimensions: int, average: int, size: int) -> None:
    layer = POOLS[dimensions][average](size)
    seen = count(layer, numbers(N, C, *SIDES[:dimensions]))
    windows = 0
    for place in product(range(size), repeat=dimensions):
        sides = zip(SIDES, place, strict=False)
        windows += prod(ceil((i + 1) * side / size) - floor(i * side / size) for side, i in sides)
    assert not seen.unpriced
    # Global average pooling is a mean: its gradient is one division per element of the input.
    assert seen.forward.flops == N * C * windows
    assert seen.backward.flops == N * C * windows


# Interpolation ------------------------------------------------------------------------------------------------------


def taps_by_influence(mode: str, dimensions: int) -> int:
    """How many inputs an output element depends on, where all weights differ from 0: seen by its gradient."""
    x = numbers(1, 1, *(5,) * dimensions, dtype=torch.float64)
    y = F.interpolate(x, scale_factor=1.3, mode=mode)
    most = 0
    for element in y.flatten():
        (gradient,) = torch.autograd.grad(element, x, retain_graph=True)
        most = max(most, int(gradient.count_nonzero()))
    return most


@pytest.mark.parametrize(
    ("mode", "dimensions", "taps"), [("linear", 1, 2), ("bilinear", 2, 4), ("trilinear", 3, 8), ("bicubic", 2, 16)]
)
def test_interpolation_is_a_multiply_add_per_tap(mode: str, dimensions: int, taps: int) -> None:
    assert taps_by_influence(mode, dimensions) == taps
    x = numbers(N, C, *SIDES[:dimensions])
    seen = count(lambda a: F.interpolate(a, scale_factor=2, mode=mode), x)
    assert not seen.unpriced
    assert seen.forward == seen.backward == Price(2 * taps * x.numel() * 2**dimensions)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_nearest_neighbours_are_moved(mode: str, dimensions: int) -> None:
    x = numbers(N, C, *SIDES[:dimensions])
    seen = count(lambda a: F.interpolate(a, scale_factor=2, mode=mode), x)
    assert not seen.unpriced
    assert seen.forward == Price()
    assert seen.backward == Price(x.numel() * 2**dimensions)


@pytest.mark.parametrize(("mode", "sample"), [("bilinear", 8), ("nearest", 0), ("bicubic", 32)])
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_grid_sampler(mode: str, sample: int, needs: tuple[bool, bool]) -> None:
    x, grid = numbers(N, C, 6, 7, grad=needs[0]), numbers(N, 4, 5, 2, grad=needs[1])
    seen = count(lambda a, g: F.grid_sample(a, g, mode=mode, align_corners=False), x, grid)
    elements = N * C * 4 * 5
    assert not seen.unpriced
    assert seen.forward == Price(elements * sample)
    # Two coordinates, each a sum over the taps.
    assert seen.backward == Price(elements * ((sample or 1) * needs[0] + 2 * sample * needs[1]))


def test_grid_sampler_of_volumes() -> None:
    x, grid = numbers(N, C, 4, 5, 6), numbers(N, 2, 3, 4, 3)
    seen = count(lambda a, g: F.grid_sample(a, g, align_corners=False), x, grid)
    assert seen.forward == Price(N * C * 24 * 16)
    assert seen.backward == Price(N * C * 24 * (16 + 3 * 16))


def test_cudnn_grid_sampler_as_any_other() -> None:
    x, grid, y = tensor(N, C, 6, 7), tensor(N, 4, 5, 2), tensor(N, C, 4, 5)
    assert priced("aten.cudnn_grid_sampler", x, grid, outputs=[y]) == Price(8 * y.elements)
    assert priced("aten.cudnn_grid_sampler_backward", x, grid, y) == Price(24 * y.elements)


# Regions ------------------------------------------------------------------------------------------------------------

BOXES = torch.tensor([[0.0, 0.0, 5.0, 5.0], [1.0, 2.0, 6.0, 7.0], [2.0, 2.0, 4.0, 8.0]])


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_region_align(ratio: int) -> None:
    """An output element is the mean of ratio^2 samples of 4 taps."""
    seen = count(lambda a: torchvision.ops.roi_align(a, [BOXES], 2, sampling_ratio=ratio), numbers(1, C, 9, 9))
    assert not seen.unpriced
    assert seen.of("torchvision.roi_align") == Price(3 * C * 4 * ratio**2 * 9)
    assert seen.of("_roi_align_backward") == Price(3 * C * 4 * ratio**2 * 9)


def test_region_align_that_adapts_counts_regions_as_large_as_the_input() -> None:
    seen = count(lambda a: torchvision.ops.roi_align(a, [BOXES], 2), numbers(1, C, 9, 10))
    assert seen.of("torchvision.roi_align") == Price(3 * C * 4 * (5 * 5) * 9)
    assert seen.of("_roi_align_backward") == Price(3 * C * 4 * (5 * 5) * 9)


def test_region_align_by_position() -> None:
    seen = count(lambda a: torchvision.ops.ps_roi_align(a, [BOXES], 2, sampling_ratio=2), numbers(1, 8, 9, 9))
    assert not seen.unpriced
    assert seen.of("torchvision.ps_roi_align") == seen.of("_ps_roi_align_backward") == Price(3 * 2 * 4 * 4 * 9)


@pytest.mark.parametrize("boxes", [0, 1, 5])
def test_suppression_compares_every_pair(boxes: int) -> None:
    seen = count(torchvision.ops.nms, numbers(boxes, 4, grad=False), numbers(boxes, grad=False), 0.5)
    assert seen.forward == Price(3 * boxes + 13 * sum(range(boxes)))


# Data that overlaps -------------------------------------------------------------------------------------------------


def test_folding_adds_and_unfolding_moves() -> None:
    x = numbers(N, C, 6, 6)
    unfold = count(nn.Unfold(3), x)
    columns = N * C * 9 * 16
    assert unfold.forward == Price()
    assert unfold.backward == Price(columns)
    fold = count(nn.Fold((6, 6), 3), numbers(N, C * 9, 16))
    assert (fold.forward, fold.backward) == (Price(columns), Price())
    view = count(lambda a: a.unfold(2, 3, 1), x)
    assert (view.forward, view.backward) == (Price(), Price(N * C * 4 * 6 * 3))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "constant"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_padding_moves_and_its_gradient_adds_where_copies_meet(mode: str, dimensions: int) -> None:
    x = numbers(N, C, *SIDES[:dimensions])
    seen = count(lambda a: F.pad(a, (1, 1) * dimensions, mode=mode), x)
    assert not seen.unpriced
    assert seen.forward == Price()
    padded = N * C * prod(side + 2 for side in SIDES[:dimensions])
    if mode in ("reflect", "replicate"):
        assert seen.backward == Price(padded)
