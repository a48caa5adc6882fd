"""Layers by their definitions, one operation at a time, counting. The standard library only; no formulas.

Everything here is a loop over a definition. Sizes are found by sliding a window until it no longer fits, or
by collecting the positions that were touched; counts are tallied where the arithmetic is done. A product with
padding is a product (a multiplication by zero), as the counting convention and PyTorch's counters have it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

Index = tuple[int, ...]


@dataclass
class Tally:
    """What was done: `products` are multiply-adds, `operations` the rest; bias additions stand apart."""

    products: int = 0
    operations: int = 0
    bias_additions: int = 0


@dataclass
class Grid:
    """A tensor as a dictionary from index to number."""

    shape: Index
    at: dict[Index, float] = field(repr=False)

    @classmethod
    def of(cls, shape: Sequence[int], numbers: Iterable[float]) -> Grid:
        return cls(tuple(shape), dict(zip(indices(shape), numbers, strict=True)))

    @classmethod
    def zeros(cls, shape: Sequence[int]) -> Grid:
        return cls(tuple(shape), dict.fromkeys(indices(shape), 0.0))

    def flat(self) -> list[float]:
        return [self.at[index] for index in indices(self.shape)]


def indices(shape: Sequence[int]) -> Iterator[Index]:
    """Every index of a tensor, the last dimension fastest."""
    return itertools.product(*(range(size) for size in shape))


@dataclass
class Result:
    """What a layer computed, forward and backward, and what each part took."""

    output: Grid
    forward: Tally
    input_gradients: list[Grid]
    input: Tally
    weight_gradients: dict[str, Grid]
    weight: Tally
    bias_gradients: dict[str, Grid]
    bias: Tally


# --- windows ------------------------------------------------------------------------------------------------


def slide(size: int, before: int, after: int, kernel: int, stride: int, dilation: int) -> list[list[int]]:
    """The positions that each placing of a window covers; those below 0, or `size` and above, are padding."""
    placings = []
    start = -before
    while True:
        covered = [start + offset * dilation for offset in range(kernel)]
        if covered[-1] >= size + after:
            return placings
        placings.append(covered)
        start += stride


def same_padding(size: int, kernel: int, dilation: int) -> tuple[int, int]:
    """The least padding that gives a window `size` places; of an odd number the end has the larger part."""
    for total in itertools.count():
        before = total // 2
        if len(slide(size, before, total - before, kernel, 1, dilation)) == size:
            return before, total - before
    raise AssertionError("unreachable")


def blocks(count: int, groups: int) -> list[list[int]]:
    """`count` channels dealt into `groups` consecutive blocks of one size."""
    fair = next(each for each in range(count + 1) if each * groups == count)
    channels = iter(range(count))
    return [list(itertools.islice(channels, fair)) for _ in range(groups)]


# --- convolutions -------------------------------------------------------------------------------------------


def convolution(
    x: Grid,
    weight: Grid,
    bias: Grid | None,
    upstream: Iterable[float],
    *,
    out_channels: int,
    groups: int,
    padding: Sequence[tuple[int, int]],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Result:
    """y[n,o,p] = b[o] + sum over c, k of w[o,c,k] * x[n,c,p*stride+k*dilation-padding].

    `x` has its batch dimension.
    """
    batch, in_channels, *sizes = x.shape
    kernel = weight.shape[2:]
    placings = [
        slide(size, before, after, k, s, d)
        for size, (before, after), k, s, d in zip(sizes, padding, kernel, stride, dilation, strict=True)
    ]
    places = [len(placed) for placed in placings]
    inputs, outputs = blocks(in_channels, groups), blocks(out_channels, groups)
    y, forward = Grid.zeros((batch, out_channels, *places)), Tally()
    for n, group in itertools.product(range(batch), range(groups)):
        for o, p in itertools.product(outputs[group], indices(places)):
            total = 0.0
            for c, channel in enumerate(inputs[group]):
                for k in indices(kernel):
                    where = tuple(placed[i][j] for placed, i, j in zip(placings, p, k, strict=True))
                    total += weight.at[o, c, *k] * x.at.get((n, channel, *where), 0.0)
                    forward.products += 1
            y.at[n, o, *p] = total + (bias.at[o,] if bias else 0.0)

    dy = Grid.of(y.shape, upstream)
    dx, of_input = Grid.zeros(x.shape), Tally()
    # By dimension, for each element, padding included: the placings and offsets by which a window meets it.
    met = [
        {
            position: [(i, j) for i, covered in enumerate(placed) for j, at in enumerate(covered) if at == position]
            for position in range(-before, size + after)
        }
        for size, (before, after), placed in zip(sizes, padding, placings, strict=True)
    ]
    for n, group in itertools.product(range(batch), range(groups)):
        for c, channel in enumerate(inputs[group]):
            for where in itertools.product(*met):
                total = 0.0
                for meeting in itertools.product(*(meetings[at] for meetings, at in zip(met, where, strict=True))):
                    p, k = tuple(i for i, _ in meeting), tuple(j for _, j in meeting)
                    for o in outputs[group]:
                        total += dy.at[n, o, *p] * weight.at[o, c, *k]
                        of_input.products += 1
                if (n, channel, *where) in dx.at:
                    dx.at[n, channel, *where] = total

    dw, of_weight = Grid.zeros(weight.shape), Tally()
    for group in range(groups):
        for o, (c, channel), k in itertools.product(outputs[group], enumerate(inputs[group]), indices(kernel)):
            for n, p in itertools.product(range(batch), indices(places)):
                where = tuple(placed[i][j] for placed, i, j in zip(placings, p, k, strict=True))
                dw.at[o, c, *k] += dy.at[n, o, *p] * x.at.get((n, channel, *where), 0.0)
                of_weight.products += 1
    of_bias = Tally()
    db = {"bias": channel_sums(dy, of_bias)} if bias else {}
    return Result(y, forward, [dx], of_input, {"weight": dw}, of_weight, db, of_bias)


def transposed_convolution(
    x: Grid,
    weight: Grid,
    bias: Grid | None,
    upstream: Iterable[float],
    *,
    out_channels: int,
    groups: int,
    padding: Sequence[int],
    output_padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Result:
    """Each x[n,c,i] is spread: y[n,o,i*stride+k*dilation-padding] += w[c,o,k] * x[n,c,i].

    The output reaches from the first to the last position touched, less `padding` at both ends, and
    `output_padding` more at the far one. What is spread beyond it was a product all the same.
    """
    batch, in_channels, *sizes = x.shape
    kernel = weight.shape[2:]
    inputs, outputs = blocks(in_channels, groups), blocks(out_channels, groups)
    reach = [
        [[i * s + k * d for k in range(taps)] for i in range(size)]
        for size, taps, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    kept = []
    for touched, cut, extra in zip(reach, padding, output_padding, strict=True):
        last = max(position for spread in touched for position in spread)
        kept.append({at: place for place, at in enumerate(range(cut, last + 1 - cut + extra))})
    y, forward = Grid.zeros((batch, out_channels, *(len(places) for places in kept))), Tally()
    if bias:
        for index in y.at:
            y.at[index] = bias.at[index[1],]

    def landing(i: Index, k: Index) -> Index | None:
        """Where offset k of input position i ends up in the output; None where that is cut off."""
        spots = tuple(r[a][b] for r, a, b in zip(reach, i, k, strict=True))
        if not all(spot in places for spot, places in zip(spots, kept, strict=True)):
            return None
        return tuple(places[spot] for spot, places in zip(spots, kept, strict=True))

    for n, group in itertools.product(range(batch), range(groups)):
        for channel, i in itertools.product(inputs[group], indices(sizes)):
            for (o, out), k in itertools.product(enumerate(outputs[group]), indices(kernel)):
                product = weight.at[channel, o, *k] * x.at[n, channel, *i]
                forward.products += 1
                if (spot := landing(i, k)) is not None:
                    y.at[n, out, *spot] += product

    dy = Grid.of(y.shape, upstream)
    dx, of_input = Grid.zeros(x.shape), Tally()
    for n, group in itertools.product(range(batch), range(groups)):
        for channel, i in itertools.product(inputs[group], indices(sizes)):
            for (o, out), k in itertools.product(enumerate(outputs[group]), indices(kernel)):
                spot = landing(i, k)
                dx.at[n, channel, *i] += weight.at[channel, o, *k] * (dy.at[n, out, *spot] if spot else 0.0)
                of_input.products += 1

    dw, of_weight = Grid.zeros(weight.shape), Tally()
    for group in range(groups):
        for channel, (o, out), k in itertools.product(inputs[group], enumerate(outputs[group]), indices(kernel)):
            for n, i in itertools.product(range(batch), indices(sizes)):
                spot = landing(i, k)
                dw.at[channel, o, *k] += x.at[n, channel, *i] * (dy.at[n, out, *spot] if spot else 0.0)
                of_weight.products += 1
    of_bias = Tally()
    db = {"bias": channel_sums(dy, of_bias)} if bias else {}
    return Result(y, forward, [dx], of_input, {"weight": dw}, of_weight, db, of_bias)


def channel_sums(dy: Grid, tally: Tally) -> Grid:
    """The gradient of a bias per channel: every element of dy is added to its channel's sum."""
    sums = Grid.zeros((dy.shape[1],))
    for index, value in dy.at.items():
        sums.at[index[1],] += value
        tally.bias_additions += 1
    return sums


