"""What a call of an operator looks like, as far as a price can depend on it: shapes, dtypes, integer settings.

A call is looked up by that; only the first of its kind is described. This runs at every operator that is counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import Parameter

from ..records import Argument, OperatorFacts, Signature
from .attribution import Slot
from .bindings import quickest
from .tensors import SpecTable, look, tensors_in

_PLAIN = frozenset({int, bool, str, type(None), torch.dtype, torch.layout, torch.memory_format, torch.device})

Key = tuple[Any, ...]
"""What a call looks like: of each tensor its shape and dtype, and the other arguments."""

Tally = list[Slot]
"""Where it was called, in order: quicker to write than a count for each place, which stands elsewhere in memory."""

LIMIT = 2**12  # of a tally; it is then summed up

# Their results' shapes and dtypes follow from those of their arguments, and are not looked at. (Not so of `add`: a
# number that was made a tensor gives way to the other's dtype, and looks like a tensor that does not.)
_DETERMINED = frozenset(
    {
        "aten.addmm.default",
        "aten.baddbmm.default",
        "aten.bmm.default",
        "aten.convolution.default",
        "aten.mm.default",
        "aten.relu.default",
        "aten.sum.dim_IntList",
        "aten.threshold_backward.default",
    }
)

_NESTED: Key = ("nested",)  # where a tensor has no shape

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


class Operator:
    """What is asked of an operator at each of its calls.

    `run` takes positional arguments alone. `free`: it is not recorded. `sums`: autograd may call it to add gradients
    that meet. `determined`: its arguments say all of what it gives.
    """

    __slots__ = ("composite", "determined", "free", "func", "name", "run", "sums", "tallies")

    def __init__(self, func: Any, name: str, *, free: bool, sums: bool) -> None:
        self.func = func
        self.name = name
        self.free = free
        self.sums = sums
        self.determined = name in _DETERMINED
        self.run = quickest(func, name)
        # Whether it is made of others. In inference mode it is not taken apart before it gets here, as it otherwise is.
        self.composite = _is_composite(func)
        self.tallies: dict[Key, Tally] = {}

    def taken_apart(self, *args: Any, **kwargs: Any) -> Any:
        """By PyTorch's own composite kernel; its decompositions in Python would do other work."""
        return self.func._op_dk(_COMPOSITE, *args, **kwargs)


class Signatures:
    """All signatures seen, each with its tally and what was summed up of it before: few long ones, which the hot path
    walks along, where a tally for each slot would be somewhere else in memory at every operator.
    """

    def __init__(self) -> None:
        self._all: list[tuple[Signature, Tally, Counter[Slot]]] = []
        self._specs = SpecTable()

    def add(self, operator: Operator, key: Key, args: Any, kwargs: dict[str, Any] | None, result: Any) -> Tally:
        """The tally of a new one, for calls of the operator that look like `key`."""
        tally: Tally = []
        operator.tallies[key] = tally
        name = f"nested tensors: {operator.name}" if key is _NESTED else operator.name
        self._all.append((self._describe(name, args, kwargs or {}, result), tally, Counter()))
        return tally

    def sum_up(self) -> None:
        """Count the places in each tally, and begin it anew."""
        for _, tally, times in self._all:
            times.update(tally)
            tally.clear()

    def facts(self, paths: tuple[str, ...]) -> tuple[OperatorFacts, ...]:
        """The operators, as records; work of no module has the path ""."""
        self.sum_up()
        return tuple(
            OperatorFacts(paths[slot.owner] if slot.owner >= 0 else "", slot.phase, signature, times)
            for signature, _, counts in self._all
            for slot, times in counts.items()
        )

    def _describe(self, name: str, args: Any, kwargs: dict[str, Any], result: Any) -> Signature:
        return Signature(
            operator=name,
            arguments=tuple(self._argument(value) for value in args),
            keywords={key: self._argument(value) for key, value in kwargs.items()},
            outputs=tuple(self._specs.of(tensor) for tensor in tensors_in(result)),
        )

    def _argument(self, value: Any) -> Argument:
        if isinstance(value, Tensor):
            return "nested tensor" if value.is_nested else self._specs.of(value)
        if isinstance(value, (list, tuple)):
            return tuple(self._argument(item) for item in value)
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return None
        return str(value)


def _is_composite(func: Any) -> bool:
    """Whether PyTorch's own kernel takes the operator apart into others. `prim` operators have no kernels."""
    if not isinstance(func, OpOverload) or not torch._C._dispatch_has_kernel(func.name()):
        return False
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE)


def looks_like(args: Any, kwargs: dict[str, Any] | None, result: Any) -> Key:
    """What a call of one operator looks like; without its result where that is None.

    Flat, which is quicker to make: an operator's schema says which of its arguments are tensors.
    """
    parts: list[Any] = []
    try:
        for value in args:
            kind = type(value)
            if kind is Tensor or kind is Parameter:
                parts.append(value.shape)
                parts.append(value.dtype)
            else:
                parts.append(value if kind in _PLAIN else _look(value))
        if type(result) is Tensor:
            parts.append(result.shape)
            parts.append(result.dtype)
        elif result is not None:
            parts.append(_look(result))
        if kwargs:
            parts.append(_look(tuple(kwargs.items())))
    except (RuntimeError, TypeError):  # a nested tensor is asked for its shape; by its layout
        return _NESTED
    return tuple(parts)


def _look(value: Any) -> Any:
    """The same of one value, hashable. Floats are left out: they change from step to step."""
    kind = type(value)
    if kind is tuple or kind is list:
        return tuple([item if type(item) in _PLAIN else _look(item) for item in value])
    if isinstance(value, Tensor):
        if value.is_nested:
            raise TypeError("a nested tensor has no shape")
        return look(value)
    return value if kind in _PLAIN else kind
