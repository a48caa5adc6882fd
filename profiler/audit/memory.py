"""The claims of memory, asked of a step's stream: what is live together. Theory's stream and the allocator's are asked
alike.

The walkthrough adds up activations, their gradients, parameters and theirs. A run holds some of them together, and
never all: so its figure is the most bytes of those kinds that were live at once. Workspaces are left out, which belong
to a backend; so are the images, the labels and BatchNorm's buffers, which the walkthrough leaves out. The optimizer is
plain SGD, which keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cache

from ...theory.claims.records import Claim
from ...theory.cnn import cnn
from ...theory.liveness import Step, step_stream
from ...theory.optimizers import SGD
from ...theory.stream import CATEGORIES, Category, Stream
from ...theory.tensor import TensorSpec
from ..verdict import Value
from .rules import Finding
from .runs import Observed
from .steps import StreamOf
from .variants import Variant, checkpointed, enlarged

_FORWARD: tuple[Category, ...] = ("activations", "saved")
_BACKWARD: tuple[Category, ...] = ("activation gradients",)
_PARAMETERS: tuple[Category, ...] = ("parameters",)
_GRADIENTS: tuple[Category, ...] = ("parameter gradients",)

# (quantity, phase) -> what is live together.
_TOGETHER: dict[tuple[str, str], tuple[Category, ...]] = {
    ("activation_and_gradient_bytes", "training"): (*_FORWARD, *_BACKWARD),
    ("memory_bytes", "forward"): (*_FORWARD, *_PARAMETERS),
    ("memory_bytes", "backward"): (*_BACKWARD, *_GRADIENTS, *_PARAMETERS),
    ("memory_bytes", "training"): (*_FORWARD, *_BACKWARD, *_GRADIENTS, *_PARAMETERS),
}


def together(stream: Stream, *categories: Category) -> int:
    """The most bytes of these categories that were live at once."""
    return stream.without(*(each for each in CATEGORIES if each not in categories)).peak_bytes


def training_bytes(stream: Stream) -> int:
    """Activations, parameters and the gradients of both, live at once."""
    return together(stream, *_TOGETHER["memory_bytes", "training"])


def _value(claim: Claim, step: Variant, stream_of: StreamOf) -> Value:
    """The claimed quantity, in bytes or as a ratio."""
    if claim.quantity in _RATIOS:
        of, to = _RATIOS[claim.quantity](step)
        return Fraction(training_bytes(stream_of(of)), training_bytes(stream_of(to)))
    return together(stream_of(step), *_TOGETHER[claim.quantity, claim.phase])


# Each ratio's two steps.
_RATIOS: dict[str, Callable[[Variant], tuple[Variant, Variant]]] = {
    "half_precision_memory_reduction": lambda step: (step, replace(step, dtype="float16")),
    "resolution_doubled_memory_ratio": lambda step: (replace(step, config=enlarged(step.config)), step),
}


# Streams -----------------------------------------------------------------------------------------------------------


@cache
def in_theory(step: Variant) -> Stream:
    """In closed form, the framework's part alone."""
    config = step.config
    network = cnn(
        in_channels=config.in_channels,
        channels=config.channels,
        classes=config.classes,
        kernel_size=config.kernel_size,
        checkpoint=config.checkpoint,
        dtype=step.dtype,
    )
    images = TensorSpec((step.batch_size, config.in_channels, *config.resolution), step.dtype)
    return step_stream(network, images, Step(optimizer=SGD(), autocast=step.autocast))


# Rules and reasons -------------------------------------------------------------------------------------------------


def _stores_both(step: Variant, stream_of: StreamOf) -> Finding:
    """All of forward and all of backward, live at one moment."""
    stream = stream_of(step)
    forward, backward = together(stream, *_FORWARD), together(stream, *_BACKWARD)
    both = together(stream, *_FORWARD, *_BACKWARD)
    return Finding(
        both >= forward + backward,
        f"activations take up to {forward:,} B and their gradients up to {backward:,} B, but never at one moment: "
        f"together they peak at {both:,} B, for backward gives back each layer's activations as it goes",
    )


def _checkpointing(step: Variant, stream_of: StreamOf) -> Finding:
    """Less memory with each block's activations computed again. What that costs is counted, not allocated."""
    plain = training_bytes(stream_of(step))
    recomputing = training_bytes(stream_of(replace(step, config=checkpointed(step.config))))
    return Finding(recomputing < plain, f"{plain:,} B without it and {recomputing:,} B with each block recomputed")


ON_STREAMS: Mapping[str, Callable[[Variant, StreamOf], Finding]] = {
    "training.stores_both_passes": _stores_both,
    "checkpointing.trades_computation_for_memory": _checkpointing,
}

_SUM = "adds up what is never held together"
_WHY = {
    ("activation_and_gradient_bytes", "training"): _SUM,
    ("memory_bytes", "training"): _SUM,
    ("memory_bytes", "forward"): (
        "ReLU keeps its result and not its input, so BatchNorm's outputs die at once; pooling also keeps its indices"
    ),
    ("memory_bytes", "backward"): "an activation's gradient dies as soon as the layer before has used it",
}


class MemoryWitness:
    """What theory and the allocator say of claims of memory, on variants of the step that was observed."""

    def __init__(self, observed: Observed) -> None:
        self._step = Variant(config=observed.config, batch_size=observed.batch_size)
        self._real = observed.steps
        self._in_run = observed.steps.stream

    @staticmethod
    def speaks_of(claim: Claim) -> bool:
        """Whether the claim is of memory held together."""
        return (claim.quantity, claim.phase) in _TOGETHER or claim.quantity in _RATIOS

    def theory(self, claim: Claim) -> Value | None:
        """By the closed form of the step's stream."""
        return _value(claim, self._step, in_theory)

    def measured(self, claim: Claim) -> Value | None:
        """By the allocator."""
        return _value(claim, self._step, self._in_run)

    def rule(self, rule: str) -> tuple[Finding, bool]:
        """What the allocator shows of a rule, and whether it holds in theory."""
        finding = ON_STREAMS[rule](self._step, self._in_run)
        if rule == "checkpointing.trades_computation_for_memory":
            finding = self._with_price(finding)
        return finding, ON_STREAMS[rule](self._step, in_theory).holds

    def _with_price(self, finding: Finding) -> Finding:
        flops = self._real.recomputed_flops(replace(self._step, config=checkpointed(self._step.config)))
        return Finding(finding.holds and flops > 0, f"{finding.seen}, which computes {flops:,} FLOPs again")

    def why(self, claim: Claim) -> str:
        """Why the run differs from a claim of memory; "" for another claim."""
        if claim.quantity == "half_precision_memory_reduction":
            mixed = Fraction(
                training_bytes(self._in_run(self._step)),
                training_bytes(self._in_run(replace(self._step, autocast="bfloat16"))),
            )
            return (
                "the pools' indices stay int64; "
                f"under autocast it is {float(mixed):.2f}x, as parameters and their gradients stay float32"
            )
        return _WHY.get((claim.quantity, claim.phase), "")
