"""A training step as a value: what `measure`, `predict`, the zoo and the command line share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from .errors import NotAModuleError, UsageError


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A model and one real step of it.

    `step()` takes no arguments and does all that a step does: forward, and whatever of loss, backward and optimizer
    belongs to it. It can be called any number of times. Raises NotAModuleError or UsageError for parts of another kind.
    """

    model: nn.Module
    step: Callable[[], Any]
    optimizer: torch.optim.Optimizer | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise NotAModuleError(f"a workload's model must be a torch.nn.Module, got {type(self.model).__name__}")
        if not callable(self.step):
            raise UsageError(f"a workload's step must be callable without arguments, got {self.step!r}")
        if self.optimizer is not None and not isinstance(self.optimizer, torch.optim.Optimizer):
            raise UsageError(
                f"a workload's optimizer must be a torch.optim.Optimizer or None, got {type(self.optimizer).__name__}"
            )


class Build(Protocol):
    """A factory of workloads: `build()` makes one of its default batch size."""

    def __call__(self, batch_size: int = ...) -> Workload: ...
