"""A run that has ended, as a value: facts priced and compared, however they were come by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..theory.roofline import utilization
from .errors import RunStateError, UsageError
from .ledger import Coverage, Ledger, build
from .memory import Memory
from .pricing import PRICES, Prices
from .records import Trace
from .seconds.roofed import RoofRow, roof_rows
from .seconds.timed import with_seconds
from .seconds.timing import Timing

if TYPE_CHECKING:
    import pandas as pd

    from ..theory.layer import Layer
    from .compare import Comparison
    from .machine.record import Machine
    from .report.run_table import Units

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
        timing: Timing | None = None,
    ) -> None:
        self._trace = trace
        self._layers = dict(layers or {})
        self._prices = prices
        self._memory = memory
        self._timing = timing

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
        ledger = build(self.trace, self._prices)
        return ledger if self._timing is None else with_seconds(ledger, self._timing)

    @property
    def totals(self) -> Mapping[str, Any]:
        """Sums over the model; `peak_bytes`, the most that was live at once; `seconds` of a step that nobody looked at.
        A figure of a phase that did not happen, or that was not measured, is absent."""
        peak = {} if self._memory is None else {"peak_bytes": self._memory.peak_bytes}
        seconds = {} if self._timing is None else {"seconds": self._timing.seconds}
        return {**self.ledger.totals, **peak, **seconds}

    @property
    def memory(self) -> Memory:
        """The bytes of a step, in order. Raises RunStateError where memory was not measured."""
        self._ended()
        if self._memory is None:
            raise RunStateError(
                "this run did not measure memory: use torchtally.measure(workload) or torchtally.predict(build), "
                "or say run.step() at the end of each of at least four steps"
            )
        return self._memory

    @property
    def timing(self) -> Timing:
        """The seconds of a step, by module and phase. Raises RunStateError where time was not measured."""
        self._ended()
        if self._timing is None:
            raise RunStateError("this run did not measure time: use torchtally.measure(workload)")
        return self._timing

    @property
    def closure(self) -> float:
        """The part of the step's seconds that layers, loss and optimizer explain, in [0, 1]. Raises RunStateError where
        time was not measured."""
        return self.timing.closure

    def roofline(self, machine: Machine) -> pd.DataFrame:
        """Each module and phase against what the machine (`torchtally.machine()`) can do: `flops` of products, `bytes`
        moved, `intensity`, `bound` (compute, memory, overhead), `least_seconds`, and where time was measured `seconds`
        and the `share` of them that was needed. A share above 1 is a `failure`, in words; a `note` has what is left
        out."""
        from .report.frame import roofline_frame

        return roofline_frame(self._roof_rows(machine))

    def _roof_rows(self, machine: Machine) -> tuple[RoofRow, ...]:
        return roof_rows(self.trace, self.ledger, machine.ceilings, self._prices)

    def utilization(self, machine: Machine, dtype: str = "float32") -> float:
        """Model FLOP utilization: the products of forward and backward over what the machine could have computed in the
        step's time, in [0, 1]. Raises RunStateError where time was not measured, UsageError for a dtype whose ceiling
        was not."""
        if dtype not in machine.ceilings.flops:
            raise UsageError(f"no ceiling for {dtype}; there are {', '.join(machine.ceilings.flops)}")
        products = sum(self.totals.get(f"{phase}_matmul_flops", 0) for phase in ("forward", "backward"))
        return utilization(products, self.timing.seconds, machine.ceilings.flops[dtype])

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

    # Shown and kept ---------------------------------------------------------------------------------------------------

    def show(
        self,
        *,
        depth: int | None = None,
        sort: str = "order",
        columns: Sequence[str] | None = None,
        units: Units = "flops",
        inclusive: bool | None = None,
    ) -> None:
        """Print what is surprising, the modules, and their totals: as deep and as wide as the terminal is.

        `depth` is how many levels below the model; `sort` a column, the largest first, instead of the modules' own
        order; `columns` named as in `to_frame()`, with `forward_flops`, `backward_flops`, and `flops` for both;
        `units="macs"` for multiply-adds of products. `inclusive` has each module with all inside it: in a tree unless
        told otherwise, in a sorted list only if told. Raises UsageError for names that there are not.
        """
        from .report.run_table import Choice
        from .report.run_view import lines_that_fit, show_run

        chosen = None if columns is None else tuple(columns)
        lines = lines_that_fit()
        choice = Choice(depth=depth, sort=sort, columns=chosen, units=units, inclusive=inclusive, lines=lines)
        show_run(self.trace, self.ledger, choice)

    def _repr_html_(self) -> str | None:
        from .report.notebook import run_html
        from .report.run_table import Choice

        try:
            return run_html(self.trace, self.ledger, Choice())
        except RunStateError:
            return None  # a notebook then shows the `repr`

    def to_json(self, path: str | Path | None = None) -> str:
        """Facts, closed forms, memory and seconds as JSON, which `torchtally.from_json` reads; also written to `path`.

        Prices are not kept, so that a file is priced again by whoever reads it, but for those of formulas of your own:
        they stay as figures. Raises UsageError where the file cannot be written; the old one is then untouched.
        """
        from .report.run_writer import run_json

        return self._written(run_json(self.trace, self.layers, self._prices, self._memory, self._timing), path)

    def to_csv(self, path: str | Path | None = None, *, inclusive: bool = False) -> str:
        """The ledger as CSV, with the columns of `to_frame()`; also written to `path`. Raises as `to_json` does."""
        from .report.flat import ledger_csv

        return self._written(ledger_csv(self.ledger, inclusive=inclusive), path)

    def to_parquet(self, path: str | Path, *, inclusive: bool = False) -> None:
        """The ledger as a Parquet file. Raises UsageError without pyarrow, or where it cannot be written."""
        from .report.files import write_atomically
        from .report.flat import ledger_parquet

        write_atomically(Path(path), ledger_parquet(self.ledger, inclusive=inclusive))

    def to_perfetto(self, path: str | Path | None = None) -> str:
        """Phases, modules and live bytes by category, for ui.perfetto.dev and chrome://tracing; also written to `path`.

        The stream has an order and no clock: one event is one microsecond, and the file says so. Raises RunStateError
        where memory was not measured, and as `to_json` does.
        """
        from .report.perfetto import perfetto_json

        return self._written(perfetto_json(self.memory), path)

    def to_html(
        self,
        path: str | Path,
        *,
        machine: Machine | None = None,
        beside: Run | None = None,
        names: tuple[str, str] = ("this run", "the run beside it"),
    ) -> None:
        """One file that opens in a browser, offline: where FLOPs, bytes and seconds go, memory over the step, theory
        against this run, the ledger, the environment.

        With `machine` (`torchtally.machine()`), also this run against its roofline. `beside` is another run, as of
        `predict`, whose memory is laid over this one's, or shown where this one has none; `names` are what the two are
        called.

        Raises RunStateError where there is nothing to show, or where `beside` is given and has no memory; UsageError
        where the file cannot be written; the old one is then untouched.
        """
        from .report.files import check_writable, write_atomically
        from .report.html.contents import run_html

        check_writable(Path(path))
        other = None if beside is None else beside.memory
        page = run_html(
            self,
            memory=self._memory,
            timing=self._timing,
            roofs=None if machine is None else (self._roof_rows(machine), machine.ceilings),
            beside=other,
            names=names,
        )
        write_atomically(Path(path), page)

    @staticmethod
    def _written(text: str, path: str | Path | None) -> str:
        from .report.files import write_atomically

        if path is not None:
            write_atomically(Path(path), text)
        return text

    def __repr__(self) -> str:
        figures = (f"{name}={self.totals[name]:,}" for name in _IN_SHORT if name in self.totals)
        return f"<torchtally run: {', '.join(figures)}>"

    def compare(self, machine: Machine | None = None) -> Comparison:
        """Closed forms against this run's counts, layer by layer. With a machine (`torchtally.machine()`), and where
        time was measured, also seconds against the least that the machine allows: see `roofline`."""
        from .compare import compare_layers
        from .seconds.compared import seconds_rows

        found = compare_layers(self.ledger, self.trace, self.layers)
        return found if machine is None else replace(found, rows=(*found.rows, *seconds_rows(self._roof_rows(machine))))

    def __str__(self) -> str:
        from .report.terminal import ledger_text

        return ledger_text(self.ledger)
