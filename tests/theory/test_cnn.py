"""The walkthrough's summary tables as literals: its integers, or the exact values behind its roundings."""

from fractions import Fraction

import pytest

from torchtally.theory.cnn import IMAGES, cnn
from torchtally.theory.convolution import Conv2d
from torchtally.theory.layer import ShapeError
from torchtally.theory.tensor import TensorSpec

# path, output shape, activation bytes, parameters, forward FLOPs
FORWARD = [
    ("block1.conv", (32, 32, 32, 32), 4_194_304, 896, 56_623_104),
    ("block1.batchnorm", (32, 32, 32, 32), 4_194_304, 64, 5_242_880),
    ("block1.relu", (32, 32, 32, 32), 4_194_304, 0, 1_048_576),
    ("block1.pool", (32, 32, 16, 16), 1_048_576, 0, 1_048_576),
    ("block2.conv", (32, 64, 16, 16), 2_097_152, 18_496, 301_989_888),
    ("block2.batchnorm", (32, 64, 16, 16), 2_097_152, 128, 2_621_440),
    ("block2.relu", (32, 64, 16, 16), 2_097_152, 0, 524_288),
    ("block2.pool", (32, 64, 8, 8), 524_288, 0, 524_288),
    ("block3.conv", (32, 128, 8, 8), 1_048_576, 73_856, 301_989_888),
    ("block3.batchnorm", (32, 128, 8, 8), 1_048_576, 256, 1_310_720),
    ("block3.relu", (32, 128, 8, 8), 1_048_576, 0, 262_144),
    ("block3.pool", (32, 128, 4, 4), 262_144, 0, 262_144),
    ("gap", (32, 128), 16_384, 0, 65_536),
    ("fc", (32, 10), 1_280, 1_290, 81_920),
]

# path, shape and bytes of the input's gradient, bytes of the parameters' gradients, FLOPs
BACKWARD = [
    ("fc", (32, 128), 16_384, 5_160, 164_160),
    ("gap", (32, 128, 4, 4), 262_144, 0, 65_536),
    ("block3.pool", (32, 128, 8, 8), 1_048_576, 0, 262_144),
    ("block3.relu", (32, 128, 8, 8), 1_048_576, 0, 262_144),
    ("block3.batchnorm", (32, 128, 8, 8), 1_048_576, 1_024, 1_310_720),
    ("block3.conv", (32, 64, 8, 8), 524_288, 295_424, 603_979_776),
    ("block2.pool", (32, 64, 16, 16), 2_097_152, 0, 524_288),
    ("block2.relu", (32, 64, 16, 16), 2_097_152, 0, 524_288),
    ("block2.batchnorm", (32, 64, 16, 16), 2_097_152, 512, 2_621_440),
    ("block2.conv", (32, 32, 16, 16), 1_048_576, 73_984, 603_979_776),
    ("block1.pool", (32, 32, 32, 32), 4_194_304, 0, 1_048_576),
    ("block1.relu", (32, 32, 32, 32), 4_194_304, 0, 1_048_576),
    ("block1.batchnorm", (32, 32, 32, 32), 4_194_304, 256, 5_242_880),
    ("block1.conv", (32, 3, 32, 32), 393_216, 3_584, 113_246_208),
]


def test_the_forward_table() -> None:
    assert [
        (row.path, row.output.shape, row.activation_bytes, row.parameters, row.forward.flops)
        for row in cnn().predict(IMAGES)
    ] == FORWARD


def test_the_backward_table_of_the_document_has_a_gradient_of_the_images() -> None:
    rows = []
    for row in reversed(cnn().predict(IMAGES, input_requires_grad=True).rows):
        assert row.backward is not None
        (gradient,) = row.backward.input_gradients
        assert gradient is not None
        sizes = (gradient.nbytes, row.backward.parameter_gradient_bytes, row.backward.total.flops)
        rows.append((row.path, gradient.shape, *sizes))
    assert rows == BACKWARD


def test_totals() -> None:
    totals = cnn().predict(IMAGES).totals
    assert (totals.parameters, totals.parameter_bytes, totals.buffer_bytes) == (94_986, 379_944, 1_816)
    assert totals.activation_bytes == 23_872_768
    assert (totals.forward_flops, totals.forward_matmul_flops) == (673_595_392, 660_684_800)
    assert (totals.backward_flops, totals.backward_matmul_flops) == (1_277_657_408, 1_264_746_496)
    assert totals.parameter_gradient_bytes == 379_944


def test_the_images_gradient_costs_one_product_and_its_bytes() -> None:
    real, printed = cnn().predict(IMAGES), cnn().predict(IMAGES, input_requires_grad=True)
    assert printed.totals.backward_flops - real.totals.backward_flops == 56_623_104
    assert printed.totals.gradient_bytes - real.totals.gradient_bytes == 393_216
    assert printed.totals.backward_flops == 1_334_280_512
    assert real["block1.conv"].gradient_bytes == 0


