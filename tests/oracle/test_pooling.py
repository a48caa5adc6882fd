"""Pooling against enumerated windows and real layers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import nn

from torchtally.theory import pooling as theory
from torchtally.theory.layer import ShapeError
from torchtally.theory.tensor import TensorSpec

from . import brute
from .cases import examples
from .holding import Truth, hold
from .real import grid, numbers, observe, observed, same_computation, spec

SIZES = {1: 9, 2: 6, 3: 4}


@dataclass(frozen=True)
class Pooling:
    """One pooling with windows of one size, and the shape it is given."""

    dimensions: int
    maximum: bool
    leading: tuple[int, ...]
    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...] | None
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.leading, *self.sizes)

    @property
    def name(self) -> str:
        return f"{'Max' if self.maximum else 'Avg'}Pool{self.dimensions}d"

    def settings(self) -> dict[str, Any]:
        shared = {
            "kernel_size": self.kernel,
            "stride": self.stride,
            "padding": self.padding,
            "ceil_mode": self.ceil_mode,
        }
        return shared | ({"dilation": self.dilation} if self.maximum else {})

    def windows(self) -> list[list[list[int]]]:
        return [
            brute.pool_windows(size, k, s, p, d, self.ceil_mode)
            for size, k, s, p, d in zip(
                self.sizes, self.kernel, self.stride or self.kernel, self.padding, self.dilation, strict=True
            )
        ]


@st.composite
def poolings(draw: st.DrawFn) -> Pooling:
    dimensions = draw(st.integers(1, 3))
    maximum = draw(st.booleans())

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(dimensions))

    kernel = each(1, 4 if dimensions < 3 else 3)
    return Pooling(
        dimensions=dimensions,
        maximum=maximum,
        leading=draw(st.sampled_from([(2,), (0, 2), (1, 3), (2, 2)])),
        sizes=each(1, SIZES[dimensions]),
        kernel=kernel,
        stride=draw(st.one_of(st.none(), st.just(each(1, 4)))),
        padding=tuple(draw(st.integers(0, k // 2)) for k in kernel),
        dilation=each(1, 3) if maximum else (1,) * dimensions,
        ceil_mode=draw(st.booleans()),
        dtype=draw(st.sampled_from(["float32", "float64"])),
    )


def given_to(case: Any) -> torch.Tensor:
    """Distinct numbers, so that no maximum is a tie."""
    x = torch.randperm(max(1, torch.Size(case.shape).numel()), generator=torch.Generator().manual_seed(1))
    return x[: torch.Size(case.shape).numel()].reshape(case.shape).to(getattr(torch, case.dtype)).requires_grad_()


@examples(150)
@given(poolings())
def test_windows(case: Pooling) -> None:
    windows = case.windows()
    form = getattr(theory, case.name)(**case.settings())
    x = given_to(case)
    # avg_pool3d alone refuses a kernel larger than the input without its padding.
    assume(case.name != "AvgPool3d" or all(size >= k for size, k in zip(case.sizes, case.kernel, strict=True)))
    if not all(windows):
        with pytest.raises(ShapeError):
            form.output(spec(x))
        with pytest.raises(RuntimeError):
            getattr(nn, case.name)(**case.settings())(x)
        return
    # A dilated window can straddle the input and touch none of it: no maximum, torch's gradient is arbitrary.
    assume(all(any(0 <= at < size for at in w) for size, each in zip(case.sizes, windows, strict=True) for w in each))
    seen = observe(getattr(nn, case.name)(**case.settings()), x)
    result = brute.pooling(
        grid(x),
        windows,
        seen.upstream.flatten().tolist(),
        maximum=case.maximum,
        divide_by="padded",
        padding=case.padding,
    )
    assert same_computation(result, seen)
    hold(form, [spec(x)], Truth.counted(result, dtype=case.dtype, buffers={}))
    hold(form, [spec(x)], observed(seen, x))


@dataclass(frozen=True)
class Adaptive:
    dimensions: int
    maximum: bool
    leading: tuple[int, ...]
    sizes: tuple[int, ...]
    output_size: int | tuple[int | None, ...]
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.leading, *self.sizes)

    @property
    def name(self) -> str:
        return f"Adaptive{'Max' if self.maximum else 'Avg'}Pool{self.dimensions}d"


@st.composite
def adaptives(draw: st.DrawFn) -> Adaptive:
    dimensions = draw(st.integers(1, 3))
    most = SIZES[dimensions]
    one = st.integers(1, most + 2)
    each = st.one_of(st.just(1), st.none(), one) if dimensions > 1 else one
    return Adaptive(
        dimensions=dimensions,
        maximum=draw(st.booleans()),
        leading=draw(st.sampled_from([(2,), (1, 3), (2, 2)])),
        sizes=tuple(draw(st.integers(1, most)) for _ in range(dimensions)),
        output_size=draw(st.one_of(one, st.tuples(*[each] * dimensions))),
    )


@examples(150)
@given(adaptives())
@example(Adaptive(dimensions=2, maximum=False, leading=(2,), sizes=(1, 1), output_size=(1, None)))
def test_adaptive_windows(case: Adaptive) -> None:
    counts = case.output_size if isinstance(case.output_size, tuple) else (case.output_size,) * case.dimensions
    windows = [
        brute.adaptive_windows(size, size if count is None else count)
        for size, count in zip(case.sizes, counts, strict=True)
    ]
    x = given_to(case)
    seen = observe(getattr(nn, case.name)(case.output_size), x)
    result = brute.pooling(grid(x), windows, seen.upstream.flatten().tolist(), maximum=case.maximum)
    assert same_computation(result, seen)
    form = getattr(theory, case.name)(output_size=case.output_size)
    hold(form, [spec(x)], Truth.counted(result, buffers={}))
    hold(form, [spec(x)], observed(seen, x))


@examples(60)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 3), st.integers(1, 3))
def test_global_average(sizes: list[int], batch: int, channels: int) -> None:
    """(N, C): one window over everything, and one operation for each of its elements, both ways."""
    x = numbers(batch, channels, *sizes, dtype=torch.float32).requires_grad_()
    dims = tuple(range(2, x.dim()))
    seen = observe(nn.Identity(), x, call=lambda x: x.mean(dims))
    windows = [brute.adaptive_windows(size, 1) for size in sizes]
    result = brute.pooling(grid(x), windows, seen.upstream.flatten().tolist(), maximum=False)
    result.output.shape = result.output.shape[:2]
    result.output.at = {index[:2]: value for index, value in result.output.at.items()}
    assert torch.allclose(
        torch.tensor(result.output.flat(), dtype=torch.float64).reshape(batch, channels), seen.output.double()
    )
    hold(theory.GlobalAveragePool(), [spec(x)], Truth.counted(result, buffers={}))
    hold(theory.GlobalAveragePool(), [spec(x)], observed(seen, x))


def test_padding_of_more_than_half_a_window() -> None:
    """Refused by both: a window could lie in the padding as a whole."""
    for kernel, padding, dilation in itertools.product((1, 2, 3), (0, 1, 2), (1, 2)):
        real = nn.MaxPool2d(kernel, padding=padding, dilation=dilation)
        try:
            real(torch.zeros(1, 1, 9, 9))
        except RuntimeError:
            with pytest.raises(ValueError, match="padding"):
                theory.MaxPool2d(kernel_size=kernel, padding=padding, dilation=dilation)
        else:
            form = theory.MaxPool2d(kernel_size=kernel, padding=padding, dilation=dilation)
            assert form.output(TensorSpec((1, 1, 9, 9))).shape
