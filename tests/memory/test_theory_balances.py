"""Theory's stream of a step and the allocator's own account of it are the same, event by event: bytes, blocks, paths,
phases and categories. `benchmarks/balance.py` runs those combinations that take too long here.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from torchtally.models.cnn import CNNConfig
from torchtally.profiler.balance import Balance, balance
from torchtally.profiler.measure import measure_memory
from torchtally.theory.activations import LogSoftmax
from torchtally.theory.convolution import Conv2d
from torchtally.theory.dense import Linear
from torchtally.theory.liveness import CPU, Backend, OneDNN, Step, step_stream
from torchtally.theory.network import Named, Network
from torchtally.theory.normalization import BatchNorm
from torchtally.theory.optimizers import SGD, Adam, AdamW, Optimizer
from torchtally.theory.pointwise import Flatten, Identity, ReLU
from torchtally.theory.pooling import MaxPool2d
from torchtally.theory.stream import Block, Event, Stream
from torchtally.theory.tensor import TensorSpec

from .combinations import MOMENTUM, Combination, evaluation, real_step, training

BLOCKS = {"AVX512": 16, "AVX2": 8}
BLOCK = BLOCKS.get(torch.backends.cpu.get_cpu_capability())
BACKEND = OneDNN(block=BLOCK or 16)


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> Iterator[None]:
    """Every measurement collects garbage first: what the other tests left is not looked through each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def held(combination: Combination, backend: Backend) -> Balance:
    return balance(combination.theory(backend), measure_memory(combination.workload()).stream)


def check(combination: Combination) -> Balance:
    """All of it where the backend's rules are this machine's; elsewhere all but workspace, which stays in its place."""
    result = held(combination, BACKEND)
    assert result.framework_exact, result.framework_difference
    assert result.exact or not BLOCK, f"{result.difference}\n{result.table()}"
    return result


def check_labels(combination: Combination) -> None:
    """And that every event belongs where theory has it."""
    result = check(combination)
    assert result.labelled_alike, result.label_difference


SMALL = [(2, 32), (2, 64), (8, 32)]
LARGE = [(8, 64), (32, 32), (32, 64), (256, 32)]
# The first, the last but one, and one between: every setting is in one of them.
THREE = slice(0, None, 11)


@pytest.mark.parametrize("combination", [each for size in SMALL for each in training(*size)], ids=str)
def test_every_training_step(combination: Combination) -> None:
    check_labels(combination)


@pytest.mark.parametrize("combination", [each for size in LARGE for each in training(*size)[THREE]], ids=str)
def test_training_steps_of_large_batches(combination: Combination) -> None:
    check_labels(combination)


@pytest.mark.parametrize("combination", [*evaluation(2, 64), *evaluation(8, 32), *evaluation(32, 32)], ids=str)
def test_evaluation(combination: Combination) -> None:
    check_labels(combination)


NO_GRAD = Step(backward=False, gradients=False)
LOGITS_DIE = Step(optimizer=MOMENTUM, keep_logits=False)


@pytest.mark.parametrize(
    "step",
    [
        LOGITS_DIE,
        replace(LOGITS_DIE, micro_batches=3),
        Step(),
        Step(micro_batches=2),
        Step(backward=False, micro_batches=2),
        replace(NO_GRAD, micro_batches=2, keep_logits=False),
        Step(optimizer=AdamW()),
        Step(optimizer=AdamW(), set_to_none=False, keep_logits=False),
        Step(optimizer=Adam(amsgrad=True)),
    ],
)
@pytest.mark.parametrize("is_training", [True, False], ids=["training", "eval"])
def test_other_steps(step: Step, is_training: bool) -> None:
    check_labels(Combination(step=step, training=is_training))


@pytest.mark.parametrize("samples", [1, 8, 20])
@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(),
        CNNConfig(channels=(64, 128, 256)),
        CNNConfig(channels=(24, 40, 56)),
        CNNConfig(channels=(7, 13, 17)),
        CNNConfig(channels=(12, 9)),
        CNNConfig(kernel_size=1),
        CNNConfig(kernel_size=5),
        CNNConfig(in_channels=1),
        CNNConfig(in_channels=4, classes=100),
        CNNConfig(in_channels=16),
        CNNConfig(convolution="depthwise-separable"),
        CNNConfig(convolution="depthwise-separable", channels=(7, 20)),
    ],
    ids=lambda config: f"{config.in_channels}-{config.channels}-{config.kernel_size}-{config.convolution}",
)
def test_other_networks(config: CNNConfig, samples: int) -> None:
    """Channels that fill no block, PyTorch's own kernels for single images and 1x1 convolutions, depthwise ones."""
    check_labels(Combination(step=Step(optimizer=MOMENTUM), samples=samples, config=config))


