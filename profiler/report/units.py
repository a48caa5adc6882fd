"""Figures in words: the only place that rounds."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")


def bytes_text(count: int | None) -> str:
    """1024-based, three or four significant digits: 4.00 MiB."""
    return "" if count is None else _scaled(count, 1024, _BINARY)


def flops_text(count: int | None) -> str:
    """1000-based: 302.0 M."""
    return "" if count is None else _scaled(count, 1000, _DECIMAL)


def count_text(count: int | None) -> str:
    """In full, with thousands separators."""
    return "" if count is None else f"{count:,}"


def seconds_text(seconds: float | None) -> str:
    """In the largest unit of which there is at least one, three significant digits: 28.3 ms."""
    if seconds is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def share_text(share: float | None) -> str:
    """28.5 %."""
    return "" if share is None else f"{share:.1%}"


def shape_text(shape: tuple[int, ...] | None) -> str:
    """32x3x32x32; "scalar" for an empty shape."""
    return "" if shape is None else "x".join(map(str, shape)) or "scalar"


def value_text(value: Any) -> str:
    """Any witness's figure: integers in full, ratios to four digits, shapes as tuples."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Fraction | float):
        return f"{float(value):.4g}"
    return str(value)


def _scaled(count: int, base: int, units: tuple[str, ...]) -> str:
    value, place = Fraction(count), 0
    while abs(value) >= base and place < len(units) - 1:
        value, place = value / base, place + 1
    if place == 0:
        return f"{count} {units[0]}".strip()
    digits = 2 if value < 10 else 1
    return f"{float(value):.{digits}f} {units[place]}"
