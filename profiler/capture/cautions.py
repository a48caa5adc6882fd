"""Kinds of model that cannot be observed as they are: what is done about it, and what the run then says."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

_COMPILED = "compiled modules were run without compilation, and are counted as their eager twins"
_SCRIPTED = (
    "{paths}: ScriptModules do not say which of their inner modules runs; all their work stands at the outermost"
)
_FLAT = (
    "{paths}: FullyShardedDataParallel: parameters and their gradients are of this process's shard, gradients of "
    "original parameters are not seen, and saved_bytes has the gathered parameters; FLOPs are of this process"
)
_GATHERED = (
    "{paths}: fully_shard: parameters are of all processes together, their gradients are not seen, and saved_bytes may "
    "have the gathered parameters; FLOPs are of this process"
)
_WHOLE = (
    "{paths}: parameters are DTensors: what works on DTensors is counted whole, as if one process did it, "
    "and what works on a process's part as that part"
)

_FAKE_LSTM = (
    "{paths}: an LSTM on fake tensors: the workspace that the CPU's kernel keeps for backward has no size there, and "
    "saved_bytes leaves it out"
)

_TRANSFORMED = (
    "{paths}: called inside a torch.func transform: under vmap, shapes and bytes are of one sample, and FLOPs of all"
)


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
    gathered = [path for path, module in modules.items() if _is_a(module, "FSDPModule")]
    flat = [path for path, module in modules.items() if _is_a(module, "FullyShardedDataParallel")]
    whole = [path for path, module in modules.items() if _has_dtensors(module) and not _inside(path, gathered)]
    fake = [path for path, module in modules.items() if isinstance(module, nn.LSTM) and _keeps_a_workspace(module)]
    for text, paths in ((_FLAT, flat), (_GATHERED, gathered), (_WHOLE, whole), (_FAKE_LSTM, fake)):
        if paths:
            found.append(text.format(paths=_some(_outermost(paths))))
    return tuple(found)


def in_transforms(paths: Iterable[str]) -> str:
    """What to know of modules that were called inside torch.func.vmap, grad and the like."""
    return _TRANSFORMED.format(paths=_some(_outermost(paths)))


def _is_compiled(module: nn.Module) -> bool:
    return type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None


def _is_a(module: nn.Module, kind: str) -> bool:
    """By name: torch.distributed is imported only by who uses it."""
    return any(base.__name__ == kind and base.__module__.startswith("torch.") for base in type(module).__mro__)


def _has_dtensors(module: nn.Module) -> bool:
    return any(type(parameter.data).__name__ == "DTensor" for parameter in module.parameters(recurse=False))


def _keeps_a_workspace(module: nn.Module) -> bool:
    """Whether its kernel would keep one, were its parameters not fake: meta tensors run other operators."""
    found = list(module.parameters())
    on_cpu = any(isinstance(parameter, FakeTensor) and parameter.device.type == "cpu" for parameter in found)
    return on_cpu and any(parameter.requires_grad for parameter in found) and torch.is_grad_enabled()


def _inside(path: str, outer: Iterable[str]) -> bool:
    """Whether it is one of these, or in one of them."""
    return any(not each or path == each or path.startswith(each + ".") for each in outer)


def _outermost(paths: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for path in paths:
        if not _inside(path, kept):
            kept.append(path)
    return kept


def _some(paths: list[str]) -> str:
    named = [path or "(model)" for path in paths[:3]]
    return ", ".join(named) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
