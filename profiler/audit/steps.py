"""Training steps of the CNN's variants, run for real: what the allocator says of their memory, and a clock of their
seconds. The memory of each is taken once, however many claims ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ...models.cnn import CNN, example
from ...theory.stream import Stream
from ..machine import Machine
from ..measure import measure_memory, measure_times
from ..memory import Memory
from ..profile import profile
from ..seconds.forecast import forecast
from ..seconds.timing import Timing
from ..workload import Workload
from .variants import Variant

StreamOf = Callable[[Variant], Stream]


class RealSteps:
    """Steps on that device, remembered."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._memories: dict[Variant, Memory] = {}
        self._recomputed: dict[Variant, int] = {}

    def memory(self, step: Variant) -> Memory:
        """As the allocator has it."""
        if step not in self._memories:
            self._memories[step] = measure_memory(_workload(step, self._device))
        return self._memories[step]

    def stream(self, step: Variant) -> Stream:
        """Its allocations and frees, in order."""
        return self.memory(step).stream

    def timings(self, steps: Sequence[Variant], turns: int) -> dict[Variant, Timing]:
        """Their seconds, each step in as many turns."""
        return dict(zip(steps, measure_times([_workload(step, self._device) for step in steps], turns), strict=True))

    def foreseen(self, step: Variant, machine: Machine) -> Timing:
        """Its seconds as that machine's calibration has them, from a step that is counted."""
        workload = _workload(step, self._device)
        with profile(workload.model) as run:
            workload.step()
        return forecast(run.trace, machine)

    def recomputed_flops(self, step: Variant) -> int:
        """FLOPs of what backward runs again."""
        if step not in self._recomputed:
            workload = _workload(step, self._device)
            with profile(workload.model) as run:
                workload.step()
            self._recomputed[step] = run.totals.get("recompute_flops", 0)
        return self._recomputed[step]


def _workload(step: Variant, device: str) -> Workload:
    """With plain SGD, which keeps nothing. Weights are random, apart from the process's own random state."""
    dtype = getattr(torch, step.dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CNN(step.config).to(device, dtype)
    images, labels = example(step.config, step.batch_size, device=device)
    images = images.to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    autocast = torch.autocast(device, getattr(torch, step.autocast or "bfloat16"), enabled=step.autocast is not None)

    def one_step() -> None:
        optimizer.zero_grad()
        with autocast:
            logits = model(images)
            loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()

    return Workload(model=model, step=one_step, optimizer=optimizer)
