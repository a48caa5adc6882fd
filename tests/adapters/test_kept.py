"""Every closed form that a module can have comes back from a file."""

from __future__ import annotations

import torchtally
from torchtally.profiler.adapters import adapt
from torchtally.profiler.records import ModuleFacts, Trace
from torchtally.profiler.run import Run

from .kinds import cases


def test_closed_forms_come_back() -> None:
    found = {each.name: adapt(each.module) for each in cases()}
    layers = {name: layer for name, layer in found.items() if layer is not None}
    assert len({type(layer) for layer in layers.values()}) > 50
    trace = Trace(environment={}, modules=tuple(ModuleFacts(name, "Any") for name in layers))
    assert dict(torchtally.from_json(Run(trace, layers=layers).to_json()).layers) == layers
