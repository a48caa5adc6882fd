"""nn.Module -> closed form: the only such mapping.

One literal table per family, kind by kind. A kind that is in none of them has no closed form, and neither have settings
that theory does not cover; comparisons name both. Settings are read when `adapt` is called.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from ...theory.layer import Layer
from .inheritance import keeps_work_of
from .losses import LOSSES
from .pointwise import POINTWISE
from .pretrained import PRETRAINED
from .reading import Read, dtype_name
from .sequence import SEQUENCE
from .spatial import SPATIAL
from .tables import TABLES
from .vision import VISION

__all__ = ["KINDS", "adapt"]

_READERS: dict[type[nn.Module], Read] = {**SPATIAL, **POINTWISE, **TABLES, **SEQUENCE, **LOSSES}
_BY_NAME = {**VISION, **PRETRAINED}

KINDS = frozenset(_READERS)
"""The module kinds that theory has closed forms of, for most of their settings."""


def adapt(module: nn.Module) -> Layer | None:
    """The closed form with this module's settings, or None where there is none.

    A subclass counts for its base only where it does the base's work: its `forward` and all that this calls are the
    base's, and its parameters are those that the closed form has. Nor has a module one whose hooks may work with it.
    """
    found = next(((kind, read) for kind in type(module).__mro__ if (read := _reader(kind))), None)
    if found is None or not keeps_work_of(module, found[0]) or _is_unmade(module) or _has_hooks(module):
        return None
    try:
        layer = found[1](module)
    except ValueError:  # settings that the closed form refuses, such as no features
        return None
    return layer if layer is not None and _has_parameters(module, layer) else None


def _reader(kind: Any) -> Read | None:
    return _READERS.get(kind) or _BY_NAME.get(f"{kind.__module__}.{kind.__qualname__}")


def _is_unmade(module: Any) -> bool:
    """A lazy module before its first call."""
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()  # type: ignore[misc]


def _has_hooks(module: nn.Module) -> bool:
    """Of those that run as a part of the call, or of its backward; what hooks after forward do is the caller's."""
    return bool(module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


def _has_parameters(module: nn.Module, layer: Layer) -> bool:
    """Whether they are as stated: pruned, reparametrized and replaced weights go by other names.

    Of children only those that the closed form speaks of; the others are layers of their own.
    """
    named = module.named_parameters(remove_duplicate=False)
    held = {name: (tuple(parameter.shape), dtype_name(parameter)) for name, parameter in named}
    stated = {parameter.name: (parameter.shape, parameter.dtype) for parameter in layer.parameters}
    return stated == {name: seen for name, seen in held.items() if "." not in name or name in stated}
