"""Attention, recurrent and bilinear layers by their equations, over scalars that remember. See `tape`.

Rows are lists of scalars. Weights are named as PyTorch names them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .tape import Scalar, Scalars, Tape

Row = list[Scalar]
Weights = Mapping[str, Scalars]


def affine(tape: Tape, x: Row, weight: Scalars, bias: Scalars | None = None) -> Row:
    """W x + b for one row."""
    out, _ = weight.shape
    y = [tape.dot(weight.row(o), x) for o in range(out)]
    return y if bias is None else plus(tape, y, bias.row())


def plus(tape: Tape, *rows: Row) -> Row:
    return [tape.add(*terms) for terms in zip(*rows, strict=True)]


def bilinear(tape: Tape, left: Row, right: Row, weight: Scalars, bias: Scalars | None) -> Row:
    """y[o] = sum over i, j of left[i] * W[o,i,j] * right[j]: left times W first, then that times right."""
    out, rows, columns = weight.shape
    y = []
    for o in range(out):
        through = [tape.dot(left, [weight.at[o, i, j] for i in range(rows)]) for j in range(columns)]
        y.append(tape.dot(through, right))
    return y if bias is None else plus(tape, y, bias.row())


def attention(
    tape: Tape, queries: Sequence[Row], keys: Sequence[Row], values: Sequence[Row], *, causal: bool = False
) -> list[Row]:
    """softmax(q k / sqrt(d)) v for one head of one sample. What is masked is computed, then replaced by 0."""
    results = []
    for i, query in enumerate(queries):
        scores = [tape.scale(tape.dot(query, key), 1 / math.sqrt(len(query))) for key in keys]
        if causal:
            scores = [s if j <= i else Scalar(-math.inf) for j, s in enumerate(scores)]
        shares = tape.softmax(scores)
        results.append([tape.dot(shares, [value[e] for value in values]) for e in range(len(values[0]))])
    return results


def multi_head_attention(
    tape: Tape,
    heads: int,
    weights: Weights,
    queries: Sequence[Row],
    keys: Sequence[Row],
    values: Sequence[Row],
) -> list[Row]:
    """Project all three; each head attends with its share of the features; project what they say together."""
    embedding = len(queries[0])
    size = next(each for each in range(embedding + 1) if each * heads == embedding)

    def part(name: str, which: int) -> Scalars | None:
        """The third of a stacked parameter that belongs to queries, keys or values."""
        if name not in weights:
            return None
        stacked = weights[name]
        first = which * embedding
        return Scalars(
            (embedding, *stacked.shape[1:]),
            {(i - first, *rest): s for (i, *rest), s in stacked.at.items() if 0 <= i - first < embedding},
        )

    projected = []
    for which, (name, rows) in enumerate(zip("qkv", (queries, keys, values), strict=True)):
        weight = weights.get(f"{name}_proj_weight") or part("in_proj_weight", which)
        assert weight is not None
        projected.append([affine(tape, row, weight, part("in_proj_bias", which)) for row in rows])
    joined: list[Row] = [[] for _ in queries]
    for head in range(heads):
        share = slice(head * size, (head + 1) * size)
        said = attention(tape, *([row[share] for row in rows] for rows in projected))
        for row, more in zip(joined, said, strict=True):
            row.extend(more)
    return [affine(tape, row, weights["out_proj.weight"], weights.get("out_proj.bias")) for row in joined]


# --- recurrent layers ---


def cell(tape: Tape, kind: str, weights: Weights, suffix: str, x: Row, state: tuple[Row, ...]) -> tuple[Row, ...]:
    """One step: the new state, hidden first."""
    h = state[0]
    from_x = affine(tape, x, weights[f"weight_ih{suffix}"], weights.get(f"bias_ih{suffix}"))
    from_h = affine(tape, h, weights[f"weight_hh{suffix}"], weights.get(f"bias_hh{suffix}"))
    if kind in ("tanh", "relu"):
        return ([getattr(tape, kind)(a) for a in plus(tape, from_x, from_h)],)
    if kind == "LSTM":
        _, c = state
        n = len(c)
        gates = plus(tape, from_x, from_h)
        i, f, o = ([tape.sigmoid(a) for a in gates[k * n : (k + 1) * n]] for k in (0, 1, 3))
        g = [tape.tanh(a) for a in gates[2 * n : 3 * n]]
        c = [tape.add(tape.multiply(f[k], c[k]), tape.multiply(i[k], g[k])) for k in range(n)]
        out = [tape.multiply(o[k], tape.tanh(c[k])) for k in range(n)]
        if f"weight_hr{suffix}" in weights:
            out = affine(tape, out, weights[f"weight_hr{suffix}"])
        return out, c
    n = len(h)
    r, z = (
        [tape.sigmoid(a) for a in plus(tape, from_x[k * n : (k + 1) * n], from_h[k * n : (k + 1) * n])] for k in (0, 1)
    )
    gated = [tape.multiply(r[k], a) for k, a in enumerate(from_h[2 * n :])]
    new = [tape.tanh(a) for a in plus(tape, from_x[2 * n :], gated)]
    one = [tape.of(1 - a.value, (a, -1.0)) for a in z]
    return ([tape.add(tape.multiply(one[k], new[k]), tape.multiply(z[k], h[k])) for k in range(n)],)


def recurrent(
    tape: Tape,
    kind: str,
    weights: Weights,
    sequence: Sequence[Row],
    *,
    layers: int,
    directions: int,
    state: Sequence[tuple[Row, ...]],
) -> list[Row]:
    """All layers and directions over one sequence; `state` has an initial state per layer and direction."""
    rows = list(sequence)
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            now = state[layer * directions + direction]
            said = []
            for x in reversed(rows) if direction else rows:
                now = cell(tape, kind, weights, suffix, x, now)
                said.append(now[0])
            outputs.append(said[::-1] if direction else said)
        rows = [[a for row in step for a in row] for step in zip(*outputs, strict=True)]
    return rows
