"""Amounts as people write them: "2 GFLOP", "1 M", "64 MiB". Decimal and binary prefixes are told apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from .errors import UsageError

DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
BYTES = {
    **{f"{prefix}B": factor for prefix, factor in DECIMAL.items()},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", 1)},
}
FLOPS = {f"{prefix}FLOP{plural}": factor for prefix, factor in DECIMAL.items() for plural in ("", "s")}

_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", re.ASCII)


def amount(name: str, given: object, units: Mapping[str, int], example: str) -> Fraction:
    """A non-negative integer as it is, or text with one of `units`; `name` and `example` are for the error.

    kB, MB and GB are 1000-based, KiB, MiB and GiB 1024-based; KB is refused, for it is used for both. Raises
    UsageError.
    """
    if type(given) is int and given >= 0:
        return Fraction(given)
    match = _AMOUNT.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise UsageError(f"{name}={given!r} is no amount; give an integer, or text such as {example!r}")
    number, unit = match.groups()
    if unit == "KB":
        raise UsageError(f"{name}={given!r}: KB is 1000 bytes to some and 1024 to others; say kB or KiB")
    if unit not in units or (not unit and units is not DECIMAL):
        raise UsageError(f"{name}={given!r}: no unit {unit!r}; there are {', '.join(filter(None, units))}")
    return Fraction(number) * units[unit]


def in_bytes(limit: int | str) -> int:
    """8 GiB -> 8,589,934,592. Raises UsageError for what is no amount of memory."""
    return int(amount("limit", limit, BYTES, "8 GiB"))
