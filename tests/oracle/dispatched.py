"""FLOPs by the convention as operators arrive at PyTorch's dispatcher, told apart by PyTorch's own tags.

For layers that PyTorch takes apart: an operator tagged `pointwise` is one FLOP per output element, one tagged
`reduction` one per input element, products are counted from their shapes, and what remains is listed here by
name or is moving data. Sums that the autograd engine does where gradients meet are no layer's work, and only
they are additions in backward, of all the operators met here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .brute import Tally
from .real import numbers

# Multiply-adds from the shapes of two matrices, perhaps in batches: every row with every column.
PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
# Five per element, of the operand at that place.
FIVE = {
    "_softmax": 0,
    "_safe_softmax": 0,
    "_softmax_backward_data": 0,
    "_log_softmax": 0,
    "_log_softmax_backward_data": 0,
    "native_batch_norm": 0,
    "native_batch_norm_backward": 0,
    "native_layer_norm": 0,
    "native_layer_norm_backward": 0,
    "native_group_norm": 0,
    "native_group_norm_backward": 0,
    "_fused_rms_norm": 0,
}
# One per element of what they make, for want of a tag; so are operators whose names end in `_backward`.
ONE = {
    "_prelu_kernel",
    "rrelu_with_noise",
    "hardswish",
    "hardswish_",
    "threshold_",
    "mish_",
    "log_sigmoid_forward",
    "glu",
}
# One per element of the operand at that place: losses in one operator, their reduction included.
ONE_OF = {
    "mse_loss": 0,
    "smooth_l1_loss": 0,
    "huber_loss": 0,
    "soft_margin_loss": 0,
    "binary_cross_entropy": 0,
    "binary_cross_entropy_with_logits": 0,
    "nll_loss_forward": 1,
    "nll_loss_backward": 2,
    "nll_loss2d_forward": 1,
    "nll_loss2d_backward": 2,
}
# One per element of each window: the operand with one number per window, and the place of the window's size.
WINDOWS = {
    "avg_pool3d": (None, 1),
    "avg_pool3d_backward": (0, 2),
    "avg_pool2d": (None, 1),
    "avg_pool2d_backward": (0, 2),
}
# Moving data, comparing for a mask, drawing random numbers: whatever the tag.
FREE = {
    "clone", "copy_", "_to_copy", "fill", "fill_", "zero_", "zeros_like", "ones_like", "full_like", "where",
    "masked_fill", "masked_fill_", "tril", "triu", "bernoulli_", "bernoulli", "logical_not", "eq", "isinf",
    "select_backward", "slice_backward",
}  # fmt: skip


@dataclass
class Seen:
    """One pass forward and one backward."""

    output: Tensor
    forward: Tally
    backward: Tally


class Counter(TorchDispatchMode):
    """Adds what it sees to `tally`."""

    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally()
        self.in_backward = False

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        name = op.name().removeprefix("aten::").split(".")[0]
        made = result if isinstance(result, Tensor) else result[0] if isinstance(result, tuple) else None
        if name in PRODUCTS:
            left, right = (args[place] for place in PRODUCTS[name])
            self.tally.products += left.numel() * right.shape[-1]
        elif name in FIVE:
            self.tally.operations += 5 * args[FIVE[name]].numel()
        elif name in ONE_OF:
            self.tally.operations += args[ONE_OF[name]].numel()
        elif name in WINDOWS:
            windows, kernel = WINDOWS[name]
            per_window = made if windows is None else args[windows]
            self.tally.operations += per_window.numel() * prod(args[kernel])
        elif name in FREE or self.added_bias(name, args) or made is None:
            pass
        elif torch.Tag.pointwise in op.tags or name in ONE or name.endswith("_backward"):
            self.tally.operations += made.numel()
        elif torch.Tag.reduction in op.tags:
            self.tally.operations += args[0].numel()
        return result

    def added_bias(self, name: str, args: Any) -> bool:
        """A sum of gradients where two meet; or, forward, of an output and a bias, which the convention leaves out."""
        if name not in ("add", "add_") or not isinstance(args[1], Tensor):
            return False
        return self.in_backward or args[1].dim() == 1 < args[0].dim()


def dispatch(layer: nn.Module | Callable[..., Tensor], *inputs: Tensor) -> Seen:
    """Run forward and, if anything needs a gradient, backward."""
    with Counter() as counter:
        y = layer(*inputs)
        if isinstance(y, tuple):
            y = y[0]
        forward, counter.tally = counter.tally, Tally()
        upstream = numbers(*y.shape, dtype=y.dtype, seed=99)
        counter.tally, counter.in_backward = Tally(), True
        if y.requires_grad:
            y.backward(upstream)
    return Seen(y, forward, counter.tally)
