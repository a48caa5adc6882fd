"""A workload's steps on fake tensors: built, run once to come into its stride, then replayed and counted."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import optimizer
from torch.utils import _foreach_utils

from ..capture.followed import Entry, Followed
from ..capture.forms import Form, Layout
from ..capture.garbage import no_garbage_collection
from ..capture.holding import Held, held_by_name
from ..capture.replay import Replay
from ..capture.whose import Whose, Work
from ..errors import UsageError
from ..pricing import Prices
from ..profile import Profile, profile
from ..workload import Build, Workload


class ReplayedStep:
    """The second step: its counted `run`, the blocks there were `before`, its `log`, and who `held` what."""

    run: Profile
    before: list[Followed]
    held: Held

    def __init__(
        self,
        build: Build,
        batch_size: int | None,
        prices: Prices,
        layouts: Mapping[Form, tuple[Layout, ...]] | None = None,
    ) -> None:
        self._replay = Replay(layouts or {})
        with ExitStack() as exits:
            exits.enter_context(torch.random.fork_rng(devices=[]))
            exits.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            exits.enter_context(_fit_for_fakes(self._replay))
            with self._replay:
                self._replay.in_place.count_references()
                workload = _built(build, batch_size)
                self._replay.built = True
                self._paths = tuple(path for path, _ in workload.model.named_modules())
                whose = self._replay.whose = Whose(workload.model, self._replay.mark_given)
                with ExitStack() as inner:
                    whose.install(inner)
                    workload.step()
            self._record(workload, whose, prices, exits)

    @property
    def log(self) -> list[Entry]:
        """Calls and closed blocks, in order."""
        return self._replay.log

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the model's modules, by their places."""
        return self._paths

    @property
    def assumed(self) -> dict[tuple[Work | None, str], int]:
        """Values that the step read from tensors, where and how often, None for where it was built: nobody computed
        them."""
        return self._replay.values.assumed

    def _record(self, workload: Workload, whose: Whose, prices: Prices, exits: ExitStack) -> None:
        replay, storages = self._replay, self._replay.storages
        gc.collect()  # what garbage still holds would be given back at some moment or other
        exits.enter_context(no_garbage_collection())
        self.before = storages.alive()
        optimizers = [] if workload.optimizer is None else [workload.optimizer]
        held = held_by_name(storages, workload.model, optimizers, workload.step)
        with profile(workload.model, prices=prices) as self.run, ExitStack() as inner:
            whose.install(inner)
            inner.enter_context(replay)
            inner.enter_context(replay.recording())
            workload.step()
        optimizers = list({id(each): each for each in (*optimizers, *whose.optimizers.values())}.values())
        self.held = {**held_by_name(storages, workload.model, optimizers, workload.step), **held}
        self.before = [*self.before, *replay.given]
        self._name_gradients(workload)

    def _name_gradients(self, workload: Workload) -> None:
        """Blocks that were seen to be gradients of parameters, or added into them, and what the model was given."""
        paths: dict[int, str] = {}
        for path, module in workload.model.named_modules():
            for parameter in module.parameters(recurse=False):
                paths.setdefault(id(parameter), path)
        blocks = dict.fromkeys((*self.before, *self._replay.opened()))
        for block in reversed(list(blocks)):  # a sum before what was added into it
            if block.gradient_of is not None:
                self.held.setdefault(block, ("parameter gradients", paths.get(block.gradient_of, "")))
                for part in block.sums:
                    part.gradient_of = block.gradient_of
                    self.held.setdefault(part, ("parameter gradients", paths.get(block.gradient_of, "")))
            elif block.given:
                self.held.setdefault(block, ("input", ""))


def _built(build: Build, batch_size: int | None) -> Workload:
    if not callable(build) or isinstance(build, nn.Module):
        raise UsageError(
            f"predict() needs a factory that makes a torchtally.Workload, got {type(build).__name__}: the model must "
            "be made on fake tensors too, so give the function that makes it"
        )
    if batch_size is None:
        made: Any = build()
    elif _takes_batch_size(build):
        made = build(batch_size=batch_size)
    else:
        raise UsageError("batch_size was given, but the factory takes none: write it as `def build(batch_size=32)`")
    if not isinstance(made, Workload):
        raise UsageError(f"the factory must return a torchtally.Workload, it returned {type(made).__name__}")
    return made


def _takes_batch_size(build: Callable[..., Any]) -> bool:
    parameters = inspect.signature(build).parameters
    return "batch_size" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


@contextmanager
def _fit_for_fakes(replay: Replay) -> Iterator[None]:
    """Four places of PyTorch that do not reckon with fake tensors: the state of the random numbers is a real tensor;
    parameters that change dtype or layout cannot be swapped; a deep copy copies the mode too; and operators on whole
    lists of tensors are chosen for real ones alone."""
    swap: Callable[[Tensor, Tensor], None] = torch.utils.swap_tensors
    state = torch.get_rng_state

    def swapped(old: Tensor, new: Tensor) -> None:
        if isinstance(old, FakeTensor):
            old.data = new
        else:
            swap(old, new)

    def noted_state() -> Tensor:
        kept = state()
        replay.note(kept)
        return kept

    with (
        mock.patch.object(torch.utils, "swap_tensors", swapped),
        mock.patch.object(torch, "get_rng_state", noted_state),
        mock.patch.object(FakeTensor, "__deepcopy__", _copied, create=True),
        _supported(_foreach_utils._foreach_supported_types),
        _supported(optimizer._foreach_supported_types),
    ):
        yield


@contextmanager
def _supported(types: list[Any]) -> Iterator[None]:
    types.append(FakeTensor)
    try:
        yield
    finally:
        types.remove(FakeTensor)


def _copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    if id(tensor) not in memo:
        new: Tensor = tensor.detach().clone()
        if isinstance(tensor, nn.Parameter):
            new = nn.Parameter(new, tensor.requires_grad)
        else:
            new.requires_grad_(tensor.requires_grad)
        if tensor.grad is not None:
            new.grad = _copied(tensor.grad, memo)
        memo[id(tensor)] = new
    copied: Tensor = memo[id(tensor)]
    return copied
