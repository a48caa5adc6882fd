"""A forecast on CUDA: kernels that the device runs one after the other, and a host that launches them."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

from ..machine.features import features
from ..machine.record import Machine
from ..pricing import PRICES, Prices
from ..records import Phase, Trace
from .timing import Place

_BY_ENGINE = ("backward", "accumulation")  # launched from C++; all else from Python


class Launched:
    """An operator takes the longer of its kernels and of its launch.

    A module has the seconds of its kernels, as where they are measured; what launching takes beyond them is `idle`,
    for the device then waits. A host that is ahead can make up for a short kernel with a long one, and where that
    happens the step takes less than this. The optimizer's few operators are launched for all parameters at once: it
    takes the longer of all its kernels and of all its launches.
    """

    def __init__(self, machine: Machine, prices: Prices = PRICES) -> None:
        self.seconds: dict[Place, float] = defaultdict(float)
        self.unknown: set[str] = set()
        self._machine = machine
        self._prices = prices
        self._took = cache(machine.curves.seconds)

    def operators(self, trace: Trace) -> None:
        """Kernels, and where the device waits for them. Views, which launch nothing, are in no trace."""
        for facts in trace.operators:
            what = features(facts.signature, self._prices)
            took = self._took(what)
            if took is None:
                self.unknown.add(what.kind)
            kernels = took or 0.0
            self.seconds[facts.path, facts.phase] += facts.times * kernels
            if facts.phase != "optimizer":
                self._waits(facts.times * (self._launch(facts.phase) - kernels))

    def rests(self, trace: Trace) -> None:
        """What the optimizer's launches take beyond its kernels."""
        places = {(facts.path, facts.phase) for facts in trace.operators if facts.phase == "optimizer"}
        if places:
            arrived = sum(gradient.times for gradient in trace.gradients if gradient.of == "parameter")
            kernels = sum(self.seconds.get(place, 0.0) for place in places)
            self._waits(arrived * self._machine.overheads.get("launch optimizer", 0.0) - kernels)

    def _launch(self, phase: Phase) -> float:
        name = "backward" if phase in _BY_ENGINE else "forward"
        return self._machine.overheads.get(f"launch {name}", 0.0)

    def _waits(self, seconds: float) -> None:
        self.seconds["", "idle"] += max(seconds, 0.0)