class Nested(nn.Module):
    """A variable holds the middle layer's input until the module returns, and nobody what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return cast(torch.Tensor, self.last(self.middle(x)))


def convolution(inside: int, outside: int, *, bias: bool = True) -> Conv2d:
    return Conv2d(in_channels=inside, out_channels=outside, kernel_size=3, padding=1, bias=bias)


MODELS = {
    "chain": (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 7, bias=False)),
        (Linear(in_features=5, out_features=3), ReLU(), Linear(in_features=3, out_features=7, bias=False)),
        (4, 5),
    ),
    "nothing saved in between": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.Identity(), nn.Linear(4, 4), nn.Linear(4, 4)),
        (Linear(in_features=5, out_features=4), Identity(), *[Linear(in_features=4, out_features=4)] * 2),
        (4, 5),
    ),
    "images": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 4, 3, padding=1),
            nn.MaxPool2d(4),
            nn.Flatten(),
            nn.Linear(4 * 4 * 4, 10),
        ),
        (
            convolution(3, 8, bias=False),
            BatchNorm(num_features=8),
            convolution(8, 16),
            ReLU(in_place=True),
            convolution(16, 4),
            MaxPool2d(kernel_size=4),
            Flatten(),
            Linear(in_features=4 * 4 * 4, out_features=10),
        ),
        (2, 3, 16, 16),
    ),
    "settings": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(3, track_running_stats=False),
            nn.Conv2d(3, 16, 3),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.Flatten(),
            nn.Linear(16 * 7 * 7, 10),
            nn.ReLU(inplace=True),
            nn.LogSoftmax(dim=1),
        ),
        (
            BatchNorm(num_features=3, track_running_stats=False),
            Conv2d(in_channels=3, out_channels=16, kernel_size=3),
            MaxPool2d(kernel_size=3, stride=2, padding=1),
            BatchNorm(num_features=16),
            Flatten(),
            Linear(in_features=16 * 7 * 7, out_features=10),
            ReLU(in_place=True),
            LogSoftmax(),
        ),
        (2, 3, 16, 16),
    ),
}


@pytest.mark.parametrize("step", [Step(optimizer=MOMENTUM), Step(optimizer=Adam(), micro_batches=2), NO_GRAD])
@pytest.mark.parametrize("name", MODELS)
def test_other_chains(name: str, step: Step) -> None:
    build, layers, shape = MODELS[name]
    network = Network(tuple(Named(str(number), layer) for number, layer in enumerate(layers)))
    check_model(build(), network, shape, step)


@pytest.mark.parametrize("step", [Step(optimizer=MOMENTUM), NO_GRAD])
def test_a_variable_of_a_module(step: Step) -> None:
    layers = Linear(in_features=5, out_features=3), ReLU(), Linear(in_features=3, out_features=7)
    named = tuple(Named(path, layer) for path, layer in zip(("first", "middle", "last"), layers, strict=True))
    check_model(Nested(), Network(named, keeps=frozenset({"middle"})), (4, 5), step)
    inner = tuple(Named(f"0.{each.path}", each.layer) for each in named)
    outer = Network((*inner, Named("1", ReLU())), keeps=frozenset({"0.middle"}))
    check_model(nn.Sequential(Nested(), nn.ReLU()), outer, (4, 5), step)


def check_model(model: nn.Module, network: Network, shape: tuple[int, ...], step: Step, *, labels: bool = True) -> None:
    theory = step_stream(network, TensorSpec(shape), step, BACKEND)
    workload = real_step(model, torch.rand(shape), torch.zeros(shape[0], dtype=torch.int64), step)
    result = balance(theory, measure_memory(workload).stream)
    assert result.framework_exact, result.framework_difference
    assert result.labelled_alike or not labels, result.label_difference
    assert result.exact or not BLOCK, f"{result.difference}\n{result.table()}"


# Variants -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    "step", [Step(optimizer=MOMENTUM), Step(optimizer=Adam(), micro_batches=2), Step(backward=False), NO_GRAD]
)
def test_checkpointed_blocks(step: Step, in_place: bool) -> None:
    check_labels(Combination(step=step, config=CNNConfig(checkpoint=True, in_place=in_place)))


class Checkpointed(nn.Module):
    """A checkpoint in which the first layer has no gradient, one saves nothing, and one is in place."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReLU(), nn.Linear(5, 4), nn.Identity(), nn.ReLU(inplace=True), nn.Linear(4, 6), nn.LogSoftmax(dim=1)
        )
        self.last = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.block, x, use_reentrant=False) if torch.is_grad_enabled() else self.block(x)
        return cast(torch.Tensor, self.last(x))


