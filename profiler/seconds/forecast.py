"""A step's seconds without taking it: each operator at what calibration says of operators like it."""

from __future__ import annotations

from collections import defaultdict

from ..machine.features import Features, features
from ..machine.overheads import spread_over
from ..machine.record import Machine
from ..pricing import PRICES, Prices
from ..records import Trace
from .launched import Launched
from .timing import Place, Timing

_NANOSECONDS = 1e9


def forecast(trace: Trace, machine: Machine, prices: Prices = PRICES) -> Timing:
    """The seconds of the counted step, by module and phase, and its gaps; of one thread, one operator after the other.
    On a CUDA machine each operator takes the longer of its kernels and of its launch (`Launched`).

    `notes` names the operators that calibration did not meet: they are left out, and the step is longer than that.
    """
    device = str(machine.environment.get("device", "cpu"))
    found = Launched(machine, prices) if device == "cuda" else _Forecast(machine, prices)
    found.operators(trace)
    found.rests(trace)
    spent = {place: max(round(seconds * _NANOSECONDS), 0) for place, seconds in found.seconds.items()}
    return Timing(
        bare=(sum(spent.values()),),
        observed=(spent,),
        device=device,
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
        """What each operator takes."""
        for facts in trace.operators:
            what = features(facts.signature, self._prices)
            took = self._of(what)
            if took is None:
                self.unknown.add(what.kind)
            self.seconds[facts.path, facts.phase] += facts.times * (took or 0.0)

    def rests(self, trace: Trace) -> None:
        """What a step takes besides: starting operators, calls of modules, gradients that arrive, gaps; without what
        the clock took when all that was learnt."""
        overheads = self._machine.overheads
        once: dict[str, Place] = {}
        for name, place, times in spread_over(trace):
            self.seconds[place] += times * overheads.get(name, 0.0)
            once[f"once {name}"] = ("", place[1])
        for name, place in once.items():
            self.seconds[place] += overheads.get(name, 0.0)

    def _of(self, what: Features) -> float | None:
        if what not in self._known:
            self._known[what] = self._machine.curves.seconds(what)
        return self._known[what]
