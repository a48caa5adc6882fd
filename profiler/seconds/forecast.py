"""A step's seconds without taking it: each operator at what calibration says of operators like it."""

from __future__ import annotations

from collections import defaultdict

from ..machine.features import Features, features
from ..machine.record import Machine
from ..pricing import PRICES, Prices
from ..records import Trace
from .timing import Place, Timing

_NANOSECONDS = 1e9


def forecast(trace: Trace, machine: Machine, prices: Prices = PRICES) -> Timing:
    """The seconds of the counted step, by module and phase, and its gaps; of one thread, one operator after the other.

    `notes` names the operators that calibration did not meet: they are left out, and the step is longer than that.
    """
    found = _Forecast(machine, prices)
    found.operators(trace)
    found.rests(trace)
    spent = {place: round(seconds * _NANOSECONDS) for place, seconds in found.seconds.items()}
    return Timing(
        bare=(sum(spent.values()),),
        observed=(spent,),
        device=str(machine.environment.get("device", "cpu")),
        predicted=True,
        notes=tuple(f"{kind} was not met in calibration: its seconds are left out" for kind in sorted(found.unknown)),
    )


class _Forecast:
    def __init__(self, machine: Machine, prices: Prices) -> None:
        self.seconds: dict[Place, float] = defaultdict(float)
        self.unknown: set[str] = set()
        self._machine = machine
        self._prices = prices
        self._known: dict[Features, float | None] = {}

    def operators(self, trace: Trace) -> None:
        """What each operator takes, and starting it."""
        for facts in trace.operators:
            what = features(facts.signature, self._prices)
            took = self._of(what)
            if took is None:
                self.unknown.add(what.kind)
            started = self._machine.overheads.get(f"operator {facts.phase}", 0.0)
            self.seconds[facts.path, facts.phase] += facts.times * ((took or 0.0) + started)

    def rests(self, trace: Trace) -> None:
        """What a step takes besides: calls of modules that only call others, gradients that arrive, gaps."""
        overheads = self._machine.overheads
        working = {(facts.path, facts.phase) for facts in trace.operators}
        for call in trace.calls:
            if (call.path, call.phase) not in working:
                self.seconds[call.path, call.phase] += call.times * overheads.get("call", 0.0)
        for gradient in trace.gradients:
            if gradient.of == "parameter":
                self.seconds[gradient.path, "accumulation"] += gradient.times * overheads.get("gradient", 0.0)
        backward = sum(facts.times for facts in trace.operators if facts.phase == "backward")
        self.seconds["", "autograd"] = backward * overheads.get("autograd", 0.0)
        self.seconds["", "python"] = overheads.get("python", 0.0)

    def _of(self, what: Features) -> float | None:
        if what not in self._known:
            self._known[what] = self._machine.curves.seconds(what)
        return self._known[what]
