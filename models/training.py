"""One training step, with everything in it that decides about its memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def training_step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    gradients: bool = True,
    backward: bool = True,
    micro_batches: int = 1,
    set_to_none: bool = True,
    keep_logits: bool = True,
    autocast: torch.dtype | None = None,
) -> Callable[[], None]:
    """A step of classification, to be called any number of times: by default clear, forward, loss, backward, update.

    `gradients`: whether autograd records; `backward`: whether it runs. `micro_batches` of the same images add up their
    gradients. `keep_logits`: whether a variable holds the logits until the step returns. `autocast`: the dtype in
    which forward and loss may work. The step's variables are what a reader expects: `out` and `loss`.
    """

    def step() -> None:
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=set_to_none)
        with torch.set_grad_enabled(gradients):
            for _ in range(micro_batches):
                with torch.autocast(images.device.type, autocast, enabled=autocast is not None):
                    if keep_logits:
                        out = model(images)
                        loss = cross_entropy(out, labels)
                    else:
                        loss = cross_entropy(model(images), labels)
                if backward:
                    loss.backward()
        if optimizer is not None:
            optimizer.step()

    return step