# --- linear -------------------------------------------------------------------------------------------------


def linear(x: Grid, weight: Grid, bias: Grid | None, upstream: Iterable[float]) -> Result:
    """y[...,o] = b[o] + sum over i of w[o,i] * x[...,i]; to the bias gradient each element of dy is added."""
    out, features = weight.shape
    *rows, _ = x.shape
    y, forward = Grid.zeros((*rows, out)), Tally()
    for row in indices(rows):
        for o in range(out):
            total = 0.0
            for i in range(features):
                total += weight.at[o, i] * x.at[*row, i]
                forward.products += 1
            y.at[*row, o] = total + (bias.at[o,] if bias else 0.0)
    dy = Grid.of(y.shape, upstream)
    dx, of_input = Grid.zeros(x.shape), Tally()
    for row in indices(rows):
        for i, o in itertools.product(range(features), range(out)):
            dx.at[*row, i] += dy.at[*row, o] * weight.at[o, i]
            of_input.products += 1
    dw, of_weight = Grid.zeros(weight.shape), Tally()
    for o, i in indices(weight.shape):
        for row in indices(rows):
            dw.at[o, i] += dy.at[*row, o] * x.at[*row, i]
            of_weight.products += 1
    db, of_bias = Grid.zeros((out,)), Tally()
    if bias:
        for row, o in itertools.product(indices(rows), range(out)):
            db.at[o,] += dy.at[*row, o]
            of_bias.operations += 1
    return Result(y, forward, [dx], of_input, {"weight": dw}, of_weight, {"bias": db} if bias else {}, of_bias)


