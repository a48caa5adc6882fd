"""Claims made by hand, for tests."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torchtally.theory.claims.records import Claim


def exact(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def claim(printed: str, **changes: Any) -> Claim:
    """A figure on line 1: by default its own value, to its last printed place."""
    settings: dict[str, Any] = {
        "id": "L001.network.forward.flops",
        "line": 1,
        "cell": None,
        "occurrence": 1,
        "section": "Somewhere",
        "layer": "",
        "phase": "forward",
        "quantity": "flops",
        "relation": "equal",
        "printed": printed,
        "unit": "FLOPs",
    }
    if "value" not in changes:
        settings["value"] = exact(printed)
    if "precision" not in changes:
        settings["precision"] = Fraction(1, 10 ** len(printed.partition(".")[2]))
    return Claim(**(settings | changes))
