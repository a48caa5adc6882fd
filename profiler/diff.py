"""Two runs side by side: which layers changed, and by how much. Pure: it needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import UsageError
from .ledger import Row
from .records import Trace
from .run import Run

Figure = int | str | tuple[int, ...] | None

QUANTITIES = ("type", "calls", "output_shape", "parameters", "activation_bytes", "saved_bytes")
"""Of a forward row, beside its FLOPs."""


class NotComparableRunsError(UsageError):
    """Two runs whose figures would differ for another reason than the model. The message names the field."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one module, its children apart. `path` is None for the totals. None is what one run does not have:
    a module that is new or gone, or what was not measured."""

    path: str | None
    quantity: str
    before: Figure
    after: Figure

    @property
    def difference(self) -> int | None:
        """Of numbers that both runs have."""
        if isinstance(self.before, int) and isinstance(self.after, int):
            return self.after - self.before
        return None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Changes layer by layer, then those of the totals. `added` and `removed` are paths of modules that one run has
    alone. `notes` says what else differs, and may explain it."""

    rows: tuple[Change, ...]
    totals: tuple[Change, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]


def difference(before: Run, after: Run) -> Difference:
    """Every figure that is not the same. Raises NotComparableRunsError for runs of another mode, device, input or set
    of phases."""
    _refuse(before, after)
    old, new = _figures(before), _figures(after)
    rows = [
        change
        for path in dict.fromkeys((*old, *new))
        for change in _changes(path, old.get(path, {}), new.get(path, {}))
    ]
    totals = tuple(_changes(None, before.totals, after.totals))
    return Difference(
        rows=(*rows, *totals),
        totals=totals,
        added=tuple(path for path in new if path not in old),
        removed=tuple(path for path in old if path not in new),
        notes=tuple(_notes(before, after)),
    )


def _changes(path: str | None, old: Mapping[str, Figure], new: Mapping[str, Figure]) -> Iterable[Change]:
    for quantity in dict.fromkeys((*old, *new)):
        change = Change(path, quantity, old.get(quantity), new.get(quantity))
        if change.before != change.after:
            yield change


def _figures(run: Run) -> dict[str, dict[str, Figure]]:
    """Module path -> quantity -> figure."""
    found: dict[str, dict[str, Figure]] = {}
    for row in run.ledger.rows:
        figures = found.setdefault(row.path, {})
        if row.phase == "forward":
            figures |= {name: getattr(row, name) for name in QUANTITIES}
        figures |= _flops(row)
    return found


def _flops(row: Row) -> dict[str, Figure]:
    figures: dict[str, Figure] = {f"{row.phase}_flops": row.flops}
    if row.unpriced:
        figures[f"{row.phase} without price"] = " ".join(row.unpriced)
    return figures


# What is comparable ---------------------------------------------------------------------------------------------------


def _refuse(before: Run, after: Run) -> None:
    for field, old, new in zip(_FIELDS, _fields(before), _fields(after), strict=True):
        if old != new:
            raise NotComparableRunsError(f"not comparable: {field} differs: {old} before, {new} after")


_FIELDS = ("mode", "device", "input", "phases")


def _fields(run: Run) -> tuple[str, ...]:
    trace = run.trace
    phases = sorted({facts.phase for facts in trace.operators})
    return _mode(trace), str(trace.environment.get("device")), _inputs(trace), ", ".join(phases) or "none"


def _mode(trace: Trace) -> str:
    return "training" if trace.modules and trace.modules[0].training else "evaluation"


def _inputs(trace: Trace) -> str:
    """Every kind of call of the model itself: how often, and with what."""
    calls = [call for call in trace.calls if call.path == "" and call.phase == "forward"]
    said = [f"{call.times} x ({', '.join(f'{s.dtype}{list(s.shape)}' for s in call.inputs)})" for call in calls]
    return ", ".join(said) or "none"


def _notes(before: Run, after: Run) -> Iterable[str]:
    old, new = before.trace, after.trace
    for name in ("torch", "device_name", "cuda", "cudnn", "cpu_capability"):
        values = old.environment.get(name), new.environment.get(name)
        if values[0] != values[1]:
            yield f"{name}: {values[0]} before, {values[1]} after"
    for when, run in (("before", before), ("after", after)):
        yield from (f"{when}: {note}" for note in run.coverage.notes)
        unpriced = [entry.operator for entry in run.coverage.unpriced]
        if unpriced:
            yield f"{when}: FLOPs are lower bounds, without {', '.join(unpriced)}"
