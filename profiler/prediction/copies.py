"""Fake copies of a model and what it is called with: as large to look at, and without a byte of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from ..capture.tensors import tensors_in

Call = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
"""A model, and the arguments it is called with, in order and by name."""


def fake_copies(model: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any]) -> Call:
    """Copies on fake tensors of the mode that is active, tied tensors tied, without gradients.

    What a model holds beside tensors is copied as `copy.deepcopy` does it; its errors pass through.
    """
    mode = next(each for each in reversed(_get_current_dispatch_mode_stack()) if isinstance(each, FakeTensorMode))
    faked = _Faked(mode)
    for tensor in (*model.parameters(), *model.buffers()):
        faked(tensor)
    with faked:
        copied: Call = copy.deepcopy((model, args, dict(named)), faked.memo)
    for tensor in faked.made:
        tensor.detach()  # an operator, by which whoever follows storages gets to know this one
    return copied


def leaves(model: nn.Module, given: Iterable[Any]) -> tuple[Tensor, ...]:
    """All that may get a gradient: parameters, and tensors given that are no results."""
    return (*model.parameters(), *(tensor for tensor in tensors_in(tuple(given)) if tensor.is_leaf))


class _Faked(TorchFunctionMode):
    """While a deep copy is made, tensors are copied as fake ones. `memo` is the copy's own."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self._mode = mode
        self.memo: dict[int, Any] = {}
        self.made: list[Tensor] = []

    def __call__(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self.memo:
            fake = self._mode.from_tensor(tensor)
            if fake.is_leaf:
                fake.grad = None  # the copy's own would be added to it
            self.memo[id(tensor)] = fake
            self.made.append(fake)
        return cast(Tensor, self.memo[id(tensor)])

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__:
            return self(args[0])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))
