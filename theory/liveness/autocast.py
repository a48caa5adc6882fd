"""Mixed precision (`torch.autocast`): products work on copies of their weights and inputs in a narrower dtype.

A weight's copy lives until the block ends, in case it is used again, and until backward, where autograd keeps it. Its
gradient is narrow too, and is copied into a wide one, which goes to the parameter. Everything else takes what comes,
but for the loss, which is computed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..convolution import Conv2d
from ..dense import Linear
from .cast import TO_COPY
from .heap import Heap, Storage, Tensor

Product = Conv2d | Linear

WIDE = "float32"


@dataclass
class Autocast:
    """An open block that casts to `dtype`, and the copies it keeps: by the layer's path and the parameter's name."""

    heap: Heap
    dtype: str
    copies: dict[tuple[str, str], Storage] = field(default_factory=dict)

    def layer(self, layer: Product) -> Product:
        """The layer with its parameters copied, bias first."""
        narrow = replace(layer, dtype=self.dtype)
        for parameter in reversed(narrow.parameters):
            key = self.heap.path, parameter.name
            if key not in self.copies:
                self.copies[key] = self.heap.open(parameter.nbytes, "activations", TO_COPY)
        return narrow

    def weight(self) -> Storage:
        """The copy of the weight of the layer that is running."""
        return self.copies[self.heap.path, "weight"]

    def input(self, x: Tensor) -> Tensor:
        """The input in the narrow dtype, held by the caller: a copy, or itself."""
        if x.spec.dtype != WIDE:
            return Tensor(x.spec, self.heap.hold(x.storage))
        narrow = x.spec.with_dtype(self.dtype)
        return Tensor(narrow, self.heap.open(narrow.nbytes, "activations", TO_COPY))

    def end(self) -> None:
        """Let go of all copies: PyTorch in no order that could be told beforehand, here as they came."""
        for storage in self.copies.values():
            self.heap.drop(storage)
        self.copies.clear()
