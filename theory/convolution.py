"""Convolutions in one, two and three dimensions, and their transposes.

For an output element, a convolution multiplies and adds one number per (input channel of its group, kernel
position): C_in/groups * k_1 * ... * k_d multiply-adds. Padding is data like any other: positions that fall on
it are counted, as every dense kernel computes them (or may; the convention counts the dense product).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal

from .cost import Cost
from .layer import Backward, Parameter, Saved, ShapeError, at_least_one, gradients, trained, wants
from .tensor import TensorSpec

Sizes = int | tuple[int, ...]


def per_dimension(value: Sizes, dimensions: int, name: str) -> tuple[int, ...]:
    """One integer for all spatial dimensions, or one each. Raises ValueError for another length."""
    sizes = (value,) * dimensions if isinstance(value, int) else tuple(value)
    if len(sizes) != dimensions:
        raise ValueError(f"{name} needs {dimensions} values, got {sizes}")
    return sizes


@dataclass(frozen=True, kw_only=True)
class _ConvolutionSettings:
    """What a convolution and its transpose share. Sizes are one integer, or one per spatial dimension."""

    in_channels: int
    out_channels: int
    kernel_size: Sizes
    stride: Sizes = 1
    dilation: Sizes = 1
    groups: int = 1
    bias: bool = True
    dtype: str = "float32"

    dimensions: ClassVar[int]
    kind: ClassVar[str] = "convolution"

    def __post_init__(self) -> None:
        for name in ("kernel_size", "stride", "dilation"):
            sizes = per_dimension(getattr(self, name), self.dimensions, name)
            if min(sizes) < 1:
                raise ValueError(f"{name} must be at least 1, got {sizes}")
            object.__setattr__(self, name, sizes)
        at_least_one(self, "in_channels", "out_channels", "groups")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"groups={self.groups} must divide in_channels={self.in_channels} and out_channels={self.out_channels}"
            )

    @property
    def kernel(self) -> tuple[int, ...]:
        return per_dimension(self.kernel_size, self.dimensions, "kernel_size")

    def _sizes(self, name: str) -> tuple[int, ...]:
        return per_dimension(getattr(self, name), self.dimensions, name)

    def _weight_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The weight, then the bias if there is one."""
        weight = Parameter("weight", self._weight_shape(), self.dtype)
        return (weight, Parameter("bias", (self.out_channels,), self.dtype)) if self.bias else (weight,)

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def _split(self, x: TensorSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The batch dimensions (none for an unbatched input) and the spatial ones."""
        batched = len(x.shape) == self.dimensions + 2
        if not batched and len(x.shape) != self.dimensions + 1:
            raise ShapeError(
                f"{type(self).__name__} takes (N, C, {self.dimensions} spatial sizes) or the same without N, "
                f"got {x.shape}"
            )
        if x.shape[-self.dimensions - 1] != self.in_channels:
            raise ShapeError(
                f"{type(self).__name__} expects {self.in_channels} channels, "
                f"got {x.shape[-self.dimensions - 1]} in {x.shape}"
            )
        return x.shape[: -self.dimensions - 1], x.shape[-self.dimensions :]

    def _spatial(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        raise NotImplementedError

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(N, C_out, *spatial), in the input's dtype. Raises ShapeError where the kernel does not fit."""
        (x,) = inputs
        batch, sizes = self._split(x)
        spatial = self._spatial(sizes)
        if min(spatial) < 1:
            raise ShapeError(
                f"{type(self).__name__} with kernel {self.kernel} has no output for the input {x.shape}: "
                f"the output would be {spatial}"
            )
        return x.with_shape(*batch, self.out_channels, *spatial)

    def multiply_adds(self, x: TensorSpec) -> int:
        """Multiply-adds of the forward product; each gradient product has as many."""
        raise NotImplementedError

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
        """Each gradient is a product with the same multiply-adds as the forward one.

        y[n,o,p] = sum w[o,c,k] x[n,c,p*s+k*d]: every triple (x, w, y) of the sum appears once in dL/dx (dy*w)
        and once in dL/dw (dy*x). dL/db sums dy over all but the channel: one addition per output element, in
        `bias_flops`.
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
            bias=Cost(bias_flops=self.output(x).elements) if bias else Cost(),
        )

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input, which the weight's gradient needs."""
        (x,) = inputs
        return (Saved("input", x),)


@dataclass(frozen=True, kw_only=True)
class _Convolution(_ConvolutionSettings):
    """A convolution. `padding` is sizes, "valid" (none) or "same" (stride 1: output as large as input).

    With another `padding_mode` than "zeros" PyTorch copies the input, padded, before.
    """

    padding: Sizes | Literal["same", "valid"] = 0
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(f"padding_mode must be zeros, reflect, replicate or circular, got {self.padding_mode!r}")
        if self.padding == "same":
            if any(stride != 1 for stride in self._sizes("stride")):
                raise ValueError('padding="same" needs stride 1')
        elif isinstance(self.padding, str):
            if self.padding != "valid":
                raise ValueError(f'padding must be sizes, "same" or "valid", got {self.padding!r}')
        else:
            sizes = per_dimension(self.padding, self.dimensions, "padding")
            if min(sizes) < 0:
                raise ValueError(f"padding must be at least 0, got {sizes}")
            object.__setattr__(self, "padding", sizes)

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    def _total_padding(self) -> tuple[int, ...]:
        """Padding of both sides together: "same" adds d*(k-1), one more at the end where that is odd."""
        if self.padding == "valid":
            return (0,) * self.dimensions
        if self.padding == "same":
            return tuple(d * (k - 1) for d, k in zip(self._sizes("dilation"), self.kernel, strict=True))
        return tuple(2 * p for p in self._sizes("padding"))

    def _spatial(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """floor((H + padding - d*(k-1) - 1) / s) + 1 in each dimension; the walkthrough has d = 1."""
        return tuple(
            (size + padding - d * (k - 1) - 1) // s + 1
            for size, padding, d, k, s in zip(
                sizes,
                self._total_padding(),
                self._sizes("dilation"),
                self.kernel,
                self._sizes("stride"),
                strict=True,
            )
        )

    def multiply_adds(self, x: TensorSpec) -> int:
        """Output elements times C_in/groups * kernel elements."""
        return self.output(x).elements * (self.in_channels // self.groups) * prod(self.kernel)

    def _copied(self, x: TensorSpec) -> TensorSpec | None:
        """PyTorch's padded copy of the input: all of it but for zeros, which only an uneven "same" adds so."""
        _, sizes = self._split(x)
        added = self._total_padding()
        if self.padding_mode == "zeros":
            added = tuple(total % 2 if self.padding == "same" else 0 for total in added)
            if not any(added):
                return None
        padded = (size + more for size, more in zip(sizes, added, strict=True))
        return x.with_shape(*x.shape[: -self.dimensions], *padded)

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """As of any convolution; and where padding repeats places of the input, their gradients are added up.

        That is one addition per element of the padded copy; a circular one is made of views, whose gradients are
        autograd's to add.
        """
        one = super().backward(
            *inputs,
            needs_input_grad=needs_input_grad,
            needs_weight_grad=needs_weight_grad,
            needs_bias_grad=needs_bias_grad,
        )
        copy = self._copied(*inputs)
        if copy is None or self.padding_mode not in ("reflect", "replicate") or one.input_gradients == (None,):
            return one
        return replace(one, input=one.input + Cost.elementwise(copy.elements))

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input, or its padded copy."""
        copy = self._copied(*inputs)
        return super().saved(*inputs) if copy is None else (Saved("intermediate", copy),)


@dataclass(frozen=True, kw_only=True)
class _ConvolutionTranspose(_ConvolutionSettings):
    """The gradient of a convolution with respect to its input, as a layer."""

    padding: Sizes = 0
    output_padding: Sizes = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("padding", "output_padding"):
            sizes = self._sizes(name)
            if min(sizes) < 0:
                raise ValueError(f"{name} must be at least 0, got {sizes}")
            object.__setattr__(self, name, sizes)
        limits = zip(self._sizes("output_padding"), self._sizes("stride"), self._sizes("dilation"), strict=True)
        if any(extra >= max(s, d) for extra, s, d in limits):
            raise ValueError(f"output_padding {self.output_padding} must be below the stride or the dilation")

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel)

    def _spatial(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """(H - 1) * s - 2p + d*(k-1) + output_padding + 1 in each dimension."""
        return tuple(
            (size - 1) * s - 2 * p + d * (k - 1) + extra + 1
            for size, s, p, d, k, extra in zip(
                sizes,
                self._sizes("stride"),
                self._sizes("padding"),
                self._sizes("dilation"),
                self.kernel,
                self._sizes("output_padding"),
                strict=True,
            )
        )

    def multiply_adds(self, x: TensorSpec) -> int:
        """Input elements times C_out/groups * kernel elements: each is spread over a whole kernel."""
        self.output(x)
        return x.elements * (self.out_channels // self.groups) * prod(self.kernel)


class Conv1d(_Convolution):
    """`torch.nn.Conv1d`: (N, C_in, L) -> (N, C_out, L_out)."""

    dimensions = 1


class Conv2d(_Convolution):
    """`torch.nn.Conv2d`: (N, C_in, H, W) -> (N, C_out, H_out, W_out)."""

    dimensions = 2


class Conv3d(_Convolution):
    """`torch.nn.Conv3d`: (N, C_in, D, H, W) -> (N, C_out, D_out, H_out, W_out)."""

    dimensions = 3


class ConvTranspose1d(_ConvolutionTranspose):
    """`torch.nn.ConvTranspose1d`: (N, C_in, L) -> (N, C_out, L_out)."""

    dimensions = 1


class ConvTranspose2d(_ConvolutionTranspose):
    """`torch.nn.ConvTranspose2d`: (N, C_in, H, W) -> (N, C_out, H_out, W_out)."""

    dimensions = 2


class ConvTranspose3d(_ConvolutionTranspose):
    """`torch.nn.ConvTranspose3d`: (N, C_in, D, H, W) -> (N, C_out, D_out, H_out, W_out)."""

    dimensions = 3
