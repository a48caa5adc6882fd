"""PyTorch's private autograd state, in one place.

Sequence numbers: every node made in forward gets the next number of its thread. In backward, the node being run still
has its number, and so leads back to the module call that was running when it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Number of the node that the next differentiable operation of this thread will make.
next_sequence_number = torch._C._autograd._get_sequence_nr

# The node that autograd is running in this thread, or None.
current_node: Callable[[], Any | None] = torch._C._current_autograd_node

# -1 outside backward; else a number that differs between nested backward passes.
current_graph_task = torch._C._current_graph_task_id

OUTSIDE_BACKWARD = -1

# AccumulateGrad nodes have no place in the sequence.
NO_SEQUENCE_NUMBER = 2**64 - 1


# Whether the backward pass being run will come to this node: not all do under autograd.grad, or backward(inputs=...).
will_execute: Callable[[Any], bool] = torch._C._will_engine_execute_node

# Whether the backward pass being run keeps its graph for another one.
keeps_graph: Callable[[], bool] = torch._C._autograd._get_current_graph_task_keep_graph

# Run something when the backward pass being run has come to its end; a pass that fails never does.
call_when_pass_ends: Callable[[Callable[[], None]], None] = torch.autograd.Variable._execution_engine.queue_callback
