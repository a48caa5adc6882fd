"""A step's stream on paper: one written out by hand, the reference peaks, and what must hold of every step."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from torchtally.theory.cnn import cnn
from torchtally.theory.convolution import Conv2d
from torchtally.theory.dense import Linear
from torchtally.theory.layer import Layer
from torchtally.theory.liveness import CPU, NoRuleError, OneDNN, Step, step_stream
from torchtally.theory.network import Named, Network
from torchtally.theory.normalization import BatchNorm
from torchtally.theory.optimizers import SGD, Adam, AdamW
from torchtally.theory.pointwise import Flatten, ReLU
from torchtally.theory.pooling import MaxPool2d
from torchtally.theory.recurrent import GRU
from torchtally.theory.stream import Category, Event, Stream
from torchtally.theory.tensor import TensorSpec

MOMENTUM = SGD(momentum=0.9)
F32, I64 = 4, 8


def signed(stream: Stream) -> list[int]:
    return [stream.signed(event) for event in stream.events]


def images(samples: int, side: int = 32, dtype: str = "float32") -> TensorSpec:
    return TensorSpec((samples, 3, side, side), dtype)


# By hand --------------------------------------------------------------------------------------------------------------

N, IN, HIDDEN, OUT = 2, 5, 3, 7
TINY = Network(
    (
        Named("first", Linear(in_features=IN, out_features=HIDDEN)),
        Named("relu", ReLU()),
        Named("last", Linear(in_features=HIDDEN, out_features=OUT, bias=False)),
    )
)
W1, B1, W2 = HIDDEN * IN * F32, HIDDEN * F32, OUT * HIDDEN * F32
A, Y, LOSS = N * HIDDEN * F32, N * OUT * F32, F32


FORWARD = [
    (+A, "first", "forward", "activations"),
    (+A, "relu", "forward", "saved"),
    (-A, "", "forward", "activations"),  # relu keeps its result, so nobody holds what it was given
    (+Y, "last", "forward", "activations"),  # what last was given is relu's result
]
LOSS_AND_ITS_BACKWARD = [
    (+Y, "", "loss", "saved"),  # log-probabilities
    (+LOSS, "", "loss", "activations"),
    (+LOSS, "", "loss", "saved"),  # the sum of the samples' weights
    (+LOSS, "", "loss", "activation gradients"),  # a one
    (+Y, "", "loss", "activation gradients"),  # of the log-probabilities
    (-LOSS, "", "loss", "saved"),
    (+Y, "", "loss", "activation gradients"),  # of the logits
    (-Y, "", "loss", "activation gradients"),
    (-Y, "", "loss", "saved"),
]


def backward(*, adds: bool) -> list[tuple[int, str, str, str]]:
    """`adds`: there are gradients already."""
    return [
        (+W2, "last", "backward", "parameter gradients"),  # without a bias the weight comes first
        (+A, "last", "backward", "activation gradients"),
        (-Y, "last", "backward", "activation gradients"),
        *([(-W2, "last", "accumulation", "parameter gradients")] * adds),
        (+A, "relu", "backward", "activation gradients"),
        (-A, "relu", "backward", "activation gradients"),
        (-A, "relu", "backward", "saved"),
        (+W1, "first", "backward", "parameter gradients"),
        (+B1, "first", "backward", "parameter gradients"),
        (-A, "first", "backward", "activation gradients"),
        *([(-B1, "first", "accumulation", "parameter gradients")] * adds),  # a linear layer's bias comes first
        *([(-W1, "first", "accumulation", "parameter gradients")] * adds),
        (-LOSS, "", "outside", "activation gradients"),
    ]


ZERO_GRAD = [(-size, "", "outside", "parameter gradients") for size in (W1, B1, W2)]
RETURN = [(-Y, "", "outside", "activations"), (-LOSS, "", "outside", "activations")]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step(optimizer=SGD()), [*ZERO_GRAD, *FORWARD, *LOSS_AND_ITS_BACKWARD, *backward(adds=False), *RETURN]),
        (
            Step(optimizer=SGD(), set_to_none=False),
            [*FORWARD, *LOSS_AND_ITS_BACKWARD, *backward(adds=True), *RETURN],
        ),
        (Step(), [*FORWARD, *LOSS_AND_ITS_BACKWARD, *backward(adds=True), *RETURN]),
    ],
)
def test_a_step_by_hand(step: Step, expected: list[tuple[int, str, str, str]]) -> None:
    stream = step_stream(TINY, TensorSpec((N, IN)), step)
    found = [
        (stream.signed(event), event.path, event.phase, stream.blocks[event.block].category) for event in stream.events
    ]
    assert found == expected
    before = W1 + B1 + W2 + W1 + B1 + W2 + N * IN * F32 + N * I64
    assert stream.live_bytes[0] == before


def test_adams_temporaries() -> None:
    """A root and a denominator like the parameter; the denominator dies when the next parameter has its own."""
    stream = step_stream(TINY, TensorSpec((N, IN)), Step(optimizer=Adam()))
    found = [stream.signed(event) for event in stream.events if event.phase == "optimizer"]
    assert found == [W1, W1, -W1, B1, B1, -B1, -W1, W2, W2, -W2, -B1, -W2]
    state = [
        stream.blocks[place].bytes for place in stream.before if stream.blocks[place].category == "optimizer state"
    ]
    assert state == [F32, W1, W1, F32, B1, B1, F32, W2, W2]


def test_weight_decay_takes_one_number_more_for_each_parameter() -> None:
    numbers = [
        sum(event.opens and stream.signed(event) == 8 and event.phase == "optimizer" for event in stream.events)
        for stream in (step_stream(TINY, TensorSpec((N, IN)), Step(optimizer=each()), CPU()) for each in (Adam, AdamW))
    ]
    parameters = 3
    assert numbers == [4 * parameters, 5 * parameters]


# Peaks that were found before this was written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "step", "training", "peak"),
    [
        (1, Step(optimizer=MOMENTUM), True, 1_904_072),
        (8, Step(optimizer=MOMENTUM), True, 6_274_584),
        (32, Step(optimizer=MOMENTUM), True, 22_660_248),
        (8, Step(optimizer=MOMENTUM, keep_logits=False), True, 6_274_264),
        (32, Step(optimizer=MOMENTUM, keep_logits=False), True, 22_658_968),
        (8, Step(optimizer=Adam()), True, 6_654_584),
        (8, Step(optimizer=SGD()), True, 5_894_640),
        (8, Step(optimizer=MOMENTUM, micro_batches=2), True, 6_648_344),
        (8, Step(backward=False), False, 5_591_936),
        (8, Step(backward=False, gradients=False), False, 2_577_536),
    ],
)
def test_the_reference_peaks(samples: int, step: Step, training: bool, peak: int) -> None:
    assert step_stream(cnn(training=training), images(samples), step, OneDNN()).peak_bytes == peak


def test_the_bill_at_the_peak() -> None:
    """In the third BatchNorm's backward: found before, under other names for what is saved."""
    stream = step_stream(cnn(), images(32), Step(optimizer=MOMENTUM), OneDNN())
    by_category: dict[Category, int] = {}
    for (_, category), size in stream.bill().items():
        by_category[category] = by_category.get(category, 0) + size
    outputs, pool_indices, statistics = 15_205_636, 3_145_728, 1_792
    assert by_category.pop("saved") + by_category.pop("activations") == outputs + pool_indices + statistics
    assert by_category == {
        "parameters": 379_944,
        "optimizer state": 379_944,
        "parameter gradients": 6_184,
        "buffers": 1_816,
        "input": 393_472,
        "activation gradients": 2_097_156,
        "workspace": 1_048_576,
    }
    event = stream.events[stream.peak_index - 1]
    assert (event.path, event.phase) == ("block3.batchnorm", "backward")


