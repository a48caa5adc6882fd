"""A run that has ended, as a value: facts priced and compared, however they were come by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from .errors import RunStateError, UsageError
from .ledger import Coverage, Ledger, build
from .memory import Memory
from .pricing import PRICES, Prices
from .records import Trace

if TYPE_CHECKING:
    import pandas as pd

    from ..theory.layer import Layer
    from .compare import Comparison

_IN_SHORT = ("parameters", "forward_flops", "backward_flops", "activation_bytes", "saved_bytes", "peak_bytes")


class Run:
    """What was observed, and what follows from it. `profile` and `measure` observe a real run, `predict` one on fake
    tensors; all are read in the same way."""

    def __init__(
        self,
        trace: Trace | None = None,
        *,
        layers: Mapping[str, Layer] | None = None,
        prices: Prices = PRICES,
        memory: Memory | None = None,
    ) -> None:
        self._trace = trace
        self._layers = dict(layers or {})
        self._prices = prices
        self._memory = memory

    def _ended(self) -> None:
        """Raises RunStateError where there is nothing to read yet."""

    @property
    def trace(self) -> Trace:
        """The facts. Raises RunStateError before the block has ended."""
        self._ended()
        if self._trace is None:
            raise RunStateError("this run observed nothing")
        return self._trace

    @cached_property
    def ledger(self) -> Ledger:
        """The facts priced: rows per module path and phase, totals, coverage."""
        return build(self.trace, self._prices)

    @property
    def totals(self) -> Mapping[str, int]:
        """Sums over the model, and `peak_bytes`, the most that was live at once. A figure of a phase that did not
        happen, or that was not measured, is absent."""
        peak = {} if self._memory is None else {"peak_bytes": self._memory.peak_bytes}
        return {**self.ledger.totals, **peak}

    @property
    def memory(self) -> Memory:
        """The bytes of a step, in order. Raises RunStateError where memory was not measured."""
        self._ended()
        if self._memory is None:
            raise RunStateError(
                "this run did not measure memory: use torchtally.measure(workload), or torchtally.predict(build)"
            )
        return self._memory

    def per_sample(self, samples: int | None = None) -> dict[str, float]:
        """The totals divided by the number of samples: by default the first dimension of the model's first input, added
        up over its calls.

        Parameters and their bytes are not divided. Raises RunStateError where the run shows no such dimension.
        """
        if samples is None:
            samples = self._samples()
        elif not isinstance(samples, int) or samples < 1:
            raise UsageError(f"per_sample() needs a number of samples of at least 1, got {samples!r}")
        whole = {"parameters", "parameter_bytes", "parameter_gradient_bytes", "peak_bytes"}
        return {name: figure if name in whole else figure / samples for name, figure in self.totals.items()}

    def _samples(self) -> int:
        calls = [call for call in self.trace.calls if call.path == "" and call.phase == "forward"]
        if calls and all(call.inputs and call.inputs[0].shape and call.inputs[0].shape[0] for call in calls):
            return sum(call.times * call.inputs[0].shape[0] for call in calls)
        raise RunStateError("the run shows no batch dimension; say per_sample(samples=...)")

    @property
    def coverage(self) -> Coverage:
        """What the totals rest on: unpriced operators, and what could not be observed."""
        return self.ledger.coverage

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The closed form of each module that has one, by path."""
        self._ended()
        return self._layers

    def to_frame(self, *, inclusive: bool = False) -> pd.DataFrame:
        """The ledger as a DataFrame, one row per module path and phase; what was not measured is missing.

        Rows are exclusive, and add up; with `inclusive`, each has the sums over its module and all modules inside it.
        """
        from .report.frame import ledger_frame

        return ledger_frame(self.ledger, inclusive=inclusive)

    def __repr__(self) -> str:
        figures = (f"{name}={self.totals[name]:,}" for name in _IN_SHORT if name in self.totals)
        return f"<torchtally run: {', '.join(figures)}>"

    def compare(self) -> Comparison:
        """Closed forms against this run's counts, layer by layer."""
        from .compare import compare_layers

        return compare_layers(self.ledger, self.trace, self.layers)

    def __str__(self) -> str:
        from .report.terminal import ledger_text

        return ledger_text(self.ledger)
