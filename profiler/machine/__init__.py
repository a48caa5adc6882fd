"""This machine, as calibration finds it: ceilings, and what operators take inside training steps.

A machine that is not known is calibrated, never looked up in a table.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .ceilings import ceilings
from .networks import networks
from .record import Machine
from .sampling import Learnt
from .store import load, save, this_machine

__all__ = ["Machine", "calibrate", "machine"]

ROUNDS = 24
REPEATS = 5


def calibrate(*, rounds: int = ROUNDS, repeats: int = REPEATS, say: Callable[[str], None] | None = None) -> Machine:
    """Find out what this machine does with torch as it is set now (threads, device: the CPU), and keep it in the user's
    cache folder; minutes. Nothing else should run meanwhile.

    `rounds` of about a dozen networks are timed, `repeats` steps each. `say` is told how far it is. Raises MachineError
    where it cannot be kept, RunStateError while another profiler session is active.
    """
    found = take_machine(rounds=rounds, repeats=repeats, say=say)
    save(found)
    return found


def take_machine(*, rounds: int = ROUNDS, repeats: int = REPEATS, say: Callable[[str], None] | None = None) -> Machine:
    """The same, and nothing is kept."""
    say = say or (lambda words: None)
    about = this_machine()
    say("ceilings")
    top = ceilings()
    learnt = Learnt()
    with torch.random.fork_rng(devices=[]):
        for number, network in enumerate(networks(rounds), start=1):
            say(f"network {number}")
            learnt.learn(network.model, network.step, repeats=repeats)
    return Machine(environment=about, ceilings=top, samples=tuple(learnt.samples), overheads=learnt.overheads)


def machine() -> Machine:
    """This machine, as it was calibrated for torch as it is set now. Raises MachineError where it was not."""
    return load(this_machine())
