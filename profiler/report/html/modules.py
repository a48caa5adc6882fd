"""The module tree with what each module costs, all inside it included: an icicle's cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...ledger import Ledger, Row
from ...rollup import including_children
from .columns import Json, Kind, exact, words

_MEASURES: tuple[tuple[str, str, Kind], ...] = (
    ("flops", "FLOPs", "flops"),
    ("activation_bytes", "Activation bytes", "bytes"),
    ("saved_bytes", "Saved bytes", "bytes"),
    ("parameter_bytes", "Parameter bytes", "bytes"),
    ("seconds", "Seconds", "seconds"),
)


def module_tree(ledger: Ledger) -> Json:
    """Modules in the model's order, each with the place of the module around it (null for the model).

    `measures` has, for each column that is known, the figures of `to_frame(inclusive=True)` by phase, with null for a
    module that has none.
    """
    rows = including_children(_with_model(ledger.rows))
    by_path: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_path.setdefault(row.path, {})[row.phase] = row
    paths = sorted(by_path, key=lambda path: path != "")  # the model first; otherwise in order
    place = {path: number for number, path in enumerate(paths)}
    return {
        "paths": paths,
        "parents": [_parent(path, place) for path in paths],
        "types": words("type", (_type(by_path[path].values()) for path in paths)),
        "outputs": words("output", (_output(by_path[path]) for path in paths)),
        "measures": [_measure(*each, [by_path[path] for path in paths]) for each in _MEASURES],
    }


def _with_model(rows: Sequence[Row]) -> Sequence[Row]:
    """With an empty row for the model where the ledger has none."""
    return rows if any(not row.path for row in rows) else (Row(path="", type="", phase="forward"), *rows)


def _around(path: str) -> Iterable[str]:
    """`a.b` -> `a`, "" """
    while path:
        path = path.rpartition(".")[0]
        yield path


def _parent(path: str, place: Mapping[str, int]) -> int | None:
    """The nearest module around it that there is."""
    return next((place[path] for path in _around(path) if path in place), None)


def _type(rows: Iterable[Row]) -> str:
    return next((row.type for row in rows if row.type), "")


def _output(rows: Mapping[str, Row]) -> str | None:
    from ..units import shape_text

    shape = rows["forward"].output_shape if "forward" in rows else None
    return None if shape is None else shape_text(shape)


def _measure(name: str, label: str, kind: Kind, modules: Sequence[Mapping[str, Row]]) -> Json:
    """One column, by phase; `phases` is empty where nothing of it is known."""
    phases = dict.fromkeys(phase for rows in modules for phase, row in rows.items() if getattr(row, name) is not None)
    found = {
        phase: [exact(getattr(rows[phase], name)) if phase in rows else None for rows in modules] for phase in phases
    }
    return {"name": name, "label": label, "kind": kind, "phases": {phase: f for phase, f in found.items() if any(f)}}
