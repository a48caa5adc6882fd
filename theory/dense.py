"""Fully connected layers: products of the last dimension with a matrix.

Any leading dimensions are rows: (N, C), (N, T, C), (C,) alike. With M rows, y = x W^T + b is a product of
M x in by in x out: M * in * out multiply-adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from .cost import Cost
from .layer import Backward, Parameter, Saved, ShapeError, at_least_one, gradients, trained, wants
from .tensor import TensorSpec


def rows(layer: object, x: TensorSpec, features: int) -> int:
    """The number of vectors of that many features. Raises ShapeError for another last dimension."""
    if not x.shape or x.shape[-1] != features:
        raise ShapeError(f"{type(layer).__name__} expects {features} features in the last dimension, got {x.shape}")
    return prod(x.shape[:-1])


@dataclass(frozen=True, kw_only=True)
class Linear:
    """`torch.nn.Linear`: (*, in) -> (*, out), with weight (out, in) and bias (out,)."""

    in_features: int
    out_features: int
    bias: bool = True
    dtype: str = "float32"

    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        at_least_one(self, "in_features", "out_features")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The weight, then the bias if there is one."""
        weight = Parameter("weight", (self.out_features, self.in_features), self.dtype)
        return (weight, Parameter("bias", (self.out_features,), self.dtype)) if self.bias else (weight,)

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(*, out), in the input's dtype. Raises ShapeError where the last dimension is not `in_features`."""
        (x,) = inputs
        rows(self, x, self.in_features)
        return x.with_shape(*x.shape[:-1], self.out_features)

    def multiply_adds(self, x: TensorSpec) -> int:
        """M * in * out for M rows; each gradient product has as many."""
        return rows(self, x, self.in_features) * self.in_features * self.out_features

    def forward(self, *inputs: TensorSpec) -> Cost:
        """2 * multiply-adds; the bias additions are left out (see `cost`)."""
        (x,) = inputs
        return Cost.matmul(self.multiply_adds(x))

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """dx = dy W is (M x out)(out x in), dW = dy^T x is (out x M)(M x in): multiply-adds as forward.

        db sums dy over the rows: M additions for each of the `out` features, in `flops` (the walkthrough's
        rule).
        """
        (x,) = inputs
        flags = wants(needs_input_grad, inputs)
        product = Cost.matmul(self.multiply_adds(x))
        bias = self.bias and needs_bias_grad
        return Backward(
            input_gradients=gradients(flags, inputs),
            parameter_gradients=trained(self.parameters, needs_weight_grad, needs_bias_grad),
            input=product if flags[0] else Cost(),
            weight=product if needs_weight_grad else Cost(),
            bias=Cost(flops=self.output(x).elements) if bias else Cost(),
        )

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input, which the weight's gradient needs."""
        (x,) = inputs
        return (Saved("input", x),)


@dataclass(frozen=True, kw_only=True)
class TransposedLinear(Linear):
    """The same with its weight stored as (in, out): `Conv1D` of `transformers`, in GPT-2."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The weight, then the bias if there is one."""
        weight, *rest = super().parameters
        return (Parameter("weight", weight.shape[::-1], self.dtype), *rest)


@dataclass(frozen=True, kw_only=True)
class Bilinear:
    """`torch.nn.Bilinear`: (*, in1), (*, in2) -> (*, out), with weight (out, in1, in2): y_o = x1^T W_o x2 + b_o.

    PyTorch contracts two operands at a time, for each output feature; so do the counts here. M is the number
    of rows.
    """

    in1_features: int
    in2_features: int
    out_features: int
    bias: bool = True
    dtype: str = "float32"

    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        at_least_one(self, "in1_features", "in2_features", "out_features")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The weight, then the bias if there is one."""
        shape = (self.out_features, self.in1_features, self.in2_features)
        weight = Parameter("weight", shape, self.dtype)
        return (weight, Parameter("bias", (self.out_features,), self.dtype)) if self.bias else (weight,)

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def _rows(self, x1: TensorSpec, x2: TensorSpec) -> int:
        if x1.shape[:-1] != x2.shape[:-1]:
            raise ShapeError(f"Bilinear needs the same leading dimensions, got {x1.shape} and {x2.shape}")
        rows(self, x2, self.in2_features)
        return rows(self, x1, self.in1_features)

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(*, out). Raises ShapeError where leading or last dimensions do not fit."""
        x1, x2 = inputs
        self._rows(x1, x2)
        return x1.with_shape(*x1.shape[:-1], self.out_features)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """x1^T W_o takes M*in1*in2 multiply-adds, times x2 another M*in2; `out` times."""
        x1, x2 = inputs
        pairs = self.in1_features * self.in2_features
        return Cost.matmul(self._rows(x1, x2) * self.out_features * (pairs + self.in2_features))

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """For each output feature, with g its gradient (M numbers):

        dx1 = (g W_o) x2: M*in1*in2 and again; dx2 = (x1 W_o) g: M*in1*in2 and M*in2; dW_o = (x1 g)^T x2:
        M*in1 and M*in1*in2. db sums g over the rows, in `flops` as for `Linear`.
        """
        x1, x2 = inputs
        flags = wants(needs_input_grad, inputs)
        times = self._rows(x1, x2) * self.out_features
        pairs = self.in1_features * self.in2_features
        first, second = 2 * pairs * flags[0], (pairs + self.in2_features) * flags[1]
        return Backward(
            input_gradients=gradients(flags, inputs),
            parameter_gradients=trained(self.parameters, needs_weight_grad, needs_bias_grad),
            input=Cost.matmul(times * (first + second)),
            weight=Cost.matmul(times * (pairs + self.in1_features) * needs_weight_grad),
            bias=Cost(flops=times * (self.bias and needs_bias_grad)),
        )

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """Both inputs."""
        return tuple(Saved("input", x) for x in inputs)
