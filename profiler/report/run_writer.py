"""A run as JSON text: the facts, each distinct tensor, place and signature once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from importlib.metadata import version
from operator import index
from typing import Any, Generic, TypeVar

from ...theory.layer import Layer
from ...theory.tensor import TensorSpec
from ..errors import UsageError
from ..memory import Memory
from ..pricing import PRICES, Prices
from ..records import Argument, ParameterFacts, Phase, Signature, Trace
from ..seconds.timing import Timing
from .run_schema import COLUMNS, KIND, SCHEMA

Key = TypeVar("Key", bound=Hashable)
Row = list[Any]


def run_json(
    trace: Trace, layers: Mapping[str, Layer], prices: Prices, memory: Memory | None, timing: Timing | None
) -> str:
    """A run's parts, as `from_json` reads them. Raises UsageError for settings of a layer that are no plain values."""
    parts = {"timing": None if timing is None else _timing(timing)}
    return "".join(_lines({**_content(trace, layers, prices, memory), **parts}))


class _Positions(Generic[Key]):
    """Distinct values in order of appearance, and where each stands."""

    def __init__(self) -> None:
        self.found: dict[Key, int] = {}

    def of(self, value: Key) -> int:
        return self.found.setdefault(value, len(self.found))


@dataclasses.dataclass
class _Shared:
    """What rows refer to."""

    tensors: _Positions[TensorSpec] = dataclasses.field(default_factory=_Positions)
    places: _Positions[tuple[str, Phase]] = dataclasses.field(default_factory=_Positions)
    signatures: _Positions[Any] = dataclasses.field(default_factory=_Positions)
    rows: list[Row] = dataclasses.field(default_factory=list)
    priced: list[Signature] = dataclasses.field(default_factory=list)

    def specs(self, found: Iterable[TensorSpec]) -> list[int]:
        return [self.tensors.of(spec) for spec in found]

    def argument(self, value: Argument) -> Any:
        if isinstance(value, TensorSpec):
            return {"tensor": self.tensors.of(value)}
        return [self.argument(item) for item in value] if isinstance(value, tuple) else value

    def signature(self, signature: Signature) -> int:
        row = [
            signature.operator,
            [self.argument(value) for value in signature.arguments],
            {name: self.argument(value) for name, value in signature.keywords.items()},
            self.specs(signature.outputs),
        ]
        position = self.signatures.of(json.dumps(row))
        if position == len(self.rows):
            self.rows.append(row)
            self.priced.append(signature)
        return position

    def parameters(self, held: Iterable[ParameterFacts]) -> list[Row]:
        return [[p.name, self.tensors.of(p.tensor), p.identity, p.trainable] for p in held]


def _content(trace: Trace, layers: Mapping[str, Layer], prices: Prices, memory: Memory | None) -> dict[str, Any]:
    shared = _Shared()
    facts, kept = _facts(trace, shared), None if memory is None else _memory(memory, shared)
    return {
        "torchtally": KIND,
        "schema": SCHEMA,
        "version": version("torchtally"),
        "environment": dict(trace.environment),
        "second_order": trace.second_order,
        "notes": list(trace.notes),
        "tensors": [[spec.dtype, *spec.shape] for spec in shared.tensors.found],
        "places": [list(place) for place in shared.places.found],
        "modules": facts.pop("modules"),
        "calls": facts.pop("calls"),
        "signatures": shared.rows,
        **facts,
        "prices": _own_prices(shared.priced, prices),
        "layers": [_layer(path, layer) for path, layer in layers.items()],
        "memory": kept,
    }


def _facts(trace: Trace, shared: _Shared) -> dict[str, Any]:
    specs, tensor, place = shared.specs, shared.tensors.of, shared.places.of
    return {
        "modules": [
            [m.path, m.type, m.training, shared.parameters(m.parameters), shared.parameters(m.buffers)]
            for m in trace.modules
        ],
        "calls": [
            [
                place((c.path, c.phase)),
                specs(c.inputs),
                list(c.inputs_need_grad),
                specs(c.outputs),
                specs(c.own_outputs),
                c.times,
            ]
            for c in trace.calls
        ],
        "operators": [[place((o.path, o.phase)), shared.signature(o.signature), o.times] for o in trace.operators],
        "gradients": [[g.path, g.of, g.name, tensor(g.tensor), g.times] for g in trace.gradients],
        "saved": [[place((s.path, s.phase)), s.role, tensor(s.tensor), s.bytes, s.times] for s in trace.saved],
        "saved_unknown": [place(found) for found in trace.saved_unknown],
    }


def _own_prices(signatures: Sequence[Signature], prices: Prices) -> list[Row]:
    """The figures of formulas that are in no installation: null where this run had no price, and the table has."""
    if prices is PRICES:
        return []
    found = ((number, prices.price(signature), PRICES.price(signature)) for number, signature in enumerate(signatures))
    return [[number, *(own or (None, None, None))] for number, own, usual in found if own != usual]


def _memory(memory: Memory, shared: _Shared) -> dict[str, Any]:
    stream, place = memory.stream, shared.places.of
    return {
        "device": memory.device,
        "reserved": [list(held) for held in memory.reserved],
        "notes": list(memory.notes),
        "blocks": [[b.bytes, b.category, place((b.path, b.phase)), b.operator] for b in stream.blocks],
        "before": list(stream.before),
        "events": [[e.block, int(e.opens), place((e.path, e.phase))] for e in stream.events],
    }


def _timing(timing: Timing) -> dict[str, Any]:
    places = dict.fromkeys(place for step in timing.observed for place in step)
    return {
        "device": timing.device,
        "predicted": timing.predicted,
        "notes": list(timing.notes),
        "steps": len(timing.observed),
        "bare": list(timing.bare),
        "observed": [[*place, [step.get(place) for step in timing.observed]] for place in places],
    }


def _layer(path: str, layer: Layer) -> Row:
    settings = {entry.name: getattr(layer, entry.name) for entry in dataclasses.fields(layer)}  # type: ignore[arg-type]
    try:
        return [path, type(layer).__name__, {name: _plain(value) for name, value in settings.items()}]
    except TypeError as error:
        raise UsageError(f"the closed form of {path or '(model)'} cannot be written as JSON: {error}") from error


def _plain(value: Any) -> Any:
    """Settings as a module has them, which may be another library's numbers."""
    if value is None or isinstance(value, (bool, str, float)):
        return value
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else index(value)


# One row a line: a file that can be read, searched and compared by eye ----------------------------------------------

_compact: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _lines(content: dict[str, Any], indent: str = "") -> Iterable[str]:
    yield "{"
    for number, (name, value) in enumerate(content.items()):
        yield f"{',' if number else ''}\n{indent}{_compact(name)}: "
        if name in ("memory", "timing") and value is not None:
            yield from _lines(value, indent + " ")
        elif name in COLUMNS:
            yield from _table(name, value, indent)
        elif name in ("tensors", "places"):
            yield from _rows(value, indent)
        else:
            yield _compact(value)
    yield f"\n{indent}}}" + ("" if indent else "\n")


def _table(name: str, rows: Sequence[Row], indent: str) -> Iterable[str]:
    yield f'{{"columns": {_compact(COLUMNS[name])},\n{indent} "rows": '
    yield from _rows(rows, indent)
    yield "}"


def _rows(rows: Sequence[Row], indent: str) -> Iterable[str]:
    yield "["
    for number, row in enumerate(rows):
        yield f"{',' if number else ''}\n{indent}  {_compact(row)}"
    yield "]"
