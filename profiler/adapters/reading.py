"""What the tables of kinds are written in: ways to read a module's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor, nn

from ...theory.layer import Layer

Read: TypeAlias = Callable[[Any], Layer | None]
"""A module -> its closed form, or None where theory does not cover its settings."""


def dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def dtype(module: nn.Module) -> str:
    """Of the module's first own parameter or floating buffer; float32 where it has none."""
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if tensor.is_floating_point() or tensor.is_complex():
            return dtype_name(tensor)
    return "float32"


def without_settings(form: Callable[[], Layer]) -> Read:
    """A kind whose settings change no cost."""
    return lambda module: form()


def named(form: Callable[..., Layer], *names: str, **fixed: Any) -> Read:
    """Settings that module and closed form call by the same name, and some of the kind itself."""
    return lambda module: form(**{name: getattr(module, name) for name in names}, **fixed)


def typed(form: Callable[..., Layer], *names: str, bias: bool = True, **fixed: Any) -> Read:
    """The same of a kind with parameters: their dtype and, with `bias`, whether there is one."""

    def read(module: Any) -> Layer:
        settings = {name: getattr(module, name) for name in names}
        if bias:
            settings["bias"] = module.bias is not None
        return form(**settings, **fixed, dtype=dtype(module))

    return read


def unless(read: Read, **settings: Any) -> Read:
    """None where the module has another than this value in a setting."""

    def only(module: Any) -> Layer | None:
        same = all(_equal(getattr(module, name), value) for name, value in settings.items())
        return read(module) if same else None

    return only


def _equal(found: Any, expected: Any) -> bool:
    return found is expected if expected is None or isinstance(expected, bool) else bool(found == expected)