def test_blocks() -> None:
    prediction = cnn().predict(IMAGES, input_requires_grad=True)
    blocks = [prediction.block(f"block{number}") for number in (1, 2, 3)]
    assert [block.parameters for block in blocks] == [960, 18_624, 74_112]
    assert [block.forward_flops for block in blocks] == [63_963_136, 305_659_904, 303_824_896]
    assert [block.backward_flops for block in blocks] == [120_586_240, 607_649_792, 605_814_784]
    assert [block.activation_bytes for block in blocks] == [(13 * 2**20), int(6.5 * 2**20), int(3.25 * 2**20)]
    assert [block.parameter_gradient_bytes for block in blocks] == [3_840, 74_496, 296_448]


def test_kinds() -> None:
    prediction = cnn().predict(IMAGES)
    flops = {kind: totals.forward_flops for kind, totals in prediction.by_kind().items()}
    assert flops == {
        "convolution": 660_602_880,
        "normalization": 9_175_040,
        "activation": 1_835_008,
        "pooling": 1_900_544,
        "linear": 81_920,
    }
    assert prediction.percentages()["convolution"] == Fraction(100 * 660_602_880, 673_595_392)
    assert sum(prediction.percentages("backward").values()) == 100
    assert prediction.backward_to_forward == Fraction(1_277_657_408, 673_595_392)


def test_depthwise_separable_blocks() -> None:
    n, c, k, r, h, w = 2, 3, 3, 32, 33, 47
    prediction = cnn(convolution="depthwise-separable").predict(TensorSpec((n, c, h, w)))
    assert [row.path for row in prediction.rows[:2]] == ["block1.depthwise", "block1.pointwise"]
    assert prediction["block1.depthwise"].forward.flops == 2 * n * c * h * w * k * k
    assert prediction["block1.pointwise"].forward.flops == 2 * n * r * h * w * c
    assert prediction["block1.depthwise"].parameters == c * k * k + c
    assert prediction["block1.pointwise"].parameters == c * r + r
    assert prediction.output.shape == (n, 10)


def test_settings_reach_the_layers() -> None:
    network = cnn(in_channels=1, channels=(4, 6), classes=3, kernel_size=5, in_place=True, dtype="float64")
    prediction = network.predict(TensorSpec((1, 1, 8, 8), "float64"))
    assert prediction.output == TensorSpec((1, 3), "float64")
    conv = network["block2.conv"]
    assert isinstance(conv, Conv2d)
    assert (conv.kernel, conv.padding, conv.dtype) == ((5, 5), (2, 2), "float64")
    parameters = (4 * 25 + 4) + (6 * 4 * 25 + 6) + 2 * 4 + 2 * 6 + (6 * 3 + 3)
    assert prediction.totals.parameters == parameters


def test_evaluation_uses_running_statistics() -> None:
    assert len(cnn(training=False).predict(IMAGES)["block1.batchnorm"].saved) == 1
    assert len(cnn().predict(IMAGES)["block1.batchnorm"].saved) == 3


@pytest.mark.parametrize("in_place", [False, True])
def test_saved_for_backward_counts_each_tensor_once(in_place: bool) -> None:
    saved = cnn(in_place=in_place).predict(IMAGES).saved_bytes()
    assert saved["block1.conv"] == 0  # the images
    # BatchNorm keeps its input and two statistics per channel, ReLU its output, the pool an int64 index per output.
    first = {"batchnorm": 4_194_304 + 2 * 32 * 4, "relu": 4_194_304, "pool": 8 * 262_144}
    assert {name: saved[f"block1.{name}"] for name in first} == first
    assert (saved["block2.conv"], saved["gap"], saved["fc"]) == (1_048_576, 0, 16_384)
    indices = 8 * (262_144 + 131_072 + 65_536)
    assert sum(saved.values()) == 2 * (4_194_304 + 2_097_152 + 1_048_576) + 1_792 + indices + (
        1_048_576 + 524_288 + 16_384
    )


def test_an_image_too_small_for_three_poolings_is_named() -> None:
    with pytest.raises(ShapeError, match=r"block3.pool: MaxPool2d has no output for the input \(1, 128, 1, 8\)"):
        cnn().predict(TensorSpec((1, 3, 4, 32)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": ()}, "channels is empty"),
        ({"convolution": "dilated"}, "convolution must be"),
        ({"kernel_size": 2}, "kernel_size must be odd"),
        ({"classes": 0}, "out_features must be at least 1"),
        ({"channels": (4, 0)}, "must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_network_raise(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cnn(**settings)  # type: ignore[arg-type]
