"""Bytes moved, by hand: 4 per element of float32."""

from __future__ import annotations

import pytest

from torchtally.profiler.records import Argument, Signature
from torchtally.profiler.seconds.traffic import moved
from torchtally.theory.tensor import TensorSpec


def spec(*shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(shape, dtype)


N, C, K, H, W = 2, 3, 5, 8, 10


def convolution(kernel: int, stride: int) -> Signature:
    output = spec(N, K, H // stride, W // stride)
    arguments: tuple[Argument, ...] = (
        spec(N, C, H, W),
        spec(K, C, kernel, kernel),
        None,
        (stride, stride),
        (0, 0),
        (1, 1),
        False,
        (0, 0),
        1,
    )
    return Signature("aten.convolution.default", arguments, {}, (output,))


def test_operands_are_read_and_results_written() -> None:
    signature = Signature("aten.add.Tensor", (spec(4, 8), spec(8)), {}, (spec(4, 8),))
    assert moved(signature) == 4 * (4 * 8 + 8 + 4 * 8)


def test_what_is_overwritten_is_not_read() -> None:
    assert moved(Signature("aten.zero_.default", (spec(16),), {}, (spec(16),))) == 4 * 16
    assert moved(Signature("aten.copy_.default", (spec(16), spec(16)), {}, (spec(16),))) == 4 * (16 + 16)
    assert moved(Signature("aten.add_.Tensor", (spec(16), spec(16)), {}, (spec(16),))) == 4 * (16 + 16 + 16)


def test_of_a_table_only_what_is_looked_up() -> None:
    rows, width, looked = 1000, 16, 7
    signature = Signature(
        "aten.embedding.default", (spec(rows, width), spec(looked, dtype="int64")), {}, (spec(looked, width),)
    )
    assert moved(signature) == 8 * looked + 2 * 4 * looked * width


@pytest.mark.parametrize(("kernel", "stride", "read"), [(1, 1, 1), (3, 1, 1), (1, 2, 1 / 4), (2, 2, 1), (3, 4, 9 / 16)])
def test_a_strided_convolution_skips_what_its_kernel_does_not_reach(kernel: int, stride: int, read: float) -> None:
    inputs, weights = N * C * H * W, K * C * kernel**2
    outputs = N * K * (H // stride) * (W // stride)
    assert moved(convolution(kernel, stride)) == 4 * (inputs * read + weights + outputs)
