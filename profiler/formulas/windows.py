"""Windows over a feature map: pooling is one FLOP per element of each window; interpolation is a weighted sum of its
taps, a multiply-add (2) each: linear 4, bilinear 8, trilinear 16, bicubic 32 FLOPs per element. Weights, shared by the
channels, are left out. Nearest neighbours are moved: nothing forward, one addition per gradient element backward.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..records import Signature
from .price import Formula, Price, argument, flags

_MULTIPLY_ADD = 2
_BILINEAR = 4 * _MULTIPLY_ADD

# Pooling ----------------------------------------------------------------------------------------------------------


def pooling(dimensions: int) -> Formula:
    """input, kernel_size, ...: one FLOP per element of each window."""

    def formula(signature: Signature) -> Price:
        return Price(signature.outputs[0].elements * _window(argument(signature, 1, "kernel_size"), dimensions))

    return formula


def pooling_backward(dimensions: int) -> Formula:
    """grad_output, input, kernel_size, ...: one FLOP per element of each window again."""

    def formula(signature: Signature) -> Price:
        gradient, kernel = argument(signature, 0, "grad_output"), argument(signature, 2, "kernel_size")
        return Price(gradient.elements * _window(kernel, dimensions))

    return formula


def _window(kernel: Any, dimensions: int) -> int:
    sizes = kernel if isinstance(kernel, tuple) else (kernel,)
    return int(prod(sizes * dimensions if len(sizes) == 1 else sizes))


def adaptive_pooling(dimensions: int) -> Formula:
    """input, output_size: the windows' sizes differ by position and are added up."""

    def formula(signature: Signature) -> Price:
        return _adaptive(argument(signature, 0, "self"), signature.outputs[0], dimensions)

    return formula


def adaptive_pooling_backward(dimensions: int) -> Formula:
    """grad_output, input, ...: as many as forward."""

    def formula(signature: Signature) -> Price:
        return _adaptive(argument(signature, 1, "self"), argument(signature, 0, "grad_output"), dimensions)

    return formula


def _adaptive(large: Any, small: Any, dimensions: int) -> Price:
    """Window i of n over a side of length L runs from floor(i*L/n) to ceil((i+1)*L/n)."""
    elements = prod(small.shape[:-dimensions])
    for length, windows in zip(large.shape[-dimensions:], small.shape[-dimensions:], strict=True):
        elements *= sum(-(-(i + 1) * length // windows) - i * length // windows for i in range(windows))
    return Price(elements)


# Interpolation ----------------------------------------------------------------------------------------------------


def interpolation(taps: int) -> Formula:
    """input, output_size, ...: a multiply-add per tap of each output element."""

    def formula(signature: Signature) -> Price:
        return Price(_MULTIPLY_ADD * taps * signature.outputs[0].elements)

    return formula


def interpolation_backward(taps: int) -> Formula:
    """grad_output, ...: each gradient element is spread over as many taps."""

    def formula(signature: Signature) -> Price:
        return Price(_MULTIPLY_ADD * taps * argument(signature, 0, "grad_output").elements)

    return formula


def _sampling(mode: int, dimensions: int) -> int:
    """FLOPs of a sample, by interpolation mode: 0 linear in every dimension, 1 nearest, 2 cubic."""
    return int(_MULTIPLY_ADD * {0: 2, 1: 0, 2: 4}[mode] ** dimensions)


def grid_sampler(dimensions: int, mode: int | None = None) -> Formula:
    """input, grid, mode, ...: a sample per output element. (From the grid to positions is left out.)"""

    def formula(signature: Signature) -> Price:
        kind = argument(signature, 2, "interpolation_mode", 0) if mode is None else mode
        return Price(signature.outputs[0].elements * _sampling(kind, dimensions))

    return formula


def grid_sampler_backward(dimensions: int) -> Formula:
    """grad_output, input, grid, mode, ..., output_mask: each sample's gradient spread over its taps (nearest: one
    addition); the grid's gradient is a weighted sum of the taps in each coordinate (nearest: zero)."""

    def formula(signature: Signature) -> Price:
        gradient, mode = argument(signature, 0, "grad_output"), argument(signature, 3, "interpolation_mode", 0)
        wanted = flags(argument(signature, 6, "output_mask"), 2)
        sample = _sampling(mode, dimensions)
        return Price(gradient.elements * ((sample or 1) * wanted[0] + dimensions * sample * wanted[1]))

    return formula


def cudnn_grid_sampler_backward(signature: Signature) -> Price:
    """input, grid, grad_output: bilinear, both gradients."""
    return Price(argument(signature, 2, "grad_output").elements * 3 * _BILINEAR)


# Regions of interest ----------------------------------------------------------------------------------------------


def region_align(signature: Signature) -> Price:
    """roi_align, ps_roi_align: input (N, C, H, W), regions, scale, pooled sizes, sampling_ratio at 5."""
    sides = argument(signature, 0, "input").shape[-2:]
    return _averages(signature.outputs[0], argument(signature, 5, "sampling_ratio", -1), sides)


def region_align_backward(ratio: int, height: int) -> Formula:
    """grad, regions, ...: with the places of sampling_ratio and of the input's height, its width behind."""

    def formula(signature: Signature) -> Price:
        sides = argument(signature, height, "height"), argument(signature, height + 1, "width")
        return _averages(argument(signature, 0, "grad"), argument(signature, ratio, "sampling_ratio", -1), sides)

    return formula


def _averages(averages: Any, ratio: int, sides: tuple[int, int]) -> Price:
    """Each averages ratio*ratio bilinear samples: 8 FLOPs a sample, and one for the average.

    Where ratio is 0 or less, the samples in a bin are as many as its height and width in pixels, rounded up. Regions
    are data: the price is that of regions as large as the input, as masks count as if nothing were masked.
    """
    bins = averages.shape[-2:]
    samples = ratio**2 if ratio > 0 else prod(-(-side // max(n, 1)) for side, n in zip(sides, bins, strict=True))
    return Price(averages.elements * samples * (_BILINEAR + 1))


def non_maximum_suppression(signature: Signature) -> Price:
    """boxes (n, 4), scores: areas, 3 each; the overlap of every pair, as if none was suppressed early: two widths
    (minimum, maximum, difference, not below 0), their product, union 2, quotient, comparison: 13."""
    boxes = argument(signature, 0, "dets").shape[0]
    return Price(3 * boxes + 13 * (boxes * (boxes - 1) // 2))
