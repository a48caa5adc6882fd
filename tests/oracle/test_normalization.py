"""Normalizations against five visits to each element, and against real layers."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from torchtally.theory.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm

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


LEARNED = st.sampled_from([(False, False), (True, False), (True, True)])


@examples(60)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.lists(st.integers(1, 3), max_size=3),
    LEARNED,
    DTYPES,
)
def test_group_norm(
    batch: int, groups: int, each: int, sizes: list[int], learned: tuple[bool, bool], dtype: str
) -> None:
    channels = groups * each
    affine, bias = learned
    settings: dict[str, Any] = {"affine": affine}
    if affine and not bias:
        assume("bias" in signature(nn.GroupNorm).parameters)
        settings["bias"] = False
    layer = filled(nn.GroupNorm(groups, channels, eps=EPS, dtype=getattr(torch, dtype), **settings))
    x = numbers(batch, channels, *sizes, dtype=getattr(torch, dtype)).requires_grad_()
    assume(x.numel() > channels)  # torch refuses one value per channel
    dealt = {channel: g for g, block in enumerate(brute.blocks(channels, groups)) for channel in block}
    seen = observe(layer, x)
    result = brute.normalization(
        grid(x),
        grid(layer.weight) if affine else None,
        grid(layer.bias) if bias else None,
        seen.upstream.flatten().tolist(),
        same_statistics=lambda index: (index[0], dealt[index[1]]),
        same_weight=lambda index: index[1:2],
        eps=EPS,
    )
    check(GroupNorm(num_groups=groups, num_channels=channels, dtype=dtype, **settings), seen, x, result)


@examples(60)
@given(
    st.lists(st.integers(0, 3), max_size=2),
    st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple),
    LEARNED,
    DTYPES,
)
def test_layer_norm(lead: list[int], normalized: tuple[int, ...], learned: tuple[bool, bool], dtype: str) -> None:
    affine, bias = learned
    settings = {"elementwise_affine": affine, "bias": bias or not affine}
    layer = filled(nn.LayerNorm(normalized, eps=EPS, dtype=getattr(torch, dtype), **settings))
    x = numbers(*lead, *normalized, dtype=getattr(torch, dtype)).requires_grad_()
    seen = observe(layer, x)
    result = brute.normalization(
        grid(x),
        grid(layer.weight) if affine else None,
        grid(layer.bias) if bias else None,
        seen.upstream.flatten().tolist(),
        same_statistics=lambda index: index[: len(lead)],
        same_weight=lambda index: index[len(lead) :],
        eps=EPS,
    )
    check(LayerNorm(normalized_shape=normalized, dtype=dtype, **settings), seen, x, result)


@examples(60)
@given(
    st.lists(st.integers(0, 3), max_size=2),
    st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple),
    st.booleans(),
    DTYPES,
)
def test_rms_norm(lead: list[int], normalized: tuple[int, ...], affine: bool, dtype: str) -> None:
    """As one kernel. What it keeps is not compared: on CPU torch takes it apart and keeps more."""
    layer = filled(nn.RMSNorm(normalized, eps=EPS, elementwise_affine=affine, dtype=getattr(torch, dtype)))
    x = numbers(*lead, *normalized, dtype=getattr(torch, dtype)).requires_grad_()
    seen = observe(layer, x)
    result = brute.normalization(
        grid(x),
        grid(layer.weight) if affine else None,
        None,
        seen.upstream.flatten().tolist(),
        same_statistics=lambda index: index[: len(lead)],
        same_weight=lambda index: index[len(lead) :],
        eps=EPS,
        centred=False,
    )
    form = RMSNorm(normalized_shape=normalized, elementwise_affine=affine, dtype=dtype)
    assert same_computation(result, seen)
    hold(form, [spec(x)], Truth.counted(result, dtype=dtype, buffers={}, parts=once(result)))
    hold(form, [spec(x)], observed(seen, x, saved_bytes=None))
