"""Count what a PyTorch model costs, layer by layer, and check that theory and a real run tally.

    with torchtally.profile(model) as run:
        loss = criterion(model(x), y)
        loss.backward()

    print(run)            # the ledger
    run.compare()         # closed forms against this run

Names are loaded when they are first used, so that importing the package, or `torchtally.theory`, does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .profiler.audit import Audit, audit
    from .profiler.compare import Comparison
    from .profiler.count import count
    from .profiler.errors import TallyError
    from .profiler.prediction.fit import fits, largest_batch
    from .profiler.formulas import Price
    from .profiler.machine import Machine, calibrate, machine
    from .profiler.measure import measure
    from .profiler.prediction.predict import predict
    from .profiler.pricing import PRICES
    from .profiler.profile import Profile, profile
    from .profiler.records import Signature
    from .profiler.report.run_reader import from_json
    from .profiler.run import Run
    from .profiler.workload import Workload
    from .profiler.prediction.workspaces import Learner

_HOMES = {
    "Audit": ".profiler.audit",
    "Comparison": ".profiler.compare",
    "Learner": ".profiler.prediction.workspaces",
    "Machine": ".profiler.machine",
    "PRICES": ".profiler.pricing",
    "Price": ".profiler.formulas",
    "Run": ".profiler.run",
    "Signature": ".profiler.records",
    "Workload": ".profiler.workload",
    "calibrate": ".profiler.machine",
    "count": ".profiler.count",
    "fits": ".profiler.prediction.fit",
    "from_json": ".profiler.report.run_reader",
    "largest_batch": ".profiler.prediction.fit",
    "machine": ".profiler.machine",
    "measure": ".profiler.measure",
    "predict": ".profiler.prediction.predict",
    "Profile": ".profiler.profile",
    "TallyError": ".profiler.errors",
    "audit": ".profiler.audit",
    "profile": ".profiler.profile",
}

__all__ = [
    "PRICES",
    "Audit",
    "Comparison",
    "Learner",
    "Machine",
    "Price",
    "Profile",
    "Run",
    "Signature",
    "TallyError",
    "Workload",
    "audit",
    "calibrate",
    "count",
    "fits",
    "from_json",
    "largest_batch",
    "machine",
    "measure",
    "predict",
    "profile",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
