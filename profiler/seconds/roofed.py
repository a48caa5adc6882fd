"""A run against its machine's roofline: what each module's phase could have taken at least, and what it took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...theory.roofline import Bound, Ceilings, Roof, Work, roof
from ..ledger import Ledger
from ..pricing import PRICES, Prices
from ..records import OperatorFacts, Phase, Trace
from .traffic import moved

ALLOWED = 1.0  # of the roof: what is above is a failure of theory or calibration

# Products of float32 that CUDA's switch for `matmul` rules; convolutions and cuDNN's others have the other one.
_MATMUL = frozenset("aten.mm aten.addmm aten.bmm aten.baddbmm aten.addbmm aten.mv aten.addmv aten.dot".split())


@dataclass(frozen=True, kw_only=True, slots=True)
class RoofRow:
    """A module in a phase. `flops` are of products; `intensity` is FLOPs per byte; `least_seconds` is the lower bound.

    `seconds` and `share` (of the bound in them) are missing where no time was measured. `failure` says so where the
    bound was beaten, `note` what the bound leaves out.
    """

    path: str
    type: str
    phase: Phase
    flops: int
    bytes: int
    intensity: float | None
    bound: Bound
    least_seconds: float
    seconds: float | None
    share: float | None
    failure: str
    note: str


ROOF_COLUMNS = tuple(entry.name for entry in fields(RoofRow))


def roof_rows(trace: Trace, ledger: Ledger, ceilings: Ceilings, prices: Prices = PRICES) -> tuple[RoofRow, ...]:
    """A row for each module and phase that had work to do. Where the run let CUDA round float32 to TF32, its products
    are held against the ceiling for that."""
    work: dict[tuple[str, Phase], list[Work]] = defaultdict(list)
    for facts in trace.operators:
        if not prices.is_free(facts.signature.operator):
            work[facts.path, facts.phase].append(_work(facts, prices, trace.environment))
    types = {facts.path: facts.type for facts in trace.modules}
    seconds = {(row.path, row.phase): row.seconds for row in ledger.rows}
    return tuple(
        _row(path, types.get(path, ""), phase, roof(found, ceilings), seconds.get((path, phase)))
        for (path, phase), found in work.items()
    )


def failures(rows: Iterable[RoofRow]) -> list[str]:
    """Every row that beat its bound, in words."""
    return [row.failure for row in rows if row.failure]


def _work(facts: OperatorFacts, prices: Prices, environment: Mapping[str, Any]) -> Work:
    price = prices.price(facts.signature)
    flops = price.matmul_flops if price else 0
    return Work(flops, moved(facts.signature), _computed_in(facts, environment), facts.times)


def _computed_in(facts: OperatorFacts, environment: Mapping[str, Any]) -> str:
    """The name of the ceiling for its products."""
    signature = facts.signature
    dtype = signature.outputs[0].dtype if signature.outputs else "float32"
    name = ".".join(signature.operator.split(".")[:2])
    allowed = environment.get("tf32_matmul" if name in _MATMUL else "tf32_convolution", False)
    return "tf32" if dtype == "float32" and allowed else dtype


def _row(path: str, type: str, phase: Phase, found: Roof, seconds: float | None) -> RoofRow:
    share = None if not seconds else found.share(seconds)
    failure = ""
    if share is not None and share > ALLOWED:
        failure = (
            f"{path or '(model)'} {phase} took {seconds:.3g} s, and the least is {found.seconds:.3g} s ({share:.0%}): "
            "either the bytes and FLOPs are not what had to be moved and computed, or calibration did not find the best"
        )
    return RoofRow(
        path=path,
        type=type,
        phase=phase,
        flops=found.flops,
        bytes=found.bytes,
        intensity=found.intensity,
        bound=found.bound,
        least_seconds=found.seconds,
        seconds=seconds,
        share=share,
        failure=failure,
        note=f"no ceiling for products in {', '.join(found.unknown)}: they are taken for free" if found.unknown else "",
    )
