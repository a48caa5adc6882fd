"""The real runs that the audit looks at: the walkthrough's CNN, its variants, and the few layers it speaks of in
passing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...models.cnn import CNN, CNNConfig, example
from ..capture.dispatcher import dispatcher_flops
from ..capture.storage import Storages, held_storages
from ..ledger import Ledger
from ..profile import profile
from ..records import Trace
from .steps import RealSteps
from .variants import deepened, enlarged, separable, widened


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One configuration, run: our count, the dispatcher's, and what the allocator holds; each from a step of its own.

    `steps` runs variants of it, where a claim is of their memory. `leaves` are the paths of the model's modules that
    have no children, as the model has them.
    """

    config: CNNConfig
    batch_size: int
    leaves: tuple[str, ...]
    ledger: Ledger
    trace: Trace
    storages: Storages
    dispatcher: Mapping[tuple[str, str], int]
    steps: RealSteps


def observe(config: CNNConfig, batch_size: int, device: str = "cpu") -> Observed:
    """Run the CNN of that configuration forward and backward, three times: counted, plain, and under FlopCounterMode.

    The images need no gradient, as in any real training step. Weights are random, from a fixed seed that is kept apart
    from the process's own random state.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CNN(config).to(device)
    images, labels = example(config, batch_size, device=device)
    run = _count(model, images, labels)
    plain = copy.deepcopy(model)
    plain.zero_grad()
    storages = held_storages(plain, lambda: _loss(plain, images, labels).backward())
    other = copy.deepcopy(model)
    dispatcher = dispatcher_flops(other, lambda: _loss(other, images, labels))
    return Observed(
        config=config,
        batch_size=batch_size,
        leaves=tuple(path for path, module in model.named_modules() if not any(True for _ in module.children())),
        ledger=run.ledger,
        trace=run.trace,
        storages=storages,
        dispatcher=dispatcher,
        steps=RealSteps(device),
    )


def _loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(images), labels)


def _count(model: nn.Module, images: Tensor, labels: Tensor) -> Observation:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with profile(model) as run:
        _loss(model, images, labels).backward()
        optimizer.step()
    return Observation(run.ledger, run.trace)


@dataclass(frozen=True, slots=True)
class Observation:
    """A counted step."""

    ledger: Ledger
    trace: Trace


def counted(config: CNNConfig, batch_size: int, device: str) -> Ledger:
    """The ledger of a variant's forward pass and backward pass."""
    model = CNN(config).to(device)
    return _count(model, *example(config, batch_size, device=device)).ledger


VARIANTS: Mapping[str, Callable[[CNNConfig], CNNConfig]] = {
    "depthwise-separable": separable,
    "resolution doubled": enlarged,
    "channels doubled": widened,
    "one more block": deepened,
}


def count_variants(config: CNNConfig, batch_size: int, device: str) -> dict[str, Ledger]:
    """Each variant that the walkthrough's analysis speaks of, really run."""
    with torch.random.fork_rng(devices=[]):
        return {name: counted(change(config), batch_size, device) for name, change in VARIANTS.items()}


def adam_state_bytes(config: CNNConfig, device: str) -> int:
    """Bytes that Adam really keeps for this CNN after a step: both moments, and each parameter's step count."""
    with torch.random.fork_rng(devices=[]):
        model = CNN(config).to(device)
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return sum(
        value.untyped_storage().nbytes()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )


def parameters_of(layer: nn.Module) -> int:
    """Elements of a real layer's parameters."""
    return sum(parameter.numel() for parameter in layer.parameters())
