"""The walkthrough's CNN in every way of taking a step: the real workload, and the same for theory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor, nn

from torchtally.models.cnn import CNN, CNNConfig, example
from torchtally.models.training import training_step
from torchtally.profiler.workload import Workload
from torchtally.theory.cnn import cnn
from torchtally.theory.liveness import Backend, Step, step_stream
from torchtally.theory.optimizers import SGD, Adam, AdamW, Optimizer
from torchtally.theory.stream import Stream
from torchtally.theory.tensor import TensorSpec

MOMENTUM = SGD(momentum=0.9)
WALKTHROUGH = CNNConfig()


@dataclass(frozen=True, kw_only=True)
class Combination:
    """One real step and one of theory. `side` is the images' height and width."""

    step: Step
    samples: int = 8
    side: int = 32
    training: bool = True
    dtype: str = "float32"
    config: CNNConfig = WALKTHROUGH

    def workload(self) -> Workload:
        """The step for real, on a fresh model."""
        config = replace(self.config, resolution=(self.side, self.side))
        model = CNN(config).train(self.training).to(getattr(torch, self.dtype))
        images, labels = example(config, self.samples)
        return real_step(model, images.to(getattr(torch, self.dtype)), labels, self.step)

    def theory(self, backend: Backend | None) -> Stream:
        """The step on paper."""
        network = cnn(
            in_channels=self.config.in_channels,
            channels=self.config.channels,
            classes=self.config.classes,
            kernel_size=self.config.kernel_size,
            convolution=self.config.convolution,
            in_place=self.config.in_place,
            checkpoint=self.config.checkpoint,
            training=self.training,
            dtype=self.dtype,
        )
        images = TensorSpec((self.samples, self.config.in_channels, self.side, self.side), self.dtype)
        return step_stream(network, images, self.step, backend)

    def __str__(self) -> str:
        step = self.step
        words: list[str] = [
            f"{self.samples}x{self.side}",
            type(step.optimizer).__name__ + ("-momentum" * (step.optimizer == MOMENTUM)),
            "in-place" * self.config.in_place,
            f"{step.micro_batches}-micro-batches" * (step.micro_batches > 1),
            "zeros" * (not step.set_to_none),
            "logits-die" * (not step.keep_logits),
            "forward-only" * (not step.backward),
            "no-grad" * (not step.gradients),
            "eval" * (not self.training),
        ]
        return "-".join(filter(None, words))


def real_step(model: nn.Module, images: Tensor, labels: Tensor, step: Step) -> Workload:
    """The step for real: a new optimizer, and the function that theory speaks of."""
    optimizer = _real(step.optimizer, model)
    function = training_step(
        model,
        images,
        labels,
        optimizer,
        gradients=step.gradients,
        backward=step.backward,
        micro_batches=step.micro_batches,
        set_to_none=step.set_to_none,
        keep_logits=step.keep_logits,
        autocast=getattr(torch, step.autocast) if step.autocast else None,
    )
    return Workload(model=model, optimizer=optimizer, step=function)


def _real(optimizer: Optimizer | None, model: nn.Module) -> torch.optim.Optimizer | None:
    match optimizer:
        case None:
            return None
        case SGD(momentum=momentum):
            return torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
        case AdamW():
            return torch.optim.AdamW(model.parameters())
        case Adam(amsgrad=amsgrad):
            return torch.optim.Adam(model.parameters(), amsgrad=amsgrad)
        case _:
            raise ValueError(f"no real optimizer for {optimizer}")


def training(samples: int, side: int) -> tuple[Combination, ...]:
    """Every training step of that batch and image size: 3 optimizers x in-place x accumulation x both `zero_grad`s."""
    return tuple(
        Combination(
            step=Step(optimizer=optimizer, micro_batches=micro_batches, set_to_none=set_to_none),
            samples=samples,
            side=side,
            config=CNNConfig(in_place=in_place),
        )
        for optimizer, in_place, micro_batches, set_to_none in product(
            (SGD(), MOMENTUM, Adam()), (False, True), (1, 2), (True, False)
        )
    )


def evaluation(samples: int, side: int) -> tuple[Combination, ...]:
    """Forward and loss in eval mode, with and without gradients, logits kept or not, in-place or not."""
    return tuple(
        Combination(
            step=Step(gradients=gradients, backward=False, keep_logits=keep_logits),
            samples=samples,
            side=side,
            training=False,
            config=CNNConfig(in_place=in_place),
        )
        for gradients, keep_logits, in_place in product((True, False), repeat=3)
    )
