"""Closed forms with one error each, and operator formulas with one error each."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from torchtally.profiler.formulas import Formula, Price
from torchtally.profiler.records import Signature
from torchtally.theory.convolution import Conv2d
from torchtally.theory.cost import Cost
from torchtally.theory.dense import Linear
from torchtally.theory.layer import Backward, Parameter, Saved
from torchtally.theory.normalization import BatchNorm
from torchtally.theory.pointwise import ReLU
from torchtally.theory.pooling import GlobalAveragePool, MaxPool2d
from torchtally.theory.tensor import TensorSpec

# Theory ---------------------------------------------------------------------------------------------------------------


class MultiplyAdds(Conv2d):
    """MAC for FLOP, forward."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        once = self.multiply_adds(*inputs)
        return Cost(flops=once, matmul_flops=once)


class BiasAdded(Linear):
    """The forward bias additions, which the convention leaves out."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        return super().forward(*inputs) + Cost(flops=self.output(*inputs).elements)


class HeightAndWidthSwapped(Conv2d):
    def output(self, *inputs: TensorSpec) -> TensorSpec:
        n, c, h, w = super().output(*inputs).shape
        return inputs[0].with_shape(n, c, w, h)


class ChannelsLast(MaxPool2d):
    def output(self, *inputs: TensorSpec) -> TensorSpec:
        n, c, h, w = super().output(*inputs).shape
        return inputs[0].with_shape(n, h, w, c)


class WeightGradientForgotten(Conv2d):
    def backward(self, *inputs: TensorSpec, **needs: Any) -> Backward:
        return replace(super().backward(*inputs, **needs), weight=Cost())


class BiasGradientAmongFlops(Conv2d):
    """As for a linear layer; a convolution's stands apart."""

    def backward(self, *inputs: TensorSpec, **needs: Any) -> Backward:
        right = super().backward(*inputs, **needs)
        return replace(right, bias=Cost(flops=right.bias.bias_flops))


class BiasGradientDropped(Linear):
    def backward(self, *inputs: TensorSpec, **needs: Any) -> Backward:
        return replace(super().backward(*inputs, **needs), bias=Cost())


class FourPerElement(BatchNorm):
    def forward(self, *inputs: TensorSpec) -> Cost:
        return Cost(flops=4 * inputs[0].elements)


class BuffersAreParameters(BatchNorm):
    @property
    def parameters(self) -> tuple[Parameter, ...]:
        floating = (each for each in self.buffers if each.dtype == "float32")
        return (*super().parameters, *floating)


class SideNotArea(MaxPool2d):
    """k per window instead of k * k."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        return Cost(flops=2 * self.output(*inputs).elements)


class CountedTwice(ReLU):
    """In place: once for reading and once for writing."""

    def forward(self, *inputs: TensorSpec) -> Cost:
        return (1 + self.in_place) * super().forward(*inputs)


class KeptAsMap(GlobalAveragePool):
    """(N, C, 1, 1), as AdaptiveAvgPool2d has it."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        return inputs[0].with_shape(*super().output(*inputs).shape, 1, 1)


class IndicesForgotten(MaxPool2d):
    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        return without(super().saved(*inputs), "index")


class NarrowIndices(MaxPool2d):
    """int32, as positions in a window's map would fit; PyTorch's are int64."""

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        narrow = {"int64": "int32"}
        kept = super().saved(*inputs)
        return tuple(Saved(s.role, s.tensor.with_dtype(narrow.get(s.tensor.dtype, s.tensor.dtype))) for s in kept)


class SharesNothing(MaxPool2d):
    """As if no other layer had kept the same tensor."""

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        return tuple(Saved("intermediate", each.tensor) for each in super().saved(*inputs))


class KeepsInput(ReLU):
    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        return (Saved("input", inputs[0]),)


class StatisticsForgotten(BatchNorm):
    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        return without(super().saved(*inputs), "statistics")


