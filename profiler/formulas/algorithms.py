"""Algorithms with a known operation count: Fourier transforms, distances, connectionist temporal classification,
matrix factorizations. Iterative ones (SVD, eigenvalues), whose count depends on the data, are not here.
"""

from __future__ import annotations

from math import log2, prod
from typing import Any

from ..records import Signature
from .price import Formula, Price, argument, is_complex, tensors

# Fourier transforms: 5 n log2 n FLOPs for n complex numbers, half for real ones, rounded to a whole number ----------


def _passes(elements: int, sizes: list[int]) -> float:
    """Complex transforms along dimensions of these sizes, of that many elements in all."""
    return 5 * elements * sum(log2(size) for size in sizes if size > 0)


def _sides(tensor: Any, dims: Any) -> list[int]:
    return [tensor.shape[dim] for dim in dims]


def fft(signature: Signature) -> Price:
    """_fft_c2c: input, dim, ..."""
    x, dims = argument(signature, 0, "self"), argument(signature, 1, "dim")
    return Price(round(_passes(x.elements, _sides(x, dims))))


def fft_of_real(signature: Signature) -> Price:
    """_fft_r2c: input, dim, ...: along the last of the dimensions real, then complex on what that leaves (half)."""
    x, dims = argument(signature, 0, "self"), argument(signature, 1, "dim")
    if not dims:
        return Price()
    half = x.elements // max(x.shape[dims[-1]], 1) * (x.shape[dims[-1]] // 2 + 1)
    return Price(round(_passes(x.elements, _sides(x, dims[-1:])) / 2 + _passes(half, _sides(x, dims[:-1]))))


def fft_to_real(signature: Signature) -> Price:
    """_fft_c2r: input, dim, ...: complex on the half spectrum, then real along the last of the dimensions."""
    x, dims, y = argument(signature, 0, "self"), argument(signature, 1, "dim"), signature.outputs[0]
    if not dims:
        return Price()
    return Price(round(_passes(x.elements, _sides(x, dims[:-1])) + _passes(y.elements, _sides(y, dims[-1:])) / 2))


# Distances --------------------------------------------------------------------------------------------------------


def distances(flops: int, vectors: int, pairs: int | None) -> Formula:
    """`flops` for each coordinate of each pair: difference, power, sum. Argument `pairs` (None: the output) has an
    element per pair, argument `vectors` the width."""

    def formula(signature: Signature) -> Price:
        count = (signature.outputs[0] if pairs is None else argument(signature, pairs, "grad_output")).elements
        return Price(flops * count * argument(signature, vectors, "x1", signature.keywords.get("self")).shape[-1])

    return formula


def euclidean_distances(signature: Signature) -> Price:
    """_euclidean_dist: |x|^2 + |y|^2 - 2xy as one product of vectors longer by two, squares and sums of both before,
    a clamp and a root per pair after."""
    x, y = argument(signature, 0, "x1"), argument(signature, 1, "x2")
    pairs = signature.outputs[0].elements
    multiply_adds = 2 * pairs * (x.shape[-1] + 2)
    return Price(multiply_adds + 2 * pairs + 2 * (x.elements + y.elements), multiply_adds)


# Connectionist temporal classification: a state per time step and symbol of the extended target, (N, T, 2S+1) --------

_STATE = 10  # the log-sum of three earlier states (3 each), and the log-probability added


def ctc_loss(signature: Signature) -> Price | None:
    """The second output holds a number per state."""
    return Price(_STATE * signature.outputs[1].elements) if len(signature.outputs) > 1 else None


def ctc_loss_backward(signature: Signature) -> Price:
    """grad, log_probs, ..., log_alpha at 6: as many states backwards, each joined (1) and log-added to its symbol's
    (3); then 5 per log-probability, as a softmax."""
    states = argument(signature, 6, "log_alpha").elements
    return Price((_STATE + 4) * states + 5 * argument(signature, 1, "log_probs").elements)


# Factorizations of (..., n, n) and (..., m, n)
# -------------------------------------------------------------------------- The usual leading terms, exact in thirds
# and rounded down; complex ones are four times as many.


def _complexity(tensor: Any) -> int:
    return 4 if is_complex(tensor) else 1


def _square(signature: Signature) -> tuple[Any, int, int]:
    """The matrix, how many there are, and n."""
    a = argument(signature, 0, "A", signature.keywords.get("self"))
    return a, prod(a.shape[:-2]), a.shape[-1]


def cubic(thirds: int) -> Formula:
    """`thirds`/3 n^3: Cholesky 1, LU and determinant 2, an inverse 6."""

    def formula(signature: Signature) -> Price:
        a, batch, n = _square(signature)
        return Price(_complexity(a) * batch * (thirds * n**3 // 3))

    return formula


def _columns(a: Any, b: Any) -> int:
    """Right-hand sides: (..., n, k), or vectors (..., n)."""
    return int(b.elements // max(a.shape[-1], 1))


def solve(signature: Signature) -> Price:
    """_linalg_solve_ex: A, B: LU, 2/3 n^3, and two triangles, 2 n^2 for each right-hand side."""
    a, batch, n = _square(signature)
    return Price(_complexity(a) * (batch * (2 * n**3 // 3) + 2 * n * n * _columns(a, argument(signature, 1, "B"))))


def triangular(times: int, matrix: int = 0, right: int = 1) -> Formula:
    """n^2 FLOPs for each right-hand side and triangle."""

    def formula(signature: Signature) -> Price:
        a, b = tensors(signature.arguments)[matrix], tensors(signature.arguments)[right]
        return Price(_complexity(a) * times * a.shape[-1] ** 2 * _columns(a, b))

    return formula


def _householder(a: Any) -> int:
    """Vectors that turn (m, n) into a triangle, k the smaller side: 4 m n k - 2 (m + n) k^2 + 4/3 k^3."""
    (m, n), batch = a.shape[-2:], prod(a.shape[:-2])
    k = min(m, n)
    return int(_complexity(a) * batch * ((12 * m * n * k - 6 * (m + n) * k * k + 4 * k**3) // 3))


def qr(signature: Signature) -> Price:
    """linalg_qr: the vectors, and Q made of them, which costs as much again."""
    a = argument(signature, 0, "A")
    return Price(_householder(a) * (1 if argument(signature, 1, "mode") == "r" else 2))


def householder(signature: Signature) -> Price:
    """geqrf: the vectors; linalg_householder_product: Q made of them."""
    return Price(_householder(argument(signature, 0, "self", signature.keywords.get("input"))))
