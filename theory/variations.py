"""The walkthrough's analysis as arithmetic: the CNN beside a variation of it, and their exact ratios."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod

from .cnn import IMAGES, cnn
from .dense import Linear
from .layer import parameter_count
from .network import Network
from .optimizers import Adam, Optimizer, state_bytes
from .prediction import Prediction, Totals
from .tensor import TensorSpec

CHANNELS = (32, 64, 128)
CLASSES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One quantity of the network as it is and as varied."""

    before: int
    after: int

    @property
    def ratio(self) -> Fraction:
        """after / before: 4 where it quadruples."""
        return Fraction(self.after, self.before)

    @property
    def reduction(self) -> Fraction:
        """before / after: 8 where an eighth is left."""
        return Fraction(self.before, self.after)

    @property
    def difference(self) -> int:
        """after - before: negative where something is saved."""
        return self.after - self.before


@dataclass(frozen=True, kw_only=True, slots=True)
class Variation:
    """A training step of the network, and of a variation of it."""

    before: Prediction
    after: Prediction

    def _change(self, quantity: str) -> Change:
        before, after = self.before.totals, self.after.totals
        return Change(before=getattr(before, quantity), after=getattr(after, quantity))

    @property
    def parameters(self) -> Change:
        return self._change("parameters")

    @property
    def parameter_bytes(self) -> Change:
        return self._change("parameter_bytes")

    @property
    def activation_bytes(self) -> Change:
        return self._change("activation_bytes")

    @property
    def forward_flops(self) -> Change:
        return self._change("forward_flops")

    @property
    def backward_flops(self) -> Change:
        return self._change("backward_flops")

    @property
    def flops(self) -> Change:
        """Forward and backward together."""
        return self._change("flops")

    @property
    def training_bytes(self) -> Change:
        """Activations, their gradients, parameters and theirs; no optimizer state."""
        return Change(before=training_bytes(self.before.totals), after=training_bytes(self.after.totals))


def training_bytes(totals: Totals) -> int:
    """Activations, their gradients, parameters and theirs, as if all were alive together."""
    return totals.activation_bytes + totals.gradient_bytes + totals.parameter_bytes + totals.parameter_gradient_bytes


def dense_layer_parameters(*, size: tuple[int, ...] = (32, 32, 3), features: int = 128) -> int:
    """Of one dense layer from a flattened image: 32*32*3 * 128 weights + 128 biases = 393,344."""
    return parameter_count(Linear(in_features=prod(size), out_features=features))


def resolution_scaled(x: TensorSpec = IMAGES, *, factor: int = 2) -> Variation:
    """Height and width `factor` times as large: all maps grow by its square, the pooled features do not."""
    *batch, height, width = x.shape
    larger = x.with_shape(*batch, height * factor, width * factor)
    return Variation(before=cnn().predict(x), after=cnn().predict(larger))


def channels_scaled(x: TensorSpec = IMAGES, *, factor: int = 2) -> Variation:
    """Every block `factor` times as wide.

    A convolution grows by the square, C_in * C_out, but the first, whose input keeps its 3 channels, and all
    that is linear in the channels (biases, BatchNorm, ReLU, pooling, the classifier) only by the factor.
    """
    wider = cnn(channels=tuple(c * factor for c in CHANNELS))
    return Variation(before=cnn().predict(x), after=wider.predict(x))


def one_more_block(x: TensorSpec = IMAGES, *, channels: int = 256) -> Variation:
    """A fourth block, of 128 -> 256 on the 4x4 map, with its pool, and the wider classifier behind it."""
    return Variation(before=cnn().predict(x), after=cnn(channels=(*CHANNELS, channels)).predict(x))


def depthwise_separable(x: TensorSpec = IMAGES) -> Variation:
    """Each convolution as a depthwise and a pointwise one.

    One output position costs 2 * (k*k * C_in + C_in * C_out) instead of 2 * k*k * C_in * C_out: fewer by the
    factor 1 / (1/C_out + 1/(k*k)), which is k*k = 9 for endless channels and 7.0, 7.9, 8.4 for 32, 64, 128.
    """
    return Variation(before=cnn().predict(x), after=cnn(convolution="depthwise-separable").predict(x))


def depthwise_separable_convolutions(x: TensorSpec = IMAGES) -> dict[str, Change]:
    """Forward FLOPs of the convolutions alone: per block, by its name, and of all blocks as ""."""
    both = depthwise_separable(x)
    blocks = dict.fromkeys(row.path.partition(".")[0] for row in both.before if row.kind == "convolution")
    return {
        block: Change(before=_convolution_flops(both.before, block), after=_convolution_flops(both.after, block))
        for block in (*blocks, "")
    }


def _convolution_flops(prediction: Prediction, block: str) -> int:
    return sum(
        row.forward.flops
        for row in prediction
        if row.kind == "convolution" and (not block or row.path.startswith(block + "."))
    )


def pooled_classifier(x: TensorSpec = IMAGES) -> Change:
    """The classifier's parameters behind a flattened last map, and behind global average pooling.

    4*4*128 * 10 + 10 = 20,490 against 128 * 10 + 10 = 1,290: 19,200 saved.
    """
    network = cnn()
    map_size = network.predict(x)["gap"].input.shape[1:]
    flattened = Linear(in_features=prod(map_size), out_features=CLASSES)
    return Change(before=parameter_count(flattened), after=parameter_count(network["fc"]))


def half_precision(x: TensorSpec = IMAGES) -> Variation:
    """Everything in float16: each byte count halves, each FLOP count stays.

    Mixed precision proper keeps the parameters, and the optimizer's state, in float32: then only activations
    halve.
    """
    half = cnn(dtype="float16").predict(x.with_dtype("float16"))
    return Variation(before=cnn().predict(x), after=half)


def optimizer_parameters(network: Network | None = None, optimizer: Optimizer | None = None) -> Change:
    """Bytes of the parameters alone, and with the optimizer's state: just above 3x for Adam."""
    network, optimizer = network or cnn(), optimizer or Adam()
    alone = sum(parameter.nbytes for parameter in network.parameters)
    return Change(before=alone, after=alone + state_bytes(optimizer, network.parameters))


def optimizer_training(
    x: TensorSpec = IMAGES, network: Network | None = None, optimizer: Optimizer | None = None
) -> Change:
    """`training_bytes` without and with the optimizer's state: far from 3x, as activations are most of it."""
    network = network or cnn()
    without = training_bytes(network.predict(x).totals)
    return Change(before=without, after=without + optimizer_parameters(network, optimizer).difference)
