"""What a training step is doing: the words that every witness uses."""

from __future__ import annotations

from typing import Literal

Phase = Literal["forward", "loss", "backward", "accumulation", "optimizer", "recompute", "outside"]
"""What the step was doing.

forward       inside a module's call
loss          outside the model's modules, on tensors that need a gradient, and the backward of that: the loss, and any
              other model that works on such tensors
backward      inside autograd, in a node that a module's forward made
accumulation  autograd adding gradients that meet: at a fan-out, or into an existing `.grad`
optimizer     inside `Optimizer.step`
recompute     a module's forward called inside backward (activation checkpointing)
outside       anything else: data preparation, `zero_grad`, metrics
"""

PHASES: tuple[Phase, ...] = (
    "forward",
    "loss",
    "backward",
    "accumulation",
    "optimizer",
    "recompute",
    "outside",
)
