"""How much of a run closed forms cover: the shares of its FLOPs whose rows were compared and agree."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Protocol

from .ledger import Ledger
from .verdict import Verdict

_PHASES = ("forward", "backward")
_QUANTITIES = ("matmul_flops", "flops")


class Compared(Protocol):
    """What is needed of a row of a comparison."""

    @property
    def path(self) -> str: ...
    @property
    def phase(self) -> str: ...
    @property
    def quantity(self) -> str: ...
    @property
    def verdict(self) -> Verdict: ...


def covered(rows: Iterable[Compared], ledger: Ledger) -> dict[str, Fraction]:
    """ "forward_matmul_flops", "backward_matmul_flops", "forward_flops", "backward_flops" -> the share, 0 to 1.

    A module counts with what was counted of it, if its closed form says the same. What has no price is in no share. A
    figure of which the run has none is absent.
    """
    agreed = {(row.path, row.phase, row.quantity) for row in rows if row.verdict == "agrees"}
    found = {}
    for quantity in _QUANTITIES:
        for phase in _PHASES:
            counted = {row.path: getattr(row, quantity) or 0 for row in ledger.rows if row.phase == phase}
            whole = sum(counted.values())
            if whole:
                part = sum(figure for path, figure in counted.items() if (path, phase, quantity) in agreed)
                found[f"{phase}_{quantity}"] = Fraction(part, whole)
    return found
