"""A tensor in another dtype: what autocast makes of logits before the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..cost import ZERO, Cost
from ..parameterless import Parameterless
from ..tensor import TensorSpec

TO_COPY = "aten._to_copy"


@dataclass(frozen=True)
class Cast(Parameterless):
    """The input in another dtype; its gradient goes back in the first. Moving data is not arithmetic."""

    dtype: str

    kind: ClassVar[str] = "other"

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """The input's shape."""
        (x,) = inputs
        return x.with_dtype(self.dtype)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """No FLOPs."""
        return ZERO

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        return ZERO
