"""Whether a module does its base's work: a subclass may have another forward, or other methods that forward calls."""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

from torch import nn


def keeps_work_of(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of `module`, an instance of `kind`, runs the methods of `kind` and no others in their place."""
    base: Any = kind
    names = _methods_of_forward(base)
    own = vars(module).keys() & names  # set on the instance
    return not own and all(getattr(type(module), name) is getattr(kind, name) for name in names)


@cache
def _methods_of_forward(kind: Any) -> frozenset[str]:
    """`forward`, and the methods that it names, and that those name."""
    found: set[str] = set()
    waiting = ["__call__", "_call_impl", "forward"]
    while waiting:
        name = waiting.pop()
        method = getattr(kind, name, None)
        if name in found or not isinstance(method, FunctionType):
            continue
        found.add(name)
        if name not in ("__call__", "_call_impl"):
            waiting += method.__code__.co_names
    return frozenset(found)
