"""Attention within windows of a feature map, as vision transformers have it: the products, and only they.

What else such a layer does (padding, shifting, masks and learnt biases of the scores, normalizing queries and keys)
differs by model and is little: readers compare `matmul_flops` alone where `products_only` is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from .cost import ZERO, Cost
from .layer import Backward, Parameter, Saved, ShapeError, at_least_one, gradients, trained, wants
from .tensor import TensorSpec


@dataclass(frozen=True, kw_only=True)
class WindowAttention:
    """What the two kinds share: W windows of T tokens with C features; per head, T * T scores in each window.

    Queries times keys are W*T*T*C multiply-adds, scores times values as many; a projection of C to n*C features is
    W*T*C*n*C.
    """

    features: int
    heads: int
    dtype: str = "float32"

    kind: ClassVar[str] = "attention"
    products_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least_one(self, "features", "heads")
        if self.features % self.heads:
            raise ValueError(f"heads={self.heads} must divide features={self.features}")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        raise NotImplementedError

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def _windows(self, x: TensorSpec) -> tuple[int, int]:
        """How many windows of all samples there are, and the tokens of one. Raises ShapeError."""
        raise NotImplementedError

    @property
    def _dimensions(self) -> int:
        """Of the input."""
        return 4

    def _check(self, x: TensorSpec) -> None:
        if len(x.shape) != self._dimensions or x.shape[-1] != self.features or 0 in x.shape:
            raise ShapeError(
                f"{type(self).__name__} takes {self._dimensions} dimensions, the last of {self.features}, got {x.shape}"
            )

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """The input's shape and dtype."""
        (x,) = inputs
        self._check(x)
        return x

    def _product(self, x: TensorSpec) -> Cost:
        """Queries times keys, or scores times values."""
        self._check(x)
        windows, tokens = self._windows(x)
        return Cost.matmul(windows * tokens * tokens * self.features)

    def _core(self, x: TensorSpec, *, operands: bool, scores: bool) -> Cost:
        """Gradients of queries, keys and values, and of the scores, which both the first two and a bias need."""
        product = self._product(x)
        return product * (3 * operands) + product * (operands or scores)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The factors of the products: queries, keys and values together, and the scores."""
        (x,) = inputs
        self._check(x)
        windows, tokens = self._windows(x)
        joint = x.with_shape(windows, tokens, 3 * self.features)
        return Saved("intermediate", joint), Saved("intermediate", x.with_shape(windows, self.heads, tokens, tokens))


@dataclass(frozen=True, kw_only=True)
class ShiftedWindowAttention(WindowAttention):
    """torchvision's `ShiftedWindowAttention`, of Swin: (N, H, W, C), padded to whole windows of `window`.

    It does the projections itself, "qkv" and "proj". `cosine`, of the second version, has a scale per head to learn
    instead of the table of biases of the scores, which are then a network's output. Of videos, (N, T, H, W, C), it has
    a window of three sizes, and `adapts`: a window is never larger than the map.
    """

    window: tuple[int, ...]
    qkv_bias: bool = True
    proj_bias: bool = True
    cosine: bool = False
    adapts: bool = False

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The table or the scale, then the projections'."""
        c = self.features
        if self.cosine:
            found = [Parameter("logit_scale", (self.heads, 1, 1), self.dtype)]
        else:
            offsets = prod(2 * size - 1 for size in self.window)
            found = [Parameter("relative_position_bias_table", (offsets, self.heads), self.dtype)]
        for name, rows, bias in (("qkv", 3 * c, self.qkv_bias), ("proj", c, self.proj_bias)):
            found.append(Parameter(f"{name}.weight", (rows, c), self.dtype))
            if bias:
                found.append(Parameter(f"{name}.bias", (rows,), self.dtype))
        return tuple(found)

    @property
    def _dimensions(self) -> int:
        return len(self.window) + 2

    def _windows(self, x: TensorSpec) -> tuple[int, int]:
        sizes = x.shape[1:-1]
        window = tuple(map(min, sizes, self.window)) if self.adapts else self.window
        counts = (-(-size // of) for size, of in zip(sizes, window, strict=True))
        return x.shape[0] * prod(counts), prod(window)

    def _projections(self, x: TensorSpec) -> tuple[Cost, Cost]:
        self._check(x)
        windows, tokens = self._windows(x)
        once = Cost.matmul(windows * tokens * self.features * self.features)
        return 3 * once, once

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """And of the projections: the windows, and what the scores make of the values."""
        (x,) = inputs
        kept = super().saved(x)
        rows = x.with_shape(*self._windows(x), self.features)
        return (Saved("intermediate", rows), *kept, Saved("intermediate", rows))

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Two projections, two products."""
        (x,) = inputs
        return sum(self._projections(x), start=2 * self._product(x))

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """Of each product both factors' gradients, as far as something before it needs one."""
        flags, (x,) = wants(needs_input_grad, inputs), inputs
        into, out = self._projections(x)
        operands = flags[0] or needs_weight_grad or (needs_bias_grad and self.qkv_bias)
        scores = needs_weight_grad if self.cosine else needs_bias_grad
        through = out if operands or scores else ZERO
        return Backward(
            input_gradients=gradients(flags, inputs),
            parameter_gradients=trained(self.parameters, needs_weight_grad, needs_bias_grad),
            input=through + self._core(x, operands=operands, scores=scores) + (into if flags[0] else ZERO),
            weight=into + out if needs_weight_grad else ZERO,
        )


@dataclass(frozen=True, kw_only=True)
class RelativePositionalAttention(WindowAttention):
    """torchvision's `RelativePositionalMultiHeadAttention`, of MaxViT: (N, windows, tokens, C).

    Its projections are layers of their own, and no part of it: the input's gradient is that of queries, keys and values
    together, which `to_qkv` makes. `tokens` are a square's, with a bias of the scores for each offset within it.
    """

    tokens: int

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The table of biases."""
        side = int(self.tokens**0.5)
        return (Parameter("relative_position_bias_table", ((2 * side - 1) ** 2, self.heads), self.dtype),)

    def _windows(self, x: TensorSpec) -> tuple[int, int]:
        if x.shape[2] != self.tokens:
            raise ShapeError(f"RelativePositionalAttention takes {self.tokens} tokens in each window, got {x.shape}")
        return x.shape[0] * x.shape[1], self.tokens

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Two products."""
        (x,) = inputs
        return 2 * self._product(x)

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """Of each product both factors' gradients; for the table's alone only that of the scores."""
        flags, (x,) = wants(needs_input_grad, inputs), inputs
        return Backward(
            input_gradients=gradients(flags, inputs),
            parameter_gradients=trained(self.parameters, needs_weight_grad, needs_bias_grad),
            input=self._core(x, operands=flags[0], scores=needs_bias_grad),
        )