# What must hold of every step -----------------------------------------------------------------------------------------

STEPS = [
    *(
        Step(optimizer=optimizer, micro_batches=micro_batches, set_to_none=set_to_none, keep_logits=keep_logits)
        for optimizer, micro_batches, set_to_none, keep_logits in product(
            (None, MOMENTUM, AdamW()), (1, 2), (False, True), (False, True)
        )
    ),
    *(
        Step(backward=False, gradients=gradients, micro_batches=micro_batches, keep_logits=keep_logits)
        for gradients, micro_batches, keep_logits in product((False, True), (1, 2), (False, True))
    ),
]
NETWORKS = [
    cnn(in_place=in_place, training=training, checkpoint=checkpoint)
    for in_place, training, checkpoint in product((False, True), repeat=3)
]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_ends_as_it_began(step: Step) -> None:
    """Whatever happens in between: the next one finds what this one found."""
    for network in NETWORKS:
        stream = step_stream(network, images(4), step, OneDNN())
        assert stream.live_bytes[-1] == stream.live_bytes[0]
        left = sorted((block.bytes, block.category, block.path) for block in stream.live(len(stream.events)))
        found = sorted((block.bytes, block.category, block.path) for block in stream.live(0))
        assert left == found


@pytest.mark.parametrize("step", STEPS)
def test_workspace_is_all_that_a_convolution_library_adds(step: Step) -> None:
    for network in NETWORKS:
        with_library = step_stream(network, images(4), step, OneDNN()).without("workspace")
        assert signed(with_library) == signed(step_stream(network, images(4), step, CPU()).without("workspace"))


def test_without_a_backend_there_is_no_workspace_and_no_python_number() -> None:
    for network, step in product(NETWORKS, STEPS):
        blocks = step_stream(network, images(4), step).blocks
        assert "workspace" not in {block.category for block in blocks} - _dropped_inside(network)
        assert all(block.bytes != 8 for block in blocks if block.path == "")


def _dropped_inside(network: Network) -> set[Category]:
    """A checkpoint's last result has no taker in the second run."""
    return {"workspace"} if network.checkpoints else set()


