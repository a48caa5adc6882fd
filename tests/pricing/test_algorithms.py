"""Transforms, distances, factorizations: by their known counts, and against the operators they are made of."""

from __future__ import annotations

from math import log2
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from torchtally.profiler.formulas import Price

from .running import count, numbers

CHANNELS, SIDE = 3, 8


@pytest.mark.parametrize(
    ("function", "dtype", "flops"),
    [
        (torch.fft.fft, torch.complex64, 5 * CHANNELS * SIDE * SIDE * 3),
        (torch.fft.fft2, torch.complex64, 5 * CHANNELS * SIDE * SIDE * 6),
        (torch.fft.ifft2, torch.complex64, 5 * CHANNELS * SIDE * SIDE * 6),  # scaled by the kernel
        (torch.fft.rfft, torch.float32, 2.5 * CHANNELS * SIDE * SIDE * 3),
        (torch.fft.rfft2, torch.float32, 2.5 * CHANNELS * SIDE * SIDE * 3 + 5 * CHANNELS * SIDE * (SIDE // 2 + 1) * 3),
    ],
)
def test_fourier_transforms(function: Any, dtype: torch.dtype, flops: float) -> None:
    """5 n log2 n; a real transform is half of it, and leaves half the numbers to the other dimensions."""
    seen = count(function, numbers(CHANNELS, SIDE, SIDE, grad=False, dtype=dtype))
    assert not seen.unpriced
    assert seen.forward == Price(round(flops))


def test_fourier_there_and_back_cost_the_same() -> None:
    x = numbers(CHANNELS, SIDE, SIDE, grad=False)
    there = count(torch.fft.rfft2, x)
    back = count(lambda z: torch.fft.irfft2(z, s=(SIDE, SIDE)), torch.fft.rfft2(x))
    assert there.forward == back.forward


def test_fourier_transforms_have_gradients_with_prices() -> None:
    for function in (torch.fft.rfft2, lambda a: torch.fft.irfft(torch.fft.rfft(a)), torch.fft.fftn):
        seen = count(lambda a, f=function: torch.view_as_real(z) if (z := f(a)).is_complex() else z, numbers(4, 6))
        assert not seen.unpriced
        assert seen.forward.flops > 0 < seen.backward.flops


@pytest.mark.parametrize("size", [1, 7, 12])
def test_fourier_sizes_that_are_no_powers_of_two(size: int) -> None:
    seen = count(torch.fft.fft, numbers(size, grad=False, dtype=torch.complex64))
    assert seen.forward == Price(round(5 * size * log2(size)))


def test_short_time_transform() -> None:
    seen = count(lambda x: torch.stft(x, 8, window=torch.hann_window(8), return_complex=True), numbers(64, grad=False))
    frames = 64 // 2 + 1
    assert seen.of("_fft_r2c") == Price(round(2.5 * frames * 8 * 3))


# Distances ----------------------------------------------------------------------------------------------------------

M, N, D = 4, 5, 6


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_distances_of_pairs(p: float) -> None:
    """Difference, power, sum: 3 for each coordinate of each pair."""
    seen = count(lambda a, b: torch.cdist(a, b, p=p), numbers(M, D), numbers(N, D, grad=False))
    assert not seen.unpriced
    assert seen.forward == Price(3 * M * N * D)
    assert seen.of("_cdist_backward") == Price(3 * M * N * D)


def test_distances_by_a_product() -> None:
    """Beyond 25 vectors, |x|^2 + |y|^2 - 2xy."""
    seen = count(lambda a, b: torch.cdist(a, b), numbers(30, D, grad=False), numbers(N, D, grad=False))
    assert not seen.unpriced
    assert seen.forward.matmul_flops in (0, 2 * 30 * N * (D + 2))  # one operator, where the library has it so
    forced = count(
        lambda a, b: torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist"), numbers(M, D), numbers(N, D, grad=False)
    )
    assert not forced.unpriced


def test_distances_within_a_set() -> None:
    seen = count(F.pdist, numbers(M, D))
    assert seen.forward == Price(3 * 6 * D)
    assert seen.backward == Price(4 * 6 * D)


# Losses over alignments ----------------------------------------------------------------------------------------------


def test_connectionist_temporal_classification() -> None:
    """A state for each step and each of 2S + 1 symbols."""
    steps, batch, classes, targets = 12, 2, 5, 4
    log_probabilities = numbers(steps, batch, classes)
    labels = torch.ones(batch, targets, dtype=torch.int64)
    lengths = torch.full((batch,), steps), torch.full((batch,), targets)
    seen = count(lambda x: F.ctc_loss(x, labels, *lengths, reduction="sum"), log_probabilities)
    states = batch * steps * (2 * targets + 1)
    assert not seen.unpriced
    assert seen.of("_ctc_loss.") == Price(10 * states)
    assert seen.of("_ctc_loss_backward") == Price(14 * states + 5 * steps * batch * classes)


# Matrices ------------------------------------------------------------------------------------------------------------


def positive(*shape: int) -> torch.Tensor:
    x = numbers(*shape, grad=False)
    return x @ x.mT + torch.eye(shape[-1])


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (torch.linalg.cholesky, 2 * (6**3 // 3)),
        (torch.linalg.inv, 2 * 2 * 6**3),
        (torch.linalg.det, 2 * (2 * 6**3 // 3)),
        (torch.linalg.lu_factor, 2 * (2 * 6**3 // 3)),
        (lambda a: torch.linalg.solve(a, a[..., :2]), 2 * (2 * 6**3 // 3) + 2 * 2 * 6 * 6 * 2),
        (lambda a: torch.linalg.solve_triangular(a, a[..., :2], upper=True), 2 * 6 * 6 * 2),
        (lambda a: torch.cholesky_solve(a[..., :2], a), 2 * 2 * 6 * 6 * 2),
    ],
)
def test_factorizations(function: Any, flops: int) -> None:
    seen = count(function, positive(2, 6, 6))
    assert not seen.unpriced
    assert seen.forward.flops == flops


def test_qr_of_a_square_is_twice_four_thirds_of_its_cube() -> None:
    assert count(torch.linalg.qr, positive(6, 6)).forward == Price(2 * 4 * 6**3 // 3)


@pytest.mark.parametrize(
    "function", [torch.linalg.svdvals, torch.linalg.eigvalsh, torch.linalg.eigvals, torch.matrix_exp]
)
def test_iterations_are_unpriced(function: Any) -> None:
    assert count(function, positive(6, 6)).unpriced
