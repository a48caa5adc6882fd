"""What a training step is doing: the words that every witness uses."""

from __future__ import annotations

from typing import Literal, get_args

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

PHASES: tuple[Phase, ...] = get_args(Phase)

Gap = Literal["python", "autograd", "idle"]
"""Time of a step in which no phase's work was being done.

python    the step's own thread, between all calls, operators and nodes: Python, data, waiting
autograd  between two nodes of backward, with nothing else in between
idle      of a device: no kernel was running
"""

GAPS: tuple[Gap, ...] = get_args(Gap)
