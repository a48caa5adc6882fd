"""Local response normalization: no statistics, hence priced as the operators it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .cost import Cost
from .layer import Saved, ShapeError, at_least_one
from .parameterless import Parameterless
from .tensor import TensorSpec


@dataclass(frozen=True, kw_only=True)
class LocalResponseNorm(Parameterless):
    """`torch.nn.LocalResponseNorm`: y = x / (k + alpha * mean of x^2 over `size` neighbouring channels)^beta.

    Taken apart by PyTorch, and counted so: it has no statistics of its own, hence not the convention's 5.
    """

    kind: ClassVar[str] = "normalization"

    size: int

    def __post_init__(self) -> None:
        at_least_one(self, "size")

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """The input's shape and dtype. Raises ShapeError below three dimensions."""
        (x,) = inputs
        if len(x.shape) < 3:
            raise ShapeError(f"LocalResponseNorm takes (N, C, spatial sizes), got {x.shape}")
        return x

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Per element: x*x, a pooling window of `size`, * alpha, + k, the power, the division."""
        return Cost.elementwise(self.output(*inputs).elements, self.size + 5)

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        """Per element: 1 for the dividend, 4 for the divisor (-g * (x/d)/d), 3 for the power, 1 for alpha, 2 for x*x.

        And the window again.
        """
        return Cost.elementwise(self.output(*inputs).elements, self.size + 11)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The input, the padded squares, the base of the power and the divisor."""
        x = self.output(*inputs)
        channels = x.shape[1] + self.size - 1
        padded = x.with_shape(x.shape[0], channels, *x.shape[2:])
        return Saved("input", x), *(Saved("intermediate", spec) for spec in (padded, x, x))
