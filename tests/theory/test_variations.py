"""The walkthrough's analysis, from formulas in named dimensions written out here."""

from fractions import Fraction

import pytest

from torchtally.theory import variations
from torchtally.theory.optimizers import SGD
from torchtally.theory.tensor import TensorSpec

N, C0, C1, C2, C3, CLASSES, K = 32, 3, 32, 64, 128, 10, 3
SIZES = (32, 16, 8)
PAIRS = ((C0, C1), (C1, C2), (C2, C3))


def convolution_parameters(pairs: tuple[tuple[int, int], ...]) -> int:
    return sum(c_in * c_out * K * K + c_out + 2 * c_out for c_in, c_out in pairs)  # weight, bias, BatchNorm


def test_a_dense_layer_on_the_flattened_image() -> None:
    assert variations.dense_layer_parameters() == 32 * 32 * 3 * 128 + 128 == 393_344


def test_doubled_resolution_quadruples_all_but_the_pooled_features() -> None:
    change = variations.resolution_scaled()
    pooled, logits, fc = N * C3 * 4, N * CLASSES * 4, 2 * N * C3 * CLASSES
    activations, flops = change.activation_bytes, change.forward_flops
    assert activations.after - pooled - logits == 4 * (activations.before - pooled - logits)
    assert flops.after - fc == 4 * (flops.before - fc)
    assert change.parameters.difference == 0
    assert change.parameter_bytes.ratio == 1
    assert round(float(activations.ratio), 3) == 3.998
    assert round(float(flops.ratio), 4) == 3.9996
    assert float(change.training_bytes.ratio) < 4


def test_doubled_channels() -> None:
    change = variations.channels_scaled()
    wide = tuple((c_in if c_in == C0 else 2 * c_in, 2 * c_out) for c_in, c_out in PAIRS)
    assert change.parameters.before == convolution_parameters(PAIRS) + C3 * CLASSES + CLASSES == 94_986
    assert change.parameters.after == convolution_parameters(wide) + 2 * C3 * CLASSES + CLASSES == 374_282
    assert round(float(change.parameters.ratio), 2) == 3.94
    assert round(float(change.forward_flops.ratio), 2) == 3.79


def test_one_more_block() -> None:
    c4, size = 256, 4
    change = variations.one_more_block()
    product = 2 * N * size * size * c4 * C3 * K * K
    assert product == 301_989_888
    elements = N * c4 * size * size
    # BatchNorm 5, ReLU 1, pooling 4 on a quarter of the elements; GAP on another map; a wider classifier.
    added = product + 5 * elements + elements + elements
    added += N * c4 * 2 * 2 - N * C3 * 4 * 4
    added += 2 * N * (c4 - C3) * CLASSES
    assert change.forward_flops.difference == added
    block, wider_classifier = 295_168 + 512, (c4 - C3) * CLASSES
    assert change.parameters.difference == block + wider_classifier


def test_depthwise_separable_convolutions_by_block() -> None:
    changes = variations.depthwise_separable_convolutions()
    before, after = 0, 0
    for number, (size, (c_in, c_out)) in enumerate(zip(SIZES, PAIRS, strict=True), start=1):
        standard = 2 * N * size * size * c_out * c_in * K * K
        separable = 2 * N * size * size * (c_in * K * K + c_in * c_out)
        change = changes[f"block{number}"]
        assert (change.before, change.after) == (standard, separable)
        assert change.reduction == 1 / (Fraction(1, c_out) + Fraction(1, K * K))
        before, after = before + standard, after + separable
    assert (changes[""].before, changes[""].after) == (before, after)
    assert [round(float(change.reduction), 2) for change in changes.values()] == [7.02, 7.89, 8.41, 8.03]
    assert round(float(variations.depthwise_separable().forward_flops.reduction), 2) == 7.07


def test_global_average_pooling_instead_of_flattening() -> None:
    change = variations.pooled_classifier()
    assert change.before == 4 * 4 * C3 * CLASSES + CLASSES == 20_490
    assert change.after == C3 * CLASSES + CLASSES == 1_290
    assert change.difference == -19_200


def test_half_precision_halves_bytes_and_no_flops() -> None:
    change = variations.half_precision()
    assert change.activation_bytes.reduction == change.parameter_bytes.reduction == 2
    assert change.flops.ratio == change.backward_flops.ratio == 1


def test_adam_triples_the_parameters_and_not_the_memory() -> None:
    tensors, parameter_bytes = 14, 379_944
    change = variations.optimizer_parameters()
    assert (change.before, change.after) == (parameter_bytes, 3 * parameter_bytes + 4 * tensors)
    training = variations.optimizer_training()
    # Activations, gradients of all but the images, parameters and their gradients.
    assert training.before == 23_872_768 + (24_264_704 - 393_216) + 2 * parameter_bytes
    assert training.difference == 2 * parameter_bytes + 4 * tensors
    assert variations.optimizer_parameters(optimizer=SGD()).ratio == 1


@pytest.mark.parametrize("n", [1, 100])
def test_ratios_do_not_depend_on_the_batch(n: int) -> None:
    x = TensorSpec((n, 3, 32, 32))
    assert variations.channels_scaled(x).forward_flops.ratio == variations.channels_scaled().forward_flops.ratio
