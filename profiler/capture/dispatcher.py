"""The dispatcher's own count, as a witness that shares nothing with ours: PyTorch's FlopCounterMode.

It counts products alone (convolution, linear, attention), by its own formulas and its own attribution to modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def dispatcher_flops(
    model: nn.Module, forward: Callable[[], Tensor], *, backward: bool = True
) -> dict[tuple[str, str], int]:
    """(module path, "forward" | "backward") -> FLOPs, children included; "" is the model.

    `forward` runs the model and returns the loss; its backward is run here, so that the two phases can be told apart
    by what had been counted in between.
    """
    with FlopCounterMode(display=False) as counter:
        loss = forward()
        before = _by_path(model, counter)
        if backward:
            loss.backward()
    after = _by_path(model, counter)
    counts = {(path, "forward"): flops for path, flops in before.items()}
    if backward:
        counts |= {(path, "backward"): flops - before.get(path, 0) for path, flops in after.items()}
    return counts


def _by_path(model: nn.Module, counter: FlopCounterMode) -> dict[str, int]:
    """FlopCounterMode names modules `ResNet.layer1.0`; only the part after the model's own name is the path."""
    root = type(model).__name__
    counted: Mapping[str, Mapping[Any, int]] = counter.get_flop_counts()
    return {
        name.removeprefix(root).removeprefix("."): sum(operators.values())
        for name, operators in counted.items()
        if name == root or name.startswith(root + ".")
    }
