from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchtally.theory.cost import Cost
from torchtally.theory.layer import Saved, ShapeError
from torchtally.theory.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAveragePool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from torchtally.theory.tensor import TensorSpec
from torchtally.theory.windows import adaptive_elements, window_count

N, C, H, W = 2, 3, 9, 11


def test_the_walkthroughs_first_pool() -> None:
    pool = MaxPool2d(kernel_size=2)
    x = TensorSpec((32, 32, 32, 32))
    assert pool.output(x) == TensorSpec((32, 32, 16, 16))
    assert pool.forward(x) == Cost(flops=1_048_576)
    assert pool.backward(x).total == Cost(flops=1_048_576)
    assert pool.backward(x).gradient_bytes == 4_194_304
    assert pool.saved(x)[1].tensor.nbytes == 8 * 32 * 32 * 16 * 16


def test_stride_padding_and_dilation() -> None:
    pool = MaxPool2d(kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))
    h_out = (H + 2 - (3 - 1) - 1) // 2 + 1
    w_out = (W - 2 * (2 - 1) - 1) // 1 + 1
    x = TensorSpec((N, C, H, W))
    assert pool.output(x).shape == (N, C, h_out, w_out)
    assert pool.forward(x).flops == N * C * h_out * w_out * 3 * 2


@given(
    size=st.integers(1, 20),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 5),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 3),
)
def test_windows_counted_one_by_one(size: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    reach = dilation * (kernel - 1) + 1
    padding = min(padding, kernel // 2)
    starts = range(-padding, size + padding + stride, stride)
    whole = [start for start in starts if start + reach <= size + padding]
    # With ceil_mode windows go on until one reaches the end of the padding; none starts beyond the input.
    reaching = [start for start in starts if start - stride + reach < size + padding and start < size]
    settings = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    if whole:
        assert window_count(size, **settings, ceil_mode=False) == len(whole)
        assert window_count(size, **settings, ceil_mode=True) == len(reaching)


def test_ceil_mode_keeps_an_overhanging_window_and_prices_it_whole() -> None:
    x = TensorSpec((N, C, 5))
    assert MaxPool1d(kernel_size=2).output(x).shape == (N, C, 2)
    pool = AvgPool1d(kernel_size=2, ceil_mode=True)
    assert pool.output(x).shape == (N, C, 3)
    assert pool.forward(x).flops == N * C * 3 * 2


def test_maximum_saves_input_and_indices_average_its_input() -> None:
    x = TensorSpec((N, C, 4, 4))
    indices = Saved("index", TensorSpec((N, C, 2, 2), "int64"))
    assert MaxPool2d(kernel_size=2).saved(x) == (Saved("input", x), indices)
    assert AdaptiveMaxPool2d(output_size=2).saved(x) == (Saved("input", x), indices)
    assert AvgPool2d(kernel_size=2).saved(x) == (Saved("input", x),)
    assert AdaptiveAvgPool2d(output_size=2).saved(x) == (Saved("input", x),)
    assert AdaptiveAvgPool2d(output_size=1).saved(x) == ()


def test_one_and_three_dimensions_and_no_batch() -> None:
    assert MaxPool3d(kernel_size=2).output(TensorSpec((N, C, 4, H, W))).shape == (N, C, 2, H // 2, W // 2)
    x = TensorSpec((N, C, 4, H, W))
    assert AvgPool3d(kernel_size=2).forward(x).flops == N * C * 2 * (H // 2) * (W // 2) * 2**3
    assert MaxPool2d(kernel_size=2).output(TensorSpec((C, H, W))).shape == (C, H // 2, W // 2)


@given(size=st.integers(1, 30), windows=st.integers(1, 30))
def test_adaptive_windows_summed_one_by_one(size: int, windows: int) -> None:
    elements = 0
    for i in range(windows):
        elements += ceil(Fraction((i + 1) * size, windows)) - floor(Fraction(i * size, windows))
    assert adaptive_elements(size, windows) == elements


def test_adaptive_windows_of_uneven_size_overlap() -> None:
    # 5 into 3: [0, 2), [1, 4), [3, 5): 7 elements read; 7 into 2: [0, 4), [3, 7): 8.
    x = TensorSpec((N, C, 5, 7))
    pool = AdaptiveAvgPool2d(output_size=(3, 2))
    assert pool.output(x).shape == (N, C, 3, 2)
    assert pool.forward(x).flops == N * C * 7 * 8
    assert pool.backward(x).total.flops == N * C * 7 * 8


def test_adaptive_output_may_keep_a_dimension() -> None:
    x = TensorSpec((N, C, H, W))
    assert AdaptiveMaxPool2d(output_size=(None, 1)).output(x).shape == (N, C, H, 1)
    assert AdaptiveAvgPool1d(output_size=1).forward(TensorSpec((C, W))).flops == C * W
    assert AdaptiveAvgPool3d(output_size=None).output(TensorSpec((N, C, 2, H, W))).shape == (N, C, 2, H, W)
    assert AdaptiveMaxPool1d(output_size=2).output(TensorSpec((N, C, W))).shape == (N, C, 2)
    assert AdaptiveMaxPool3d(output_size=2).output(TensorSpec((C, 4, H, W))).shape == (C, 2, 2, 2)


def test_global_average_pooling_gives_features() -> None:
    gap = GlobalAveragePool()
    x = TensorSpec((32, 128, 4, 4))
    assert gap.output(x) == TensorSpec((32, 128))
    assert gap.output(x).nbytes == 16_384
    assert gap.forward(x) == Cost(flops=65_536)
    assert gap.backward(x).total == Cost(flops=65_536)
    assert gap.backward(x).gradient_bytes == 262_144
    assert gap.saved(x) == ()
    assert gap.output(TensorSpec((N, C, W))).shape == (N, C)


def test_no_gradient_needed_no_work() -> None:
    x = TensorSpec((N, C, H, W))
    backward = MaxPool2d(kernel_size=2).backward(x, needs_input_grad=False)
    assert (backward.total, backward.input_gradients) == (Cost(), (None,))


def test_inputs_that_do_not_fit_raise() -> None:
    with pytest.raises(ShapeError, match=r"MaxPool2d has no output for the input \(1, 1, 1, 4\)"):
        MaxPool2d(kernel_size=2).output(TensorSpec((1, 1, 1, 4)))
    with pytest.raises(ShapeError, match="or the same without N"):
        AvgPool2d(kernel_size=2).forward(TensorSpec((4, 4)))
    with pytest.raises(ShapeError, match="AdaptiveAvgPool2d has no output"):
        AdaptiveAvgPool2d(output_size=1).output(TensorSpec((1, 1, 0, 4)))
    with pytest.raises(ShapeError, match="GlobalAveragePool takes"):
        GlobalAveragePool().output(TensorSpec((N, C)))
    with pytest.raises(ShapeError):
        GlobalAveragePool().forward(TensorSpec((N, C, 0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be at least 1"),
        ({"kernel_size": 2, "stride": 0}, "stride must be at least 1"),
        ({"kernel_size": 2, "padding": -1}, "padding must be at least 0"),
        ({"kernel_size": 2, "padding": 2}, "at most half of the kernel"),
        ({"kernel_size": 2, "dilation": 0}, "dilation must be at least 1"),
        ({"kernel_size": (2, 2, 2)}, "kernel_size needs 2 values"),
    ],
)
def test_settings_that_make_no_pooling_raise(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaxPool2d(**settings)  # type: ignore[arg-type]


def test_adaptive_settings_that_make_no_pooling_raise() -> None:
    with pytest.raises(ValueError, match="output_size needs 2 values"):
        AdaptiveAvgPool2d(output_size=(1,))
    with pytest.raises(ValueError, match="output_size must be at least 1"):
        AdaptiveAvgPool2d(output_size=0)