# --- pooling ------------------------------------------------------------------------------------------------


def pool_windows(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> list[list[int]]:
    """`slide`; in ceil mode a window in the input may hang over the padded end by less than a stride."""
    if not ceil_mode:
        return slide(size, padding, padding, kernel, stride, dilation)
    placings = []
    start = -padding
    while start < size:
        covered = [start + offset * dilation for offset in range(kernel)]
        overhang = covered[-1] + 1 - (size + padding)
        if overhang >= stride:
            break
        placings.append(covered)
        start += stride
    return placings


def adaptive_windows(size: int, count: int) -> list[list[int]]:
    """A row of unit cells, and `count` windows of one width over the same row: the cells each meets."""
    return [
        [cell for cell in range(size) if cell * count < (i + 1) * size and (cell + 1) * count > i * size]
        for i in range(count)
    ]


def pooling(
    x: Grid,
    windows: Sequence[Sequence[Sequence[int]]],
    upstream: Iterable[float],
    *,
    maximum: bool,
    divide_by: str = "inside",
    padding: Sequence[int] = (),
) -> Result:
    """The maximum or the mean of each window; one operation per element of it, wherever it lies.

    A mean is divided by the number of window elements "inside" the input, or "padded": in it or its padding.
    Backward, each element of each window gets its part of dy: the first maximum all of it, or all the same.
    """
    dimensions = len(windows)
    sizes = x.shape[-dimensions:]
    leading = x.shape[:-dimensions]
    y, forward = Grid.zeros((*leading, *(len(each) for each in windows))), Tally()
    share: dict[Index, float | Index] = {}
    margins = padding or (0,) * dimensions
    for lead in indices(leading):
        for p in indices([len(each) for each in windows]):
            spots = list(itertools.product(*(each[i] for each, i in zip(windows, p, strict=True))))
            best, where, total, inside, padded = float("-inf"), (), 0.0, 0, 0
            for spot in spots:
                forward.operations += 1
                padded += all(at < size + m for at, size, m in zip(spot, sizes, margins, strict=True))
                if (*lead, *spot) not in x.at:
                    continue
                value = x.at[*lead, *spot]
                total, inside = total + value, inside + 1
                if value > best:
                    best, where = value, spot
            if maximum:
                y.at[*lead, *p], share[*lead, *p] = best, where
            else:
                divisor = inside if divide_by == "inside" else padded
                y.at[*lead, *p], share[*lead, *p] = total / divisor, 1 / divisor
    dy = Grid.of(y.shape, upstream)
    dx, of_input = Grid.zeros(x.shape), Tally()
    for index, value in dy.at.items():
        lead, p = index[:-dimensions], index[-dimensions:]
        part = share[index]
        for spot in itertools.product(*(each[i] for each, i in zip(windows, p, strict=True))):
            of_input.operations += 1
            if (*lead, *spot) in dx.at:
                dx.at[*lead, *spot] += value * (part if isinstance(part, float) else float(spot == part))
    return Result(y, forward, [dx], of_input, {}, Tally(), {}, Tally())


# --- normalization ------------------------------------------------------------------------------------------


def normalization(
    x: Grid,
    weight: Grid | None,
    bias: Grid | None,
    upstream: Iterable[float],
    *,
    same_statistics: Callable[[Index], Index],
    same_weight: Callable[[Index], Index],
    eps: float,
    given: tuple[Grid, Grid] | None = None,
    centred: bool = True,
) -> Result:
    """(x - mean) / sqrt(variance + eps) * weight + bias in five visits to each element, each one operation.

    `same_statistics` names the set an element is normalized with, `same_weight` the weight it meets. `given`
    are a mean and variance that were not computed from x. Without `centred` the mean is taken to be 0 (RMS).
    The convention is five per element whichever of the visits a kind of normalization can do without.
    """
    y, forward = Grid.zeros(x.shape), Tally()
    members: dict[Index, int] = {}
    sums: dict[Index, float] = {}
    squares: dict[Index, float] = {}
    for index, value in x.at.items():
        group = same_statistics(index)
        members[group] = members.get(group, 0) + 1
        sums[group] = sums.get(group, 0.0) + value
        forward.operations += 1
    mean = {group: sums[group] / members[group] if centred else 0.0 for group in sums}
    if given:
        mean = {group: given[0].at[group] for group in sums}
    for index, value in x.at.items():
        group = same_statistics(index)
        squares[group] = squares.get(group, 0.0) + (value - mean[group]) ** 2
        forward.operations += 1
    variance = {group: squares[group] / members[group] for group in sums}
    if given:
        variance = {group: given[1].at[group] for group in sums}
    scale = {group: (value + eps) ** -0.5 for group, value in variance.items()}
    normal: dict[Index, float] = {}
    for index, value in x.at.items():
        group = same_statistics(index)
        normal[index] = (value - mean[group]) * scale[group]
        forward.operations += 1
    for index in x.at:
        y.at[index] = normal[index] * (weight.at[same_weight(index)] if weight else 1.0)
        forward.operations += 1
    for index in x.at:
        y.at[index] += bias.at[same_weight(index)] if bias else 0.0
        forward.operations += 1

    dy = Grid.of(y.shape, upstream)
    dx, backward = Grid.zeros(x.shape), Tally()
    db = Grid.zeros(bias.shape) if bias else None
    dw = Grid.zeros(weight.shape) if weight else None
    slopes: dict[Index, float] = {}
    first: dict[Index, float] = {}
    second: dict[Index, float] = {}
    for index, value in dy.at.items():
        if db:
            db.at[same_weight(index)] += value
        backward.operations += 1
    for index, value in dy.at.items():
        if dw:
            dw.at[same_weight(index)] += value * normal[index]
        backward.operations += 1
    for index, value in dy.at.items():
        group = same_statistics(index)
        slopes[index] = value * (weight.at[same_weight(index)] if weight else 1.0)
        first[group] = first.get(group, 0.0) + slopes[index]
        second[group] = second.get(group, 0.0) + slopes[index] * normal[index]
        backward.operations += 1
    for index in dy.at:
        group = same_statistics(index)
        through = 0.0 if given else normal[index] * second[group] / members[group]
        if centred and not given:
            through += first[group] / members[group]
        slopes[index] -= through
        backward.operations += 1
    for index in dy.at:
        dx.at[index] = slopes[index] * scale[same_statistics(index)]
        backward.operations += 1
    return Result(
        y,
        forward,
        [dx],
        backward,
        {"weight": dw} if dw else {},
        Tally(),
        {"bias": db} if db else {},
        Tally(),
    )
