"""PyTorch's private autograd state, in one place.

Sequence numbers: every node made in forward gets the next number of its thread. In backward, the node being run still
has its number, and so leads back to the module call that was running when it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Number of the node that the next differentiable operation of this thread will make.
next_sequence_number = torch._C._autograd._get_sequence_nr

# The node that autograd is running in this thread, or None.
current_node: Callable[[], Any | None] = torch._C._current_autograd_node

# -1 outside backward; else a number that differs between nested backward passes.
current_graph_task = torch._C._current_graph_task_id

OUTSIDE_BACKWARD = -1

# AccumulateGrad nodes have no place in the sequence.
NO_SEQUENCE_NUMBER = 2**64 - 1


def producer(tensor: Tensor) -> tuple[Any, int] | None:
    """The node through which this tensor's gradient will arrive, and its place among the node's gradients.

    None where no gradient is needed. Reading it changes nothing; for a leaf it is the node that accumulates `.grad`.
    """
    if not tensor.requires_grad:
        return None
    node = tensor.grad_fn
    if node is None:
        return torch.autograd.graph.get_gradient_edge(tensor).node, 0
    return node, tensor.output_nr
