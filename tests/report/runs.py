"""Runs to show and keep: a real one, one put together by hand, and the bytes of a step."""

from __future__ import annotations

import torch
from torch import nn

import torchtally
from torchtally.profiler.memory import Memory
from torchtally.profiler.run import Run
from torchtally.profiler.seconds.timing import Timing
from torchtally.theory.phase import GAPS
from torchtally.theory.stream import Block, Event, Stream

N, C, OUT, SIDE, CLASSES = 2, 3, 4, 8, 5


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(C, OUT, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(OUT * SIDE * SIDE, CLASSES)
    )


def trained(model: nn.Module | None = None) -> torchtally.Profile:
    """One training step with an optimizer."""
    model = model or network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torchtally.profile(model) as run:
        logits = model(torch.zeros(N, C, SIDE, SIDE))
        nn.functional.cross_entropy(logits, torch.zeros(N, dtype=torch.int64)).backward()
        optimizer.step()
    return run


BLOCKS = (
    Block(400, "parameters", "fc", "outside"),
    Block(100, "input", "", "outside"),
    Block(50, "activations", "block.conv", "forward", "aten.convolution"),
    Block(30, "saved", "block.relu", "forward", "aten.relu"),
    Block(70, "workspace", "fc", "backward", "aten.mm"),
)
EVENTS = (
    Event(2, True, "block.conv", "forward"),
    Event(3, True, "block.relu", "forward"),
    Event(2, False, "block", "forward"),
    Event(4, True, "fc", "backward"),
    Event(4, False, "fc", "backward"),
    Event(3, False, "", "outside"),
)
MEMORY = Memory(
    stream=Stream(blocks=BLOCKS, before=(0, 1), events=EVENTS),
    device="cuda",
    reserved=(("rounding", 112), ("cache", 2048)),
    notes=("a note",),
)
LIVE = (500, 550, 580, 530, 600, 530, 500)


# A second step in which the optimizer did nothing; places are modules and phases, and a gap.
TIMING = Timing(
    bare=(900, 1000),
    observed=({("0", "forward"): 300, ("", "optimizer"): 100, ("", GAPS[0]): 50}, {("0", "forward"): 310}),
    device="cuda",
    notes=("a note",),
)


def with_memory(run: Run | None = None, *, timing: Timing | None = None) -> Run:
    run = run or trained()
    return Run(run.trace, layers=run.layers, memory=MEMORY, timing=timing)