@pytest.mark.parametrize("step", [Step(optimizer=MOMENTUM), Step(micro_batches=2), Step(backward=False), NO_GRAD])
def test_a_checkpoint_of_many_kinds_of_layers(step: Step) -> None:
    linear = Linear(in_features=5, out_features=4), Linear(in_features=4, out_features=6)
    inside = ReLU(), linear[0], Identity(), ReLU(in_place=True), linear[1], LogSoftmax()
    layers = (
        *(Named(f"block.{number}", layer) for number, layer in enumerate(inside)),
        Named("last", Linear(in_features=6, out_features=3)),
    )
    network = Network(layers, keeps=frozenset({"last"}), checkpoints=frozenset({"block"}))
    # What the second run makes last, and drops as it stops early, is let go of like what it keeps: the run says saved.
    check_model(Checkpointed(), network, (4, 5), step, labels=False)


@pytest.mark.parametrize("step", [Step(optimizer=MOMENTUM), Step(optimizer=Adam()), Step(backward=False)])
def test_half_precision_is_exact_without_workspace(step: Step) -> None:
    """What bfloat16 convolutions and products need for themselves is not known; all else is."""
    result = held(Combination(step=step, dtype="bfloat16"), CPU())
    assert result.framework_exact, result.framework_difference
    assert result.labelled_alike, result.label_difference


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("optimizer", [MOMENTUM, Adam()])
@pytest.mark.parametrize("step", [Step(), Step(keep_logits=False, set_to_none=False)])
def test_autocast_is_exact_without_workspace(step: Step, optimizer: Optimizer, micro_batches: int) -> None:
    """All but that and the order in which the cache of copies lets go of them: that of a hash table of addresses."""
    step = replace(step, optimizer=optimizer, micro_batches=micro_batches, autocast="bfloat16")
    theory, run = held(Combination(step=step), CPU())
    result = balance(caches_in_order(theory), caches_in_order(run))
    assert result.framework_exact, result.framework_difference
    assert result.labelled_alike, result.label_difference


def caches_in_order(stream: Stream) -> Stream:
    """What is closed between forward and backward, one block right after the other, in the order it was opened."""
    events = list(stream.events)
    start = 0
    for end in range(len(events) + 1):
        if end < len(events) and not events[end].opens and (events[end].path, events[end].phase) == ("", "loss"):
            continue
        events[start:end] = sorted(events[start:end], key=lambda event: event.block)
        start = end + 1
    return replace(stream, events=tuple(events))


def test_only_neighbours_are_put_in_order() -> None:
    blocks = (Block(1, "activations", "", "forward"), Block(2, "activations", "", "forward"))
    opened = (Event(0, True, "", "forward"), Event(1, True, "", "forward"))
    first, second = Event(0, False, "", "loss"), Event(1, False, "", "loss")
    assert caches_in_order(Stream(blocks, (), (*opened, second, first))).events == (*opened, first, second)
    between = Event(1, False, "", "backward"), Event(0, False, "", "loss")
    assert caches_in_order(Stream(blocks, (), (*opened, *between))).events == (*opened, *between)


# It can fail ----------------------------------------------------------------------------------------------------------


def test_a_wrong_step_does_not_balance() -> None:
    """One setting that the run did not have, and each account says where it shows first."""
    run = measure_memory(Combination(step=Step(optimizer=SGD())).workload()).stream
    for other in (
        Combination(step=Step(optimizer=SGD()), samples=9),
        Combination(step=Step(optimizer=SGD(), keep_logits=False)),
        Combination(step=Step(optimizer=SGD(), set_to_none=False)),
        Combination(step=Step(optimizer=SGD()), config=CNNConfig(in_place=True)),
        Combination(step=Step(optimizer=MOMENTUM)),
        Combination(step=Step(optimizer=SGD()), training=False),
    ):
        result = balance(other.theory(BACKEND), run)
        assert not result.exact and not result.framework_exact
        assert result.difference and result.framework_difference
