"""Embeddings against look-ups one by one, and against real tables."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from torchtally.theory.embedding import Embedding, EmbeddingBag
from torchtally.theory.layer import ShapeError
from torchtally.theory.tensor import TensorSpec

from .brute import Grid, Tally, indices
from .cases import examples
from .holding import Truth, hold
from .real import Real, agree, filled, grid, numbers, observe, spec

ROWS = 5


def drawn(*shape: int) -> Tensor:
    """Indices into a table of that many rows, some more than once."""
    return (numbers(*shape).abs() * 8).long() % ROWS


def look_up(table: Grid, bags: dict[tuple[int, ...], list[int]], *, mean: bool) -> tuple[Grid, Tally]:
    """Each bag's rows added up, one operation per element of them; a mean is of as many rows as the bag has."""
    _, width = table.shape
    tally, found = Tally(), {}
    for place, rows in bags.items():
        for e in range(width):
            total = 0.0
            for row in rows:
                total += table.at[row, e]
                tally.operations += 1
            found[*place, e] = total / len(rows) if mean and rows else total
    shape = tuple(max((place[i] for place in bags), default=-1) + 1 for i in range(len(next(iter(bags), ()))))
    return Grid((*shape, width), found), tally


def scatter(table: Grid, bags: dict[tuple[int, ...], list[int]], upstream: Tensor, *, mean: bool) -> tuple[Grid, Tally]:
    """Each element of the upstream gradient is added to every row it came from."""
    gradient, tally = Grid.zeros(table.shape), Tally()
    dy = grid(upstream)
    for place, rows in bags.items():
        for row in rows:
            for e in range(table.shape[1]):
                gradient.at[row, e] += dy.at[*place, e] / (len(rows) if mean else 1)
                tally.operations += 1
    return gradient, tally


def truth(seen: Real, inputs: list[Tensor], dtype: str, forward: Tally, weight: Tally, **stated: Any) -> Truth:
    return Truth(
        output=tuple(seen.output.shape),
        parameters=seen.parameters,
        buffers=seen.buffers,
        input_gradients=[None] * len(inputs),
        dtype=dtype,
        forward=forward,
        input=Tally(),
        weight=weight,
        bias=Tally(),
        **stated,
    )


@examples(60)
@given(st.lists(st.integers(0, 3), max_size=3), st.integers(1, 4), st.sampled_from(["float32", "float64"]))
def test_embedding(shape: list[int], width: int, dtype: str) -> None:
    """Looking up moves data: no FLOPs. Its gradient is one addition per element looked up."""
    layer, at = filled(nn.Embedding(ROWS, width, dtype=getattr(torch, dtype))), drawn(*shape)
    seen = observe(layer, at)
    places = dict(zip(indices(shape), ([row] for row in at.flatten().tolist()), strict=True))
    gradient, tally = scatter(grid(layer.weight), places, seen.upstream, mean=False)
    assert agree(gradient, layer.weight.grad)
    form = Embedding(num_embeddings=ROWS, embedding_dim=width, dtype=dtype)
    hold(form, [spec(at)], truth(seen, [at], dtype, Tally(), tally, saved_bytes=seen.saved_bytes))


@examples(60)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(1, 3),
    st.sampled_from(["sum", "mean"]),
    st.booleans(),
)
def test_bags(lengths: list[int], width: int, mode: str, with_offsets: bool) -> None:
    if not with_offsets:
        lengths = [lengths[0]] * len(lengths)
    layer = filled(nn.EmbeddingBag(ROWS, width, mode=mode))
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    at = drawn(sum(lengths))
    bags = {(i,): at[a : a + n].tolist() for i, (a, n) in enumerate(zip(starts, lengths, strict=True))}
    inputs = [at, torch.tensor(starts)] if with_offsets else [at.reshape(len(lengths), lengths[0])]
    seen = observe(layer, *inputs)
    found, forward = look_up(grid(layer.weight), bags, mean=mode == "mean")
    gradient, backward = scatter(grid(layer.weight), bags, seen.upstream, mean=mode == "mean")
    assert agree(found, seen.output) and agree(gradient, layer.weight.grad)
    form = EmbeddingBag(num_embeddings=ROWS, embedding_dim=width, mode=mode)
    stated = truth(seen, inputs, "float32", forward, backward, saved_bytes=seen.saved_bytes)
    hold(form, [spec(x) for x in inputs], stated)


def test_indices_that_are_none() -> None:
    with pytest.raises(ShapeError):
        Embedding(num_embeddings=3, embedding_dim=2).output(TensorSpec((2,), "float32"))
    with pytest.raises(RuntimeError):
        nn.Embedding(3, 2)(torch.zeros(2))
