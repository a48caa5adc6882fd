"""Blocks that are followed through their storages: a storage that dies gives its block back.

A block stands for one request of a real step. Several storages may stand for one block, where the replayed step makes a
new one and the real step would go on with the old.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from .forms import Form, Layout
from .whose import Work


@dataclass(slots=True, eq=False)
class Followed:
    """A block that is being followed: its bytes, who asked for it, in which operator, and what is known of its use."""

    bytes: int
    work: Work
    operator: str = ""
    made_by: Call | None = None
    holders: int = 0  # live storages that stand for it
    gradient_of: int | None = None  # identity of the parameter whose gradient it ends as, or is added to
    saved: bool = False  # autograd was seen to keep it
    given: bool = False  # the model was given it
    sums: list[Followed] = field(default_factory=list)  # blocks that were added into this one where gradients meet


@dataclass(slots=True, eq=False)
class Call:
    """One call of an operator, inside autograd's `node` of that number, if any; without a form, of something that the
    dispatcher does not see.

    `has_inside`: it does work, which may ask for memory. `results` has a block per tensor it returned, None where that
    was there before, and `layouts` what those tensors look like. `kept_numbers` are Python numbers among its arguments
    that autograd kept, as tensors; `makes_numbers` says that such numbers are made into tensors for this call.
    """

    form: Form
    work: Work
    node: int | None = None
    has_inside: bool = False
    results: tuple[Followed | None, ...] = ()
    layouts: tuple[Layout, ...] = ()
    kept_numbers: list[Followed] = field(default_factory=list)
    makes_numbers: bool = True

    @property
    def operator(self) -> str:
        """Its name without the overload."""
        return without_overload(self.form[1]) if self.form else ""


@dataclass(frozen=True, slots=True, eq=False)
class Closed:
    """A block was given back; inside autograd's `node` of that number, if any."""

    block: Followed
    work: Work
    node: int | None = None


Entry: TypeAlias = Call | Closed


def without_overload(name: str) -> str:
    """ "aten.convolution.default" -> "aten.convolution" """
    return name.rpartition(".")[0]


class _Watch(weakref.ref[torch.UntypedStorage]):
    """A weak reference to a storage that knows its block."""

    __slots__ = ("block", "identity")
    block: Followed
    identity: int


class Storages:
    """The storages that are alive, by identity. `closed` is told of every block that nobody holds any more."""

    def __init__(self, closed: Callable[[Followed], None]) -> None:
        self._watches: dict[int, _Watch] = {}
        self._closed = closed

    def block_of(self, tensor: Tensor) -> Followed | None:
        """The block of a tensor's storage; None where it is not followed, or there is none."""
        if tensor.layout is not torch.strided:
            return None
        watch = self._watches.get(tensor.untyped_storage()._cdata)
        return None if watch is None else watch.block

    def follow(self, tensor: Tensor, block: Followed) -> None:
        """From now on the tensor's storage stands for `block`."""
        storage: torch.UntypedStorage = tensor.untyped_storage()
        watch = _Watch(storage, self._died)
        watch.block, watch.identity = block, storage._cdata
        block.holders += 1
        self._watches[watch.identity] = watch

    def replace(self, tensor: Tensor, block: Followed) -> None:
        """The tensor's storage was given other memory."""
        old = self._watches.pop(tensor.untyped_storage()._cdata)
        self._release(old.block)
        self.follow(tensor, block)

    def alive(self) -> list[Followed]:
        """The blocks that are held, in the order they were opened."""
        return list(dict.fromkeys(watch.block for watch in self._watches.values()))

    def _died(self, watch: weakref.ref[torch.UntypedStorage]) -> None:
        assert isinstance(watch, _Watch)
        if self._watches.get(watch.identity) is watch:
            del self._watches[watch.identity]
            self._release(watch.block)

    def _release(self, block: Followed) -> None:
        block.holders -= 1
        if not block.holders:
            self._closed(block)
