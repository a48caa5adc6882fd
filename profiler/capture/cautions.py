"""Kinds of model that cannot be observed as they are: what is done about it, and what the run then says."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

import torch
from torch import nn

_COMPILED = "compiled modules were run without compilation, and are counted as their eager twins"
_SCRIPTED = (
    "{paths}: ScriptModules do not say which of their inner modules runs; all their work stands at the outermost"
)
_SHARDED = "{paths}: parameters are DTensors; shapes and FLOPs are of the whole tensors, communication is not counted"


def run_eagerly(exits: ExitStack) -> None:
    """Have compiled code run as eager code for the block: fused kernels hide the operators inside them.

    Where nothing has been compiled yet, torch falls back to eager by itself while a dispatch mode is active.
    """
    if "torch._dynamo" in sys.modules:
        exits.enter_context(torch.compiler.set_stance("force_eager"))


def cautions(modules: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """What a reader of the run should know of these modules."""
    found = []
    if any(_is_compiled(module) for module in modules.values()):
        found.append(_COMPILED)
    scripted = [path for path, module in modules.items() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        found.append(_SCRIPTED.format(paths=_some(_outermost(scripted))))
    sharded = [path for path, module in modules.items() if _has_dtensors(module)]
    if sharded:
        found.append(_SHARDED.format(paths=_some(sharded)))
    return tuple(found)


def _is_compiled(module: nn.Module) -> bool:
    return type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None


def _has_dtensors(module: nn.Module) -> bool:
    return any(type(parameter.data).__name__ == "DTensor" for parameter in module.parameters(recurse=False))


def _outermost(paths: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for path in paths:
        if not any(not outer or path.startswith(outer + ".") for outer in kept):
            kept.append(path)
    return kept


def _some(paths: list[str]) -> str:
    named = [path or "(model)" for path in paths[:3]]
    return ", ".join(named) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
