"""Expected values are formulas in named dimensions, or the walkthrough's literals."""

import pytest

from torchtally.theory.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from torchtally.theory.cost import Cost
from torchtally.theory.layer import Parameter, Saved, ShapeError, parameter_bytes, parameter_count
from torchtally.theory.tensor import TensorSpec

N, C_IN, C_OUT, H, W, K = 2, 6, 4, 9, 11, 3


def test_the_walkthroughs_first_convolution() -> None:
    conv = Conv2d(in_channels=3, out_channels=32, kernel_size=3, padding=1)
    x = TensorSpec((32, 3, 32, 32))
    assert conv.output(x) == TensorSpec((32, 32, 32, 32))
    assert conv.output(x).nbytes == 4_194_304
    assert (parameter_count(conv), parameter_bytes(conv)) == (896, 3_584)
    assert conv.forward(x) == Cost(flops=56_623_104, matmul_flops=56_623_104)
    backward = conv.backward(x)
    assert (backward.input.flops, backward.weight.flops) == (56_623_104, 56_623_104)
    assert (backward.gradient_bytes, backward.parameter_gradient_bytes) == (393_216, 3_584)


def test_every_setting_at_once() -> None:
    conv = Conv2d(
        in_channels=C_IN,
        out_channels=C_OUT,
        kernel_size=(3, 2),
        stride=(2, 1),
        padding=(1, 2),
        dilation=(2, 3),
        groups=2,
    )
    h_out = (H + 2 * 1 - 2 * (3 - 1) - 1) // 2 + 1
    w_out = (W + 2 * 2 - 3 * (2 - 1) - 1) // 1 + 1
    x = TensorSpec((N, C_IN, H, W))
    assert conv.output(x).shape == (N, C_OUT, h_out, w_out)
    assert conv.parameters == (
        Parameter("weight", (C_OUT, C_IN // 2, 3, 2)),
        Parameter("bias", (C_OUT,)),
    )
    assert conv.forward(x).flops == 2 * N * C_OUT * h_out * w_out * (C_IN // 2) * 3 * 2
    assert conv.buffers == ()
    assert conv.saved(x) == (Saved("input", x),)


def test_bias_gradient_stands_apart() -> None:
    conv = Conv2d(in_channels=C_IN, out_channels=C_OUT, kernel_size=K)
    backward = conv.backward(TensorSpec((N, C_IN, H, W)))
    assert backward.bias == Cost(bias_flops=N * C_OUT * (H - 2) * (W - 2))
    assert backward.total.flops == 2 * (2 * N * C_OUT * (H - 2) * (W - 2) * C_IN * K * K)


def test_only_what_is_needed_is_computed() -> None:
    conv = Conv2d(in_channels=C_IN, out_channels=C_OUT, kernel_size=K)
    x = TensorSpec((N, C_IN, H, W))
    product = 2 * N * C_OUT * (H - 2) * (W - 2) * C_IN * K * K
    first = conv.backward(x, needs_input_grad=False)
    assert (first.total.flops, first.input_gradients, first.gradient_bytes) == (product, (None,), 0)
    frozen = conv.backward(x, needs_weight_grad=False, needs_bias_grad=False)
    assert (frozen.total, frozen.parameter_gradients) == (Cost.matmul(product // 2), ())
    no_bias = Conv2d(in_channels=C_IN, out_channels=C_OUT, kernel_size=K, bias=False)
    assert no_bias.backward(x).bias == Cost()
    assert [p.name for p in no_bias.parameters] == ["weight"]


def test_one_and_three_dimensions() -> None:
    one = Conv1d(in_channels=C_IN, out_channels=C_OUT, kernel_size=K)
    assert one.output(TensorSpec((N, C_IN, W))).shape == (N, C_OUT, W - 2)
    three = Conv3d(in_channels=C_IN, out_channels=C_OUT, kernel_size=K)
    x = TensorSpec((N, C_IN, 5, H, W))
    assert three.output(x).shape == (N, C_OUT, 3, H - 2, W - 2)
    assert three.forward(x).flops == 2 * N * C_OUT * 3 * (H - 2) * (W - 2) * C_IN * K**3


def test_an_unbatched_input_is_a_batch_of_one_without_the_dimension() -> None:
    conv = Conv2d(in_channels=C_IN, out_channels=C_OUT, kernel_size=K)
    assert conv.output(TensorSpec((C_IN, H, W))).shape == (C_OUT, H - 2, W - 2)
    assert conv.forward(TensorSpec((C_IN, H, W))) == conv.forward(TensorSpec((1, C_IN, H, W)))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_same_padding_keeps_the_size_for_even_kernels_too(k: int) -> None:
    conv = Conv2d(in_channels=C_IN, out_channels=C_OUT, kernel_size=k, padding="same", dilation=2)
    assert conv.output(TensorSpec((N, C_IN, H, W))).shape == (N, C_OUT, H, W)


def test_valid_padding_is_none() -> None:
    conv = Conv2d(in_channels=C_IN, out_channels=C_OUT, kernel_size=K, padding="valid")
    assert conv.output(TensorSpec((N, C_IN, H, W))).shape == (N, C_OUT, H - 2, W - 2)


def test_transposed_convolutions_spread_each_input_element_over_the_kernel() -> None:
    conv = ConvTranspose2d(
        in_channels=C_IN, out_channels=C_OUT, kernel_size=K, stride=2, padding=1, output_padding=1, groups=2
    )
    x = TensorSpec((N, C_IN, H, W))
    assert conv.output(x).shape == (
        N,
        C_OUT,
        (H - 1) * 2 - 2 + (K - 1) + 1 + 1,
        (W - 1) * 2 - 2 + (K - 1) + 1 + 1,
    )
    assert conv.parameters[0] == Parameter("weight", (C_IN, C_OUT // 2, K, K))
    assert conv.forward(x).flops == 2 * N * C_IN * H * W * (C_OUT // 2) * K * K


def test_transposed_convolutions_in_one_and_three_dimensions() -> None:
    one = ConvTranspose1d(in_channels=C_IN, out_channels=C_OUT, kernel_size=K)
    assert one.output(TensorSpec((N, C_IN, W))).shape == (N, C_OUT, W + 2)
    three = ConvTranspose3d(in_channels=C_IN, out_channels=C_OUT, kernel_size=K)
    assert three.output(TensorSpec((N, C_IN, 5, H, W))).shape == (N, C_OUT, 7, H + 2, W + 2)


def test_the_dtype_of_the_parameters_and_of_the_input_are_followed() -> None:
    conv = Conv2d(in_channels=1, out_channels=1, kernel_size=1, dtype="float64")
    assert parameter_bytes(conv) == (1 + 1) * 8
    assert conv.output(TensorSpec((1, 1, 2, 2), "bfloat16")).dtype == "bfloat16"


def test_inputs_that_do_not_fit_raise() -> None:
    conv = Conv2d(in_channels=3, out_channels=4, kernel_size=5)
    with pytest.raises(ShapeError, match="Conv2d expects 3 channels, got 2"):
        conv.output(TensorSpec((1, 2, 8, 8)))
    with pytest.raises(ShapeError, match=r"or the same without N, got \(3, 8\)"):
        conv.output(TensorSpec((3, 8)))
    with pytest.raises(ShapeError, match=r"would be \(1, 0\)"):
        conv.output(TensorSpec((1, 3, 5, 4)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"dilation": (1, 0)}, "dilation must be at least 1"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size needs 2 values"),
        ({"groups": 3}, "groups=3 must divide"),
        ({"padding": -1}, "padding must be at least 0"),
        ({"padding": "full"}, "padding must be sizes"),
        ({"padding": "same", "stride": 2}, 'padding="same" needs stride 1'),
    ],
)
def test_settings_that_make_no_convolution_raise(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Conv2d(**({"in_channels": 4, "out_channels": 4, "kernel_size": 3} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding": -1}, "padding must be at least 0"),
        ({"output_padding": 2, "stride": 2}, "output_padding .2, 2. must be below"),
        ({"out_channels": 0}, "out_channels must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_transposed_convolution_raise(settings: dict[str, int], message: str) -> None:
    settings = {"in_channels": 4, "out_channels": 4, "kernel_size": 3} | settings
    with pytest.raises(ValueError, match=message):
        ConvTranspose2d(**settings)  # type: ignore[arg-type]


def test_flags_must_match_the_inputs() -> None:
    conv = Conv2d(in_channels=1, out_channels=1, kernel_size=1)
    with pytest.raises(ValueError, match="2 flags for 1 inputs"):
        conv.backward(TensorSpec((1, 1, 1, 1)), needs_input_grad=(True, False))
