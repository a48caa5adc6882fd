"""The oracle finds planted errors, says where, and is itself what it claims to be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from torchtally.theory.convolution import Conv2d, ConvTranspose2d
from torchtally.theory.cost import Cost
from torchtally.theory.dense import Linear
from torchtally.theory.layer import Backward, Parameter, Saved
from torchtally.theory.normalization import BatchNorm
from torchtally.theory.pooling import AdaptiveAvgPool2d, MaxPool2d
from torchtally.theory.tensor import TensorSpec

from . import brute, test_convolution, test_convolution_transposed
from .cases import Convolution
from .holding import Truth, disagreements, hold
from .real import filled, grid, numbers, observe, observed, same_computation, spec

CASE = Convolution(
    dimensions=2,
    batch=2,
    in_channels=4,
    out_channels=6,
    sizes=(5, 8),
    kernel=(2, 3),
    stride=(2, 1),
    padding=(1, 2),
    output_padding=(1, 0),
    dilation=(1, 2),
    groups=2,
    bias=True,
    dtype="float64",
)


def convolution_truths(case: Convolution = CASE) -> list[Truth]:
    layer = test_convolution.module(case)
    x = numbers(*case.shape).requires_grad_()
    seen = observe(layer, x)
    result = test_convolution.counted(case, layer, x, seen.upstream)
    assert same_computation(result, seen)
    return [
        test_convolution.truth_of(case, result),
        test_convolution.convolved_ones(case),
        observed(seen, x),
    ]


def transposed_truths() -> list[Truth]:
    layer = test_convolution_transposed.module(CASE)
    x = numbers(*CASE.shape).requires_grad_()
    seen = observe(layer, x)
    result = test_convolution_transposed.counted(CASE, layer, x, seen.upstream)
    assert same_computation(result, seen)
    return [test_convolution.truth_of(CASE, result), observed(seen, x)]


def found(kind: type, truths: list[Truth], case: Convolution = CASE, *, transposed: bool = False) -> str:
    """All that the witnesses hold against a closed form."""
    settings = case.settings(transposed=transposed)
    form: Any = kind(in_channels=case.in_channels, out_channels=case.out_channels, dtype=case.dtype, **settings)
    x = TensorSpec(case.shape, case.dtype)
    return "\n".join(line for truth in truths for line in disagreements(form, [x], truth))


class Right(Conv2d):
    """Nothing planted."""


class GroupsIgnored(Conv2d):
    def multiply_adds(self, x: TensorSpec) -> int:
        return super().multiply_adds(x) * self.groups


class GroupsIgnoredBackward(Conv2d):
    """FlopCounterMode's known defect."""

    def backward(self, *inputs: TensorSpec, **needs: Any) -> Backward:
        right = super().backward(*inputs, **needs)
        return replace(right, weight=self.groups * right.weight)


class FactorTwoDropped(Conv2d):
    def forward(self, *inputs: TensorSpec) -> Cost:
        macs = self.multiply_adds(*inputs)
        return Cost(flops=macs, matmul_flops=macs)


class BiasAddedForward(Conv2d):
    def forward(self, *inputs: TensorSpec) -> Cost:
        return super().forward(*inputs) + Cost(flops=self.output(*inputs).elements)


class ProductsLeftOut(Conv2d):
    def forward(self, *inputs: TensorSpec) -> Cost:
        return replace(super().forward(*inputs), matmul_flops=0)


class PaddingNotCounted(Conv2d):
    """Only products with elements of the input, as a sparse kernel would."""

    def multiply_adds(self, x: TensorSpec) -> int:
        inside = 1
        for size, k, s, p, d in zip(x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True):
            placings = brute.slide(size, p, p, k, s, d)
            inside *= sum(0 <= at < size for covered in placings for at in covered)
        return x.shape[0] * self.out_channels * self.in_channels // self.groups * inside


