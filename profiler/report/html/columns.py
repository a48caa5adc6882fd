"""Columns of a table as the page reads them: exact, and each word once.

A column is `{"name", "label", "kind", "cells"}`. `kind` says how the page writes its cells: "integer", "bytes",
"flops", "number", "share", "seconds"; "path", "shape", "words", whose cells are places in the column's `words`; "value"
for figures of mixed kinds. A cell is null where nothing is known. Integers that a browser's numbers cannot hold go as
strings of digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

from ..units import shape_text, value_text

Json = dict[str, Any]
Kind = Literal["integer", "bytes", "flops", "number", "share", "seconds", "path", "shape", "words", "value"]

MOST_EXACT = 2**53
"""Beyond it a browser's numbers leave out integers."""


def figures(name: str, values: Iterable[int | float | None], *, label: str = "", kind: Kind = "integer") -> Json:
    """A column of integers, or of floats, in one unit."""
    return {"name": name, "label": label or _spaced(name), "kind": kind, "cells": [exact(value) for value in values]}


def words(name: str, values: Iterable[str | None], *, label: str = "", kind: Kind = "words") -> Json:
    """A column of text: its different words once, and the place of each cell's."""
    cells = tuple(values)
    places = {word: place for place, word in enumerate(dict.fromkeys(word for word in cells if word is not None))}
    return {
        "name": name,
        "label": label or _spaced(name),
        "kind": kind,
        "words": list(places),
        "cells": [None if word is None else places[word] for word in cells],
    }


def shapes(name: str, values: Iterable[Sequence[int] | None], *, label: str = "") -> Json:
    """A column of shapes: 32x3x224x224."""
    return words(
        name,
        (None if value is None else shape_text(tuple(value)) for value in values),
        label=label,
        kind="shape",
    )


def values(name: str, found: Iterable[Any], *, label: str = "") -> Json:
    """A column of any witness's figures: integers and ratios as numbers, shapes and words as text."""
    return {"name": name, "label": label or _spaced(name), "kind": "value", "cells": [_value(each) for each in found]}


def exact(value: int | float | None) -> int | float | str | None:
    """A figure as JSON that a browser reads without rounding."""
    if isinstance(value, int) and abs(value) > MOST_EXACT:
        return str(value)
    return value


def table(columns: Iterable[Mapping[str, Any]]) -> Json:
    """Columns of one length."""
    found = [dict(column) for column in columns]
    return {"columns": found, "length": len(found[0]["cells"]) if found else 0}


def _value(value: Any) -> int | float | str | None:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, Fraction):
        return _value(value.numerator) if value.denominator == 1 else float(value)
    if isinstance(value, int):
        return value if abs(value) <= MOST_EXACT else value_text(value)
    if isinstance(value, tuple):
        return shape_text(value)
    return value if value is None or isinstance(value, float) else str(value)


def _spaced(name: str) -> str:
    return name.replace("_", " ")
