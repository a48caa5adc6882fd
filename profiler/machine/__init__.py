"""This machine, as calibration finds it: ceilings, and what operators take inside training steps.

A machine that is not known is calibrated, never looked up in a table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

import torch

from ..capture.clock import Clock
from ..errors import MachineError
from .ceilings import ceilings
from .launching import launch_costs
from .networks import Trained, networks
from .record import Machine
from .sampling import Learnt
from .store import load, save, this_machine

__all__ = ["Machine", "calibrate", "known_machine", "machine"]

ROUNDS = 24
REPEATS = 5
_LARGER = (1, 4, 16)  # batches on a GPU, where networks that fill a CPU are small


def calibrate(
    device: str = "cpu", *, rounds: int = ROUNDS, repeats: int = REPEATS, say: Callable[[str], None] | None = None
) -> Machine:
    """Find out what this machine does on `device` ("cpu", or "cuda" for the current one) with torch as it is set now
    (threads, TF32), and keep it in the user's cache folder; minutes. Nothing else should run meanwhile.

    `rounds` of about a dozen networks are timed, `repeats` steps each. `say` is told how far it is. Raises MachineError
    where it cannot be kept, RunStateError while another profiler session is active, MeasurementError where the profiler
    does not see what a CUDA device does.
    """
    found = take_machine(device, rounds=rounds, repeats=repeats, say=say)
    save(found)
    return found


def take_machine(
    device: str = "cpu", *, rounds: int = ROUNDS, repeats: int = REPEATS, say: Callable[[str], None] | None = None
) -> Machine:
    """The same, and nothing is kept. On CUDA the seconds of operators are those of their kernels, with TF32 as it is
    set; ceilings are there for float32 with and without it."""
    say = say or (lambda words: None)
    about = this_machine(device)
    say("ceilings")
    top = ceilings(device)
    learnt = Learnt()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        for number, network in enumerate(networks(rounds), start=1):
            say(f"network {number}")
            try:
                _place(network, device, Random(number))
                learnt.learn(network.model, network.step, repeats=repeats, clock=Clock(network.model, device))
            except torch.OutOfMemoryError:
                say(f"network {number} does not fit the device: left out")
        launching = _launching() if device == "cuda" else {}
    overheads = {**learnt.overheads, **launching}
    return Machine(environment=about, ceilings=top, samples=tuple(learnt.samples), overheads=overheads)


def machine(device: str = "cpu") -> Machine:
    """This machine, as it was calibrated for that device and torch as it is set now. Raises MachineError where it was
    not."""
    return load(this_machine(device))


def known_machine(device: str = "cpu") -> Machine | None:
    """The same, or None where it was not calibrated."""
    try:
        return machine(device)
    except MachineError:
        return None


def _place(network: Trained, device: str, random: Random) -> None:
    """Put it on the device; on a GPU with several times as many samples."""
    if device == "cpu":
        return
    network.model.to(device)
    samples = network.input.detach().to(device)
    larger = samples.repeat(random.choice(_LARGER), *[1] * (samples.dim() - 1))
    network.input = larger.requires_grad_(network.input.requires_grad)


def _launching() -> dict[str, float]:
    return launch_costs("cuda", now=time.perf_counter_ns, wait=torch.cuda.synchronize)
