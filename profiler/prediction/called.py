"""What `count` counts, replayed: a model's call and its backward, on fake copies of the model and its inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import nn

from ..count import backward_of_sum
from ..formulas import Formula
from ..pricing import PRICES, Prices
from ..workload import Build, Workload
from .copies import fake_copies, leaves
from .replaying import ReplayedStep

_DEVICES = ("cpu", "cuda")  # for which there may be an autocast


def replayed_call(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ReplayedStep:
    """The step of `count(model, *args, **kwargs)`, under what is turned on around this call: autocast, no gradients.

    Errors of the copy, and of the model on fake tensors, pass through. Warnings were given when the step was counted.
    """
    with warnings.catch_warnings(), _Surroundings() as surroundings:
        warnings.simplefilter("ignore")
        return _replayed(surroundings, model, *args, **kwargs)


def _replayed(
    surroundings: _Surroundings,
    model: nn.Module,
    *args: Any,
    backward: bool = True,
    device: Any = None,
    prices: Prices = PRICES,
    formulas: Mapping[Any, Formula] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **named: Any,
) -> ReplayedStep:
    """What `count` does with these arguments. Its `device` does not matter: all is fake here."""

    def build() -> Workload:
        copied, given, by_name = fake_copies(model, args, {**named, **(kwargs or {})})

        def step() -> None:
            for leaf in leaves(copied, (given, by_name)):
                leaf.grad = None
            with surroundings.again():
                outputs = copied(*given, **by_name)
                if backward:
                    backward_of_sum(outputs)

        return Workload(model=copied, step=step)

    return ReplayedStep(cast(Build, build), None, prices.extend(formulas) if formulas else prices)


class _Surroundings:
    """What is turned on around the call: off, as replaying begins from PyTorch's defaults, and on `again` in a step."""

    def __init__(self) -> None:
        self._exits = ExitStack()
        self._inference, self._grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        on = [device for device in _DEVICES if torch.is_autocast_enabled(device)]
        self._autocast = {device: torch.get_autocast_dtype(device) for device in on}
        self._cached = torch.is_autocast_cache_enabled()

    def __enter__(self) -> _Surroundings:
        with ExitStack() as exits:
            exits.enter_context(torch.inference_mode(False))
            exits.enter_context(torch.enable_grad())
            for device in self._autocast:
                exits.enter_context(torch.autocast(device, enabled=False))
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._exits.close()

    @contextmanager
    def again(self) -> Iterator[None]:
        """As it was when the step was counted."""
        with ExitStack() as exits:
            if self._autocast:
                exits.callback(torch.clear_autocast_cache)  # of fake weights: an autocast further out would keep it
            exits.enter_context(torch.inference_mode(self._inference))
            exits.enter_context(torch.set_grad_enabled(self._grad))
            for device, dtype in self._autocast.items():
                exits.enter_context(torch.autocast(device, dtype, cache_enabled=self._cached))
            yield
