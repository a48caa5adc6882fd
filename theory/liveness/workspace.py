"""What operators of PyTorch's CPU build need for themselves. Bounds: one thread, and what `convolutions` knows."""

from __future__ import annotations

from dataclasses import dataclass

from ..convolution import Conv2d
from ..normalization import BatchNorm
from ..optimizers import Operation
from ..pooling import GlobalAveragePool
from ..tensor import ITEMSIZE
from . import convolutions
from .calls import Call
from .script import Script, script

PYTHON_NUMBER = 8  # bytes: a Python number joins a tensor as one of float64 or int64


@dataclass(frozen=True)
class CPU:
    """PyTorch's own CPU kernels, and convolutions whose scratch memory is not known.

    BatchNorm works in vectors of C numbers, and allocates its input's gradient twice. A Python number that joins
    tensors is a tensor itself, and another once it is cast: the mean's divisor, factors and summands in optimizers;
    the one that is added to BatchNorm's count of batches needs no cast. A convolution's backward gives the bias before
    the weight.
    """

    def forward(self, call: Call) -> Script | None:
        """Of BatchNorm and the mean."""
        if isinstance(call.layer, BatchNorm):
            return _batch_norm(call.layer)
        if isinstance(call.layer, GlobalAveragePool):
            return _with_number("=output +number +cast -cast -number", call.output.dtype)
        return None

    def backward(self, call: Call, *, flows: bool) -> Script | None:
        """Of the same, and the order of a convolution's gradients."""
        if isinstance(call.layer, Conv2d):
            return script("=input =bias =weight")
        if isinstance(call.layer, BatchNorm):
            return script("+unused =weight =bias =input -unused", unused=call.output.nbytes if flows else 0)
        if isinstance(call.layer, GlobalAveragePool):
            return _with_number("+number +cast =input -cast -number", call.output.dtype)
        return None

    def update(self, operation: Operation) -> Script | None:
        """Of operators with a Python number."""
        if operation.number is None:
            return None
        results = " ".join(f"={name}" for name in operation.results)
        return _with_number(f"<number +cast {results} -cast >number", operation.number)


@dataclass(frozen=True, kw_only=True)
class OneDNN(CPU):
    """The CPU with all that is known of convolutions, in blocks of so many channels: 16 with AVX-512, 8 with AVX2."""

    block: int = 16

    def forward(self, call: Call) -> Script | None:
        """Raises NoRuleError for a convolution of a kind that was not watched."""
        if isinstance(call.layer, Conv2d):
            return convolutions.forward(call.layer, call.inputs[0], self.block)
        return super().forward(call)

    def backward(self, call: Call, *, flows: bool) -> Script | None:
        """Raises NoRuleError for a convolution of a kind that was not watched."""
        if isinstance(call.layer, Conv2d):
            return convolutions.backward(call.layer, call.inputs[0], self.block, flows=flows)
        return super().backward(call, flows=flows)


def _batch_norm(layer: BatchNorm) -> Script:
    """Statistics twice over, and the scale and shift that they come to: a vector of C numbers each."""
    vector = layer.num_features * ITEMSIZE[layer.dtype]
    if not layer.uses_batch_statistics:
        return script("=output +scale +shift -shift -scale", scale=vector, shift=vector)
    count = PYTHON_NUMBER if layer.track_running_stats else 0
    return script(
        "<count >count =output =mean =inverse_std +sums +squares -squares -sums +scale +shift -shift -scale",
        count=count, sums=vector, squares=vector, scale=vector, shift=vector,
    )  # fmt: skip


def _with_number(order: str, dtype: str) -> Script:
    return script(order, number=PYTHON_NUMBER, cast=ITEMSIZE[dtype])
