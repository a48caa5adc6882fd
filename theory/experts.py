"""A mixture of experts: each token goes through the two matrices of every expert that was chosen for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .cost import ZERO, Cost
from .layer import Backward, Parameter, Saved, ShapeError, at_least_one, trained, wants
from .tensor import TensorSpec


@dataclass(frozen=True, kw_only=True)
class GatedExperts:
    """(T, C), chosen experts (T, k) and their weights (T, k) -> (T, C); `transformers`' experts, without biases.

    Each expert has a matrix of C to 2 * `hidden` features, half of them gates, and one of `hidden` to C. Which experts
    are chosen does not matter to the products. Readers compare only these (`products_only`, `products_alone`).
    """

    experts: int
    features: int
    hidden: int
    dtype: str = "float32"

    kind: ClassVar[str] = "linear"
    products_only: ClassVar[bool] = True
    products_alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least_one(self, "experts", "features", "hidden")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Both matrices of all experts."""
        return (
            Parameter("gate_up_proj", (self.experts, 2 * self.hidden, self.features), self.dtype),
            Parameter("down_proj", (self.experts, self.features, self.hidden), self.dtype),
        )

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(T, C). Raises ShapeError where tokens and choices do not fit."""
        x, chosen, weights = inputs
        if len(x.shape) != 2 or x.shape[1] != self.features:
            raise ShapeError(f"GatedExperts takes (T, {self.features}), got {x.shape}")
        if chosen.shape != weights.shape or chosen.shape[:1] != x.shape[:1] or len(chosen.shape) != 2:
            raise ShapeError(
                f"GatedExperts takes as many choices as tokens, got {chosen.shape} and {weights.shape} for {x.shape}"
            )
        return x

    def _product(self, *inputs: TensorSpec) -> Cost:
        """T * k pairs of token and expert, C * 2 * hidden and hidden * C multiply-adds each."""
        self.output(*inputs)
        return Cost.matmul(inputs[1].elements * 3 * self.features * self.hidden)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Both matrices, once for each pair of token and expert."""
        return self._product(*inputs)

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """The matrices' gradients cost what forward does; the tokens' do, too.

        Through the second matrix there is a way back to the first, which is trained, and to the tokens.
        """
        flags = wants(needs_input_grad, inputs)
        tokens, _, weights = inputs
        into = Cost.matmul(inputs[1].elements * 2 * self.features * self.hidden)
        out = Cost.matmul(inputs[1].elements * self.features * self.hidden)
        self.output(*inputs)
        return Backward(
            input_gradients=(tokens if flags[0] else None, None, weights if flags[2] else None),
            parameter_gradients=trained(self.parameters, needs_weight_grad, needs_bias_grad),
            input=(out if flags[0] or needs_weight_grad else ZERO) + (into if flags[0] else ZERO),
            weight=self._product(*inputs) if needs_weight_grad else ZERO,
        )

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """What meets the matrices: the tokens and, between them, the gated features, for each pair."""
        x, chosen, _ = inputs
        pairs = chosen.elements
        return (
            Saved("intermediate", x.with_shape(pairs, self.features)),
            Saved("intermediate", x.with_shape(pairs, self.hidden)),
        )