class KeepsOutputToo(BatchNorm):
    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        return (*super().saved(*inputs), Saved("output", self.output(*inputs)))


class KeepsWhatItNeedsNot(GlobalAveragePool):
    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        return (Saved("input", inputs[0]),)


class KeepsWeight(Linear):
    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        weight = inputs[0].with_shape(self.out_features, self.in_features)
        return (*super().saved(*inputs), Saved("intermediate", weight))


def without(kept: tuple[Saved, ...], role: str) -> tuple[Saved, ...]:
    return tuple(each for each in kept if each.role != role)


# Count ----------------------------------------------------------------------------------------------------------------


def convolution_multiply_adds(signature: Signature) -> Price:
    once = _convolution(signature, groups=True)
    return Price(once, once)


def convolution_four_per_multiply_add(signature: Signature) -> Price:
    four = 4 * _convolution(signature, groups=True)
    return Price(four, four)


def convolution_without_groups(signature: Signature) -> Price:
    two = 2 * _convolution(signature, groups=False)
    return Price(two, two)


def convolution_with_bias(signature: Signature) -> Price:
    two = 2 * _convolution(signature, groups=True)
    return Price(two + signature.outputs[0].elements, two)


def _convolution(signature: Signature, *, groups: bool) -> int:
    x, weight = signature.arguments[:2]
    assert isinstance(x, TensorSpec) and isinstance(weight, TensorSpec)
    channels = weight.shape[1] if groups else x.shape[1]
    return signature.outputs[0].elements * channels * prod(weight.shape[2:])


def both_gradients(signature: Signature) -> Price:
    """Convolution backward, with the input's gradient whether autograd asked for it or not."""
    gradient, _, weight = signature.arguments[:3]
    assert isinstance(gradient, TensorSpec) and isinstance(weight, TensorSpec)
    four = 4 * gradient.elements * prod(weight.shape[1:])
    return Price(four, four, gradient.elements)


def backward_as_the_dispatcher_does(signature: Signature) -> Price:
    """Convolution backward with FlopCounterMode's own defect: the weight's gradient without groups."""
    gradient, x, weight = signature.arguments[:3]
    assert isinstance(gradient, TensorSpec) and isinstance(x, TensorSpec) and isinstance(weight, TensorSpec)
    mask = signature.arguments[10]
    assert isinstance(mask, tuple)
    grouped = 2 * gradient.elements * prod(weight.shape[1:])
    ungrouped = 2 * gradient.elements * x.shape[1] * prod(weight.shape[2:])
    total = (grouped if mask[0] else 0) + ungrouped
    return Price(total, total, gradient.elements)


def bias_gradient_among_flops(signature: Signature) -> Price:
    gradient, _, weight = signature.arguments[:3]
    mask = signature.arguments[10]
    assert isinstance(gradient, TensorSpec) and isinstance(weight, TensorSpec) and isinstance(mask, tuple)
    products = 2 * gradient.elements * prod(weight.shape[1:]) * (bool(mask[0]) + bool(mask[1]))
    return Price(products + gradient.elements, products)


def linear_with_bias(signature: Signature) -> Price:
    """addmm: 2*M*K*N, and the M*N additions that the convention leaves out."""
    left, right = signature.arguments[1:3]
    assert isinstance(left, TensorSpec) and isinstance(right, TensorSpec)
    products = 2 * left.elements * right.shape[1]
    return Price(products + left.shape[0] * right.shape[1], products)


def each_input(flops: int, position: int = 0) -> Formula:
    def formula(signature: Signature) -> Price:
        tensor = signature.arguments[position]
        assert isinstance(tensor, TensorSpec)
        return Price(flops * tensor.elements)

    return formula


def each_output(flops: int) -> Formula:
    return lambda signature: Price(flops * signature.outputs[0].elements)


def free(signature: Signature) -> Price:
    return Price()
