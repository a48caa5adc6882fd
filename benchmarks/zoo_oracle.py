"""What FlopCounterMode should have said: its own figure, with the operators it is known to get wrong counted by hand.

Convolutions are counted where their modules are called, from the module's settings and the shapes of input and output;
experts of a mixture from the number of tokens sent to them. Nothing of torchtally is used.
"""

from __future__ import annotations

from math import prod
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)

# The defects, and the models (by the beginnings of their names) in which they show. Any other difference is ours.
GROUPS = "ignores groups in convolution_backward"
GROUPED_MM = "has no formula for _grouped_mm"
DEFECTS: dict[str, tuple[str, ...]] = {
    GROUPS: (
        "convnext", "deeplabv3_mobilenet", "efficientnet", "fasterrcnn_mobilenet", "lraspp_mobilenet", "maxvit",
        "mnasnet", "mobilenet", "mvit", "quantized_mobilenet", "quantized_resnext", "quantized_shufflenet", "regnet",
        "resnext", "shufflenet", "ssdlite320_mobilenet",
    ),
    GROUPED_MM: ("transformers:mixtral",),
}  # fmt: skip


def defect_of(name: str) -> str | None:
    """FlopCounterMode's listed defect for a model, if there is one."""
    return next((defect for defect, models in DEFECTS.items() if name.startswith(models)), None)


class Corrected:
    """FlopCounterMode around a step, and convolutions and experts counted by hand in the same step.

    `forward_done()` between forward and backward; after it `fcm` and `right` are (forward, backward).
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._counter = FlopCounterMode(display=False)
        self._handles: list[Any] = []
        self._by_hand = {"forward": 0, "backward": 0}  # convolutions
        self._experts = {"forward": 0, "backward": 0}
        self._grouped = False
        self._seen: list[dict[str, int]] = []

    def __enter__(self) -> Corrected:
        for module in self._model.modules():
            if isinstance(module, _CONVOLUTIONS):
                self._handles.append(module.register_forward_hook(self._convolved))
            elif type(module).__name__.endswith("Experts"):
                self._handles.append(module.register_forward_hook(self._routed, with_kwargs=True))
        self._counter.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._counter.__exit__(kind, error, traceback)
        self._note()
        for handle in self._handles:
            handle.remove()

    def forward_done(self) -> None:
        self._note()

    def _note(self) -> None:
        counts = self._counter.get_flop_counts().get("Global", {})
        self._seen.append({str(operator): flops for operator, flops in counts.items()})

    def _convolved(self, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Each output element is a sum over the input channels of its group and the kernel; transposed, each input
        element goes to the output channels of its group and the kernel."""
        (x,) = inputs
        transposed = isinstance(module, _TRANSPOSED)
        spread, channels = (x, module.out_channels) if transposed else (output, module.in_channels)
        flops = 2 * spread.numel() * (channels // module.groups) * prod(module.kernel_size)
        self._count(self._by_hand, flops, x.requires_grad + module.weight.requires_grad, output)

    def _routed(self, module: Any, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> None:
        """Every token meets the matrices of each expert it is sent to."""
        chosen = next(value for value in (*inputs, *keywords.values()) if not value.is_floating_point())
        weights = (module.gate_up_proj, module.down_proj)
        flops = 2 * chosen.numel() * sum(prod(weight.shape[1:]) for weight in weights)
        self._grouped = True
        self._count(self._experts, flops, 2, output)

    def _count(self, where: dict[str, int], flops: int, gradients: int, output: Tensor) -> None:
        where["forward"] += flops
        if not output.requires_grad:
            return

        def arrived(_: Tensor) -> None:
            where["backward"] += gradients * flops

        output.register_hook(arrived)

    @property
    def fcm(self) -> tuple[int, int]:
        """FlopCounterMode's own figures."""
        forward, both = (sum(counts.values()) for counts in self._seen)
        return forward, both - forward

    @property
    def right(self) -> tuple[int, int]:
        """The same with convolutions' backward, and experts, by hand.

        Raises AssertionError where the convolutions seen forward are not all: then the hand count is worth nothing.
        """
        forward, backward = self.fcm
        convolved = _of(self._seen[0], "convolution")
        assert convolved == self._by_hand["forward"], (convolved, self._by_hand["forward"])
        backward += self._by_hand["backward"] - (_of(self._seen[1], "convolution_backward"))
        return forward + self._experts["forward"], backward + self._experts["backward"]


def _of(counts: dict[str, int], operator: str) -> int:
    return sum(flops for name, flops in counts.items() if name.split(".")[-1] == operator)


def parameters_of(model: nn.Module) -> int:
    """Elements of all parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


torch.set_num_threads(1)
