"""Normalizations against five visits to each element, and against real layers."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from torchtally.theory.normalization import BatchNorm

from . import brute
from .brute import Index, Result, Tally
from .cases import examples
from .holding import Truth, hold
from .real import Real, filled, grid, numbers, observe, observed, same_computation, spec

DTYPES = st.sampled_from(["float32", "float64"])
EPS = 0.5  # large, so that float32 and plain Python agree to the last digit that is compared


def once(result: Result) -> Any:
    """Backward is one pass: under the input if it needs a gradient, else under the weight if any does."""

    def parts(inputs: tuple[bool, ...], weight: bool, bias: bool) -> tuple[Tally, Tally, Tally]:
        if any(inputs):
            return result.input, Tally(), Tally()
        learned = (weight and result.weight_gradients) or (bias and result.bias_gradients)
        return Tally(), result.input if learned else Tally(), Tally()

    return parts


def check(form: Any, seen: Real, x: torch.Tensor, result: Result) -> None:
    assert same_computation(result, seen)
    truth = Truth.counted(result, dtype=spec(x).dtype, buffers=seen.buffers, parts=once(result))
    hold(form, [spec(x)], truth)
    hold(form, [spec(x)], observed(seen, x))


@examples(100)
@given(
    st.integers(0, 4),
    st.integers(1, 4),
    st.lists(st.integers(1, 4), max_size=3),
    st.sampled_from([(False, False), (True, False), (True, True)]),
    st.booleans(),
    st.booleans(),
    DTYPES,
)
def test_batch_norm(
    batch: int,
    channels: int,
    sizes: list[int],
    learned: tuple[bool, bool],
    tracked: bool,
    training: bool,
    dtype: str,
) -> None:
    kind = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[len(sizes)]
    x = numbers(batch, channels, *sizes, dtype=getattr(torch, dtype)).requires_grad_()
    of_batch = training or not tracked
    assume(not of_batch or x.numel() // channels > 1)
    affine, bias = learned
    settings = {"affine": affine, "track_running_stats": tracked}
    if affine and not bias:
        assume("bias" in signature(kind).parameters)  # newer versions of torch
        settings["bias"] = False
    layer = filled(kind(channels, eps=EPS, dtype=getattr(torch, dtype), **settings)).train(training)
    if tracked:
        layer.running_mean += 0.25
        layer.running_var += 0.5
    statistics = (grid(layer.running_mean), grid(layer.running_var)) if not of_batch else None

    def channel(index: Index) -> Index:
        return index[1:2]

    seen = observe(layer, x)
    result = brute.normalization(
        grid(x),
        grid(layer.weight) if affine else None,
        grid(layer.bias) if bias else None,
        seen.upstream.flatten().tolist(),
        same_statistics=channel,
        same_weight=channel,
        eps=EPS,
        given=statistics,
    )
    form = BatchNorm(num_features=channels, training=training, dtype=dtype, **settings)
    check(form, seen, x, result)
