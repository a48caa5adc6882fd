"""A run in one line: what was run, on what, where."""

from __future__ import annotations

from ..records import Trace
from ..run import Run
from .units import shape_text


def setting(run: Run) -> str:
    """ResNet, training, float32 2x3x224x224, forward and backward, on cpu, torch 2.11.0"""
    trace = run.trace
    root = trace.modules[0] if trace.modules else None
    mode = ("training" if root.training else "evaluation") if root else ""
    facts = trace.environment
    where = f"on {facts.get('device_name') or facts.get('device')}, torch {facts.get('torch')}"
    said = (root.type if root else "", mode, inputs(trace), _phases(run), where)
    return ", ".join(filter(None, said))


def inputs(trace: Trace) -> str:
    """Of the model's first kind of call: float32 2x3x224x224"""
    call = next((call for call in trace.calls if call.path == "" and call.phase == "forward"), None)
    return "" if call is None else ", ".join(f"{spec.dtype} {shape_text(spec.shape)}" for spec in call.inputs)


def _phases(run: Run) -> str:
    ran = [phase for phase in ("forward", "backward", "optimizer") if f"{phase}_flops" in run.totals]
    return " and ".join(filter(None, (", ".join(ran[:-1]), ran[-1]))) if ran else ""