def test_memory_that_scales_with_the_batch_does_so_exactly() -> None:
    """peak(N) = fixed + N * per sample, once the peak is in one place."""
    at = {n: step_stream(cnn(), images(n), Step(optimizer=MOMENTUM), OneDNN()).peak_bytes for n in (32, 64, 96, 1024)}
    per_sample, rest = divmod(at[64] - at[32], 32)
    assert rest == 0
    assert at[96] - at[64] == 32 * per_sample
    assert at[1024] - at[96] == (1024 - 96) * per_sample


def test_half_precision_halves_what_is_kept() -> None:
    """All but the int64 indices and labels, and BatchNorm's count."""
    whole, half = (
        step_stream(cnn(dtype=dtype), images(8, dtype=dtype), Step(optimizer=MOMENTUM), CPU())
        for dtype in ("float32", "bfloat16")
    )
    saved = [sum(b.bytes for b in each.blocks if b.category == "saved") for each in (whole, half)]
    indices = sum(
        8 * c * side * side * I64 for c, side in ((32, 16), (64, 8), (128, 4))
    )  # N images, C channels, one for each position of the pooled map
    assert saved[0] - indices == 2 * (saved[1] - indices)


def test_checkpoints_keep_the_inputs_of_blocks_only() -> None:
    """At the end of forward: what the two later blocks were given, three states of random numbers, and the head."""
    plain, checkpointed = (
        step_stream(cnn(checkpoint=each), images(8), Step(optimizer=MOMENTUM)) for each in (False, True)
    )
    given = 8 * (32 * 16 * 16 + 64 * 8 * 8) * F32
    states, head = 3 * 5_056, 8 * (128 + 10 + 10) * F32 + 2 * LOSS
    one = next(number for number, event in enumerate(checkpointed.events) if _operator(checkpointed, event) == ONES)
    gradients = 379_944  # which `zero_grad` let go of
    assert checkpointed.live_bytes[one] - (checkpointed.live_bytes[0] - gradients) == given + states + head
    assert checkpointed.peak_bytes < plain.peak_bytes


ONES = "aten.ones_like"


def _operator(stream: Stream, event: Event) -> str:
    return stream.blocks[event.block].operator


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"micro_batches": 0}, "at least one micro-batch, got 0"),
        ({"gradients": False}, "give backward=False"),
        ({"optimizer": SGD(), "backward": False}, "give optimizer=None"),
    ],
)
def test_steps_that_cannot_be(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Step(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "x", "says"),
    [
        (GRU(input_size=IN, hidden_size=HIDDEN), TensorSpec((4, N, IN)), r"of GRU \(there is one for BatchNorm, "),
        (Linear(in_features=IN, out_features=OUT), TensorSpec((4, N, IN)), r"rows \(N, C\), as here on \(4, 2, 5\)"),
        (Conv2d(in_channels=3, out_channels=4, kernel_size=3), TensorSpec((3, 8, 8)), "a batch of images"),
        (
            Conv2d(in_channels=3, out_channels=4, kernel_size=3, padding=1, padding_mode="circular"),
            images(2),
            "copies its input to pad it",
        ),
        (BatchNorm(num_features=3, affine=False), images(2), "BatchNorm without weight and bias"),
    ],
)
def test_layers_whose_rule_is_not_known_are_named(layer: Layer, x: TensorSpec, says: str) -> None:
    with pytest.raises(NoRuleError, match=says):
        step_stream(Network((Named("layer", layer),)), x, Step())


@pytest.mark.parametrize(
    ("settings", "x"),
    [
        ({"stride": 2}, images(8)),
        ({"dilation": 2}, images(8)),
        ({"groups": 3, "out_channels": 6}, images(8)),
        ({"groups": 3, "out_channels": 3, "kernel_size": 5}, images(8)),
        ({}, images(8, dtype="bfloat16")),
    ],
)
def test_convolutions_that_nobody_watched_are_refused_by_onednn_alone(settings: dict[str, int], x: TensorSpec) -> None:
    conv = Conv2d(**({"in_channels": 3, "out_channels": 4, "kernel_size": 3} | settings))  # type: ignore[arg-type]
    pool = MaxPool2d(kernel_size=conv.output(x).shape[-1])
    network = Network((Named("conv", conv), Named("pool", pool), Named("flat", Flatten())))
    with pytest.raises(NoRuleError, match="without a backend the step's own part is still exact"):
        step_stream(network, x, Step(), OneDNN())
    assert signed(step_stream(network, x, Step(), CPU())) != []


def test_a_checkpoint_that_ends_in_a_layer_that_keeps_nothing_is_refused() -> None:
    network = replace(TINY, checkpoints=frozenset({"last"}))
    with pytest.raises(NoRuleError, match="ends with last, which saves no result"):
        step_stream(network, TensorSpec((N, IN)), Step())
    step_stream(network, TensorSpec((N, IN)), Step(backward=False))


def test_checkpoints_under_autocast_are_refused() -> None:
    with pytest.raises(NoRuleError, match="under autocast"):
        step_stream(cnn(checkpoint=True), images(2), Step(autocast="bfloat16"))