class Spatial(Conv2d):
    """With `change` between the right settings and the output's sizes."""

    change: Callable[[Any], Any]

    def _spatial(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return super(Spatial, type(self).change(self))._spatial(sizes)


class DilationIgnored(Spatial):
    change = staticmethod(lambda form: replace(form, dilation=1))


class StrideIgnored(Spatial):
    change = staticmethod(lambda form: replace(form, stride=1))


class StrideSwapped(Spatial):
    change = staticmethod(lambda form: replace(form, stride=form.stride[::-1]))


class PaddingIgnored(Spatial):
    change = staticmethod(lambda form: replace(form, padding=0))


class HeightAndWidthSwapped(Conv2d):
    def output(self, *inputs: TensorSpec) -> TensorSpec:
        right = super().output(*inputs)
        n, c, h, w = right.shape
        return right.with_shape(n, c, w, h)


class KernelSwapped(Conv2d):
    def _weight_shape(self) -> tuple[int, ...]:
        out, channels, h, w = super()._weight_shape()
        return out, channels, w, h


class WeightWithoutGroups(Conv2d):
    def _weight_shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels, *self.kernel


class BiasMissing(Conv2d):
    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return super().parameters[:1]


class BiasGradientPerChannel(Conv2d):
    def backward(self, *inputs: TensorSpec, **needs: Any) -> Backward:
        right = super().backward(*inputs, **needs)
        return replace(right, bias=Cost(bias_flops=self.out_channels if right.bias.bias_flops else 0))


class BiasGradientInFlops(Conv2d):
    def backward(self, *inputs: TensorSpec, **needs: Any) -> Backward:
        right = super().backward(*inputs, **needs)
        return replace(right, bias=Cost(flops=right.bias.bias_flops))


class FirstLayerInputGradient(Conv2d):
    """The images' gradient, wanted or not."""

    def backward(self, *inputs: TensorSpec, **needs: Any) -> Backward:
        return super().backward(*inputs, **(needs | {"needs_input_grad": True}))


class FrozenWeightTrained(Conv2d):
    def backward(self, *inputs: TensorSpec, **needs: Any) -> Backward:
        return super().backward(*inputs, **(needs | {"needs_weight_grad": True}))


class SinglePrecision(Conv2d):
    def output(self, *inputs: TensorSpec) -> TensorSpec:
        return super().output(*inputs).with_dtype("float32")


class OutputSaved(Conv2d):
    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        return (Saved("output", self.output(*inputs)),)


BACKWARD = "backward(inputs=[1], weight=1, bias=1)"
PLANTED: dict[type, str] = {
    GroupsIgnored: "forward",
    GroupsIgnoredBackward: f"{BACKWARD}.weight",
    FactorTwoDropped: "forward",
    BiasAddedForward: "forward",
    ProductsLeftOut: "forward",
    PaddingNotCounted: "forward",
    DilationIgnored: "output.shape",
    StrideIgnored: "output.shape",
    StrideSwapped: "output.shape",
    PaddingIgnored: "output.shape",
    HeightAndWidthSwapped: "output.shape",
    KernelSwapped: "parameters",
    WeightWithoutGroups: "parameters",
    BiasMissing: "parameters",
    BiasGradientPerChannel: f"{BACKWARD}.bias",
    BiasGradientInFlops: f"{BACKWARD}.bias",
    FirstLayerInputGradient: "backward(inputs=[0], weight=1, bias=1).input_gradients",
    FrozenWeightTrained: "backward(inputs=[1], weight=0, bias=1).parameter_gradients",
    SinglePrecision: "output.dtype",
    OutputSaved: "saved bytes",
}


def test_nothing_planted() -> None:
    assert found(Right, convolution_truths()) == ""


@pytest.mark.parametrize("kind", PLANTED, ids=lambda kind: kind.__name__)
def test_planted_in_a_convolution(kind: type) -> None:
    """Found, first of all where it was planted."""
    lines = found(kind, convolution_truths()).splitlines()
    assert lines and lines[0].startswith(PLANTED[kind] + ":"), lines


@pytest.mark.parametrize("witness", [0, 1], ids=["loops", "ones"])
@pytest.mark.parametrize("kind", [GroupsIgnored, GroupsIgnoredBackward, FactorTwoDropped, PaddingNotCounted])
def test_either_witness_sees_a_wrong_count(kind: type, witness: int) -> None:
    assert found(kind, [convolution_truths()[witness]])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_uneven_padding_kept() -> None:
    """With "same" and an even kernel torch keeps a padded copy: an input's worth of bytes is too few."""

    class InputKept(Conv2d):
        def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
            return (Saved("input", inputs[0]),)

    case = replace(CASE, padding="same", stride=(1, 1))
    truths = convolution_truths(case)
    assert found(InputKept, truths, case).splitlines() == [
        f"saved bytes: theory {2 * 4 * 5 * 8 * 8}, oracle {2 * 4 * 6 * 8 * 8}"
    ]


class SpreadOverTheOutput(ConvTranspose2d):
    """As a convolution is counted: four times too much at stride 2 in two dimensions."""

    def multiply_adds(self, x: TensorSpec) -> int:
        return self.output(x).elements * (self.in_channels // self.groups) * prod(self.kernel)


class OutputPaddingIgnored(ConvTranspose2d):
    def _spatial(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return super(OutputPaddingIgnored, replace(self, output_padding=0))._spatial(sizes)


class WeightOfAConvolution(ConvTranspose2d):
    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        (SpreadOverTheOutput, "forward"),
        (OutputPaddingIgnored, "output.shape"),
        (WeightOfAConvolution, "parameters"),
    ],
)
def test_planted_in_a_transposed_convolution(kind: type, where: str) -> None:
    truths = transposed_truths()
    assert found(ConvTranspose2d, truths, transposed=True) == ""
    assert found(kind, truths, transposed=True).startswith(where + ":")


class RowsOfTheBatchOnly(Linear):
    def multiply_adds(self, x: TensorSpec) -> int:
        return x.shape[0] * self.in_features * self.out_features


class BiasApart(Linear):
    def backward(self, *inputs: TensorSpec, **needs: Any) -> Backward:
        right = super().backward(*inputs, **needs)
        return replace(right, bias=Cost(bias_flops=right.bias.flops))


class Transposed(Linear):
    @property
    def parameters(self) -> tuple[Parameter, ...]:
        weight, *bias = super().parameters
        return replace(weight, shape=weight.shape[::-1]), *bias


@pytest.mark.parametrize(
    ("kind", "where"),
    [(RowsOfTheBatchOnly, "forward"), (BiasApart, f"{BACKWARD}.bias"), (Transposed, "parameters")],
)
def test_planted_in_a_linear_layer(kind: type, where: str) -> None:
    layer = filled(nn.Linear(3, 4, dtype=torch.float64))
    x = numbers(2, 5, 3).requires_grad_()
    seen = observe(layer, x)
    result = brute.linear(grid(x), grid(layer.weight), grid(layer.bias), seen.upstream.flatten().tolist())
    truth = Truth.counted(result, dtype="float64")
    settings = {"in_features": 3, "out_features": 4, "dtype": "float64"}
    hold(Linear(**settings), [spec(x)], truth)
    assert disagreements(kind(**settings), [spec(x)], truth)[0].startswith(where + ":")


class OnePerOutput(MaxPool2d):
    def forward(self, *inputs: TensorSpec) -> Cost:
        return Cost.elementwise(self.output(*inputs).elements)


class CeilIgnored(MaxPool2d):
    def _spatial(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return super(CeilIgnored, replace(self, ceil_mode=False))._spatial(sizes)


class NarrowIndices(MaxPool2d):
    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        kept, index = super().saved(*inputs)
        return kept, Saved("index", index.tensor.with_dtype("int32"))


@pytest.mark.parametrize(
    ("kind", "where"),
    [(OnePerOutput, "forward"), (CeilIgnored, "output.shape"), (NarrowIndices, "saved bytes")],
)
def test_planted_in_a_pooling(kind: type, where: str) -> None:
    x = torch.arange(2 * 3 * 6 * 7, dtype=torch.float32).reshape(2, 3, 6, 7).requires_grad_()
    seen = observe(nn.MaxPool2d(3, ceil_mode=True, stride=2), x)
    windows = [brute.pool_windows(size, 3, 2, 0, 1, ceil_mode=True) for size in (6, 7)]
    result = brute.pooling(grid(x), windows, seen.upstream.flatten().tolist(), maximum=True)
    assert same_computation(result, seen)
    truth = replace(Truth.counted(result), saved_bytes=seen.saved_bytes)
    settings = {"kernel_size": 3, "stride": 2, "ceil_mode": True}
    hold(MaxPool2d(**settings), [spec(x)], truth)
    assert disagreements(kind(**settings), [spec(x)], truth)[0].startswith(where + ":")


class EvenWindows(AdaptiveAvgPool2d):
    def forward(self, *inputs: TensorSpec) -> Cost:
        """Right only where the output divides the input."""
        return Cost.elementwise(inputs[0].elements)


def test_planted_in_an_adaptive_pooling() -> None:
    x = numbers(1, 1, 5, 6, dtype=torch.float32).requires_grad_()
    seen = observe(nn.AdaptiveAvgPool2d((3, 3)), x)
    windows = [brute.adaptive_windows(size, 3) for size in (5, 6)]
    truth = Truth.counted(brute.pooling(grid(x), windows, seen.upstream.flatten().tolist(), maximum=False))
    hold(AdaptiveAvgPool2d(output_size=3), [spec(x)], truth)
    assert disagreements(EvenWindows(output_size=3), [spec(x)], truth)[0].startswith("forward:")


class FourPerElement(BatchNorm):
    def forward(self, *inputs: TensorSpec) -> Cost:
        return Cost.elementwise(inputs[0].elements, 4)


class StatisticsForgotten(BatchNorm):
    def _statistics(self, x: TensorSpec) -> tuple[TensorSpec, ...]:
        return ()


class BuffersForgotten(BatchNorm):
    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()


@pytest.mark.parametrize(
    ("kind", "where"),
    [(FourPerElement, "forward"), (StatisticsForgotten, "saved bytes"), (BuffersForgotten, "buffers")],
)
def test_planted_in_a_normalization(kind: type, where: str) -> None:
    layer, x = filled(nn.BatchNorm2d(3)), numbers(2, 3, 2, 2, dtype=torch.float32).requires_grad_()
    seen = observe(layer, x)
    result = brute.normalization(
        grid(x),
        grid(layer.weight),
        grid(layer.bias),
        seen.upstream.flatten().tolist(),
        same_statistics=lambda index: index[1:2],
        same_weight=lambda index: index[1:2],
        eps=layer.eps,
    )
    truth = observed(seen, x, forward=result.forward)
    hold(BatchNorm(num_features=3), [spec(x)], truth)
    assert disagreements(kind(num_features=3), [spec(x)], truth)[0].startswith(where + ":")


@pytest.mark.parametrize("changed", [{"dilation": (2, 2)}, {"groups": 1}, {"padding": (2, 2)}, {"stride": (1, 2)}])
def test_a_count_of_another_computation(changed: dict[str, Any]) -> None:
    """Loops that do not compute what torch does are found out by their numbers or shapes."""
    layer = test_convolution.module(CASE)
    x = numbers(*CASE.shape).requires_grad_()
    seen = observe(layer, x)
    other = test_convolution.module(replace(CASE, **changed))
    y = other(x.detach())
    upstream = numbers(*y.shape, seed=99)
    result = test_convolution.counted(replace(CASE, **changed), other, x, upstream)
    assert not same_computation(result, seen)


def test_the_oracle_shares_no_code() -> None:
    """What counts and what compares imports the standard library and one another; nothing else."""
    own = ("brute", "tape", "sequence", "holding")
    allowed = set(sys.stdlib_module_names) | {f".{name}" for name in own}
    for name in own:
        imported = set()
        for node in ast.walk(ast.parse(Path(__file__).with_name(f"{name}.py").read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(f".{node.module}" if node.level else str(node.module).split(".")[0])
        assert imported <= allowed, (name, imported - allowed)
