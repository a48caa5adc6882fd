"""What it takes the host to launch work on a device: bare steps of a chain whose kernels are far shorter than that."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from ..profile import profile
from ..records import Trace

_PAIRS, _WIDTH, _SAMPLES = 100, 16, 4
_WARM = 3

Now = Callable[[], int]

_NANOSECOND = 1e-9


def launch_costs(device: str, *, now: Now, wait: Callable[[], None], rounds: int = 20) -> dict[str, float]:
    """Host seconds by the name of an overhead (see `Machine`): the median of `rounds` steps.

    `launch forward` and `launch backward` are of each operator that does something, with the Python around it and the
    views before it; `launch optimizer` of each parameter. The device is not waited for: nothing of it is in them.
    """
    model = nn.Sequential(*(layer for _ in range(_PAIRS) for layer in (nn.Linear(_WIDTH, _WIDTH), nn.ReLU())))
    model.to(device)
    x = torch.zeros(_SAMPLES, _WIDTH, device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    with profile(model) as counted:
        _step(model, x, optimizer, time.perf_counter_ns)
    for _ in range(_WARM):
        _step(model, x, optimizer, time.perf_counter_ns)
    steps = []
    for _ in range(rounds):
        wait()
        steps.append(_step(model, x, optimizer, now))
    wait()
    of_phases = zip(("forward", "backward", "optimizer"), zip(*steps, strict=True), strict=True)
    pieces = _pieces(counted.trace, parameters=sum(1 for _ in model.parameters()))
    return {f"launch {name}": median(spent) * _NANOSECOND / pieces[name] for name, spent in of_phases}


def _step(model: nn.Module, x: torch.Tensor, optimizer: torch.optim.Optimizer, now: Now) -> tuple[int, int, int]:
    """Nanoseconds until forward, backward and optimizer have launched all they do."""
    optimizer.zero_grad()
    arriving = torch.ones_like(x)
    begin = now()
    y = model(x)
    forward = now()
    y.backward(arriving)
    backward = now()
    optimizer.step()
    return forward - begin, backward - forward, now() - backward


def _pieces(trace: Trace, parameters: int) -> dict[str, int]:
    """By how many the seconds of each phase are divided. Views are in no trace."""
    working = Counter[str]()
    for facts in trace.operators:
        working[facts.phase] += facts.times
    return {"forward": working["forward"], "backward": working["backward"], "optimizer": parameters}
