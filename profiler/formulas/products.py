"""Products: matrices, convolutions, and what is contracted like them. One multiply-add is 2 FLOPs; the bias of a
forward product is left out.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..records import Signature
from .price import Formula, Price, argument, flags, is_tensor, product, tensors

# Matrices ---------------------------------------------------------------------------------------------------------


def _matrices(left: Any, right: Any) -> Price:
    """(..., M, K) @ (..., K, N): each element of the left meets a row of N; a vector on the right is N = 1."""
    return product(left.elements * (right.shape[-1] if len(right.shape) > 1 else 1), left, right)


def mm(signature: Signature) -> Price:
    """(M, K) @ (K, N), in batches for bmm; mv: (M, K) @ (K,); dot: (K,) @ (K,)."""
    left, right = argument(signature, 0, "self"), argument(signature, 1, "mat2")
    return _matrices(left, right if is_tensor(right) else _other(signature))


def _other(signature: Signature) -> Any:
    """The right factor where the schema has another name for it: mv, dot, vdot."""
    return next(signature.keywords[name] for name in ("vec", "tensor", "other") if name in signature.keywords)


def addmm(signature: Signature) -> Price:
    """bias + A @ B, in batches or not; the addition is left out."""
    left = argument(signature, 1, "mat1", signature.keywords.get("mat", signature.keywords.get("batch1")))
    right = argument(signature, 2, "mat2", signature.keywords.get("vec", signature.keywords.get("batch2")))
    return _matrices(left, right)


def outer(signature: Signature) -> Price:
    """addr: bias + (M,) (N,)^T."""
    left, right = argument(signature, 1, "vec1"), argument(signature, 2, "vec2")
    return product(left.elements * right.elements, left, right)


def contraction(signature: Signature) -> Price:
    """(..., K) by a matrix that may be packed or transposed: each output element is a sum over K."""
    left = argument(signature, 0, "self", signature.keywords.get("input"))
    return product(signature.outputs[0].elements * left.shape[-1], left)


def linear_backward(signature: Signature) -> Price:
    """input, grad_output, weight, mask: a product for each gradient; the bias's is a sum over rows."""
    x, gradient, weight = (argument(signature, at, name) for at, name in enumerate(("self", "grad_output", "weight")))
    mask = flags(argument(signature, 3, "output_mask"), 3)
    once = product(x.elements * weight.shape[0], x)
    bias = gradient.elements if mask[2] else 0
    return Price(*(part * (mask[0] + mask[1]) for part in once)).plus(bias)


def linear_cross_entropy(signature: Signature) -> Price:
    """input (N, F), weight (C, F), target, ...: a product, a softmax of N*C and a pick; at 12, 13, 14 whether the
    gradients of input, weight and bias are made on the way: softmax and pick again, a product for each of the first
    two, a sum of N*C for the third."""
    x, weight = argument(signature, 0, "input"), argument(signature, 1, "linear_weight")
    wanted = [bool(argument(signature, at, "", False)) for at in (12, 13, 14)]
    rows, classes = prod(x.shape[:-1]), weight.shape[0]
    once = (5 * classes + 1) * rows
    made = product(x.elements * classes * (1 + wanted[0] + wanted[1]), x)
    return made.plus(once * (1 + any(wanted)) + rows * classes * wanted[2])


def grouped(signature: Signature) -> Price:
    """Groups of rows, columns or K, by offsets that are data; together they are taken to fill the operands.

    Rows (T, K) @ (G, K, N): every row meets one matrix, T*K*N. Columns (G, M, K) @ (K, T): every column meets one,
    M*K*T. K (M, T) @ (T, N) -> (G, M, N): every k is in one group, M*T*N. None: (G, M, K) @ (G, K, N), plain batches.
    """
    left, right = argument(signature, 0, "self"), argument(signature, 1, "mat2")
    if len(left.shape) == 3 and len(right.shape) == 2:
        return product(prod(left.shape[1:]) * right.shape[-1], left, right)
    return _matrices(left, right)


def listed_mm(signature: Signature) -> Price:
    """_foreach_mm: pairs of matrices."""
    pairs = zip(tensors(argument(signature, 0, "self")), tensors(argument(signature, 1, "mat2")), strict=True)
    parts = [_matrices(left, right) for left, right in pairs]
    return Price(sum(part.flops for part in parts), sum(part.matmul_flops for part in parts))


def trilinear(signature: Signature) -> Price:
    """_trilinear: i1, i2, i3, the dimensions each is expanded in, those summed, and one that is looped over.

    Computed as (i1 * i2) summed over what i3 lacks, times i3 and summed over the rest: two contractions. Each has
    a multiply-add per combination of its operands' dimensions, once for every turn of the loop.
    """
    operands = [argument(signature, at, name) for at, name in enumerate(("i1", "i2", "i3"))]
    expands = [argument(signature, at, f"expand{at - 2}") for at in (3, 4, 5)]
    summed, loop = argument(signature, 6, "sumdim"), argument(signature, 7, "unroll_dim", 1)
    rank = len(operands[0].shape) + len(expands[0])
    loop %= rank
    held = [set(range(rank)) - {dim % rank for dim in expand} for expand in expands]
    sizes = [1] * rank
    for operand, dims in zip(operands, held, strict=True):
        for dim, size in zip(sorted(dims), operand.shape, strict=True):
            sizes[dim] = size
    first = held[0] | held[1]
    second = (first - ({dim % rank for dim in summed} - held[2])) | held[2]
    return product(sum(prod(sizes[dim] for dim in dims | {loop}) for dims in (first, second)), *operands)


# Convolutions -----------------------------------------------------------------------------------------------------
# A weight is (C_out, C_in/groups, *kernel), or transposed (C_in, C_out/groups, *kernel): each element of the output,
# or transposed of the input, meets all of the weight behind its first dimension.


def _convolved(spread: Any, weight: Any, times: int = 1) -> Price:
    return product(times * spread.elements * prod(weight.shape[1:]), spread, weight)


def _input_and_weight(signature: Signature) -> tuple[Any, Any]:
    return argument(signature, 0, "input", signature.keywords.get("self")), argument(signature, 1, "weight")


def convolution(signature: Signature) -> Price:
    """input, weight, bias, stride, padding, dilation, transposed, output_padding, groups."""
    x, weight = _input_and_weight(signature)
    return _convolved(x if argument(signature, 6, "transposed", False) else signature.outputs[0], weight)


def convolution_without_transpose(signature: Signature) -> Price:
    """Backends' own entry points (mkldnn, cudnn, depthwise): input, weight, ...; never transposed."""
    return _convolved(signature.outputs[0], _input_and_weight(signature)[1])


def convolution_transposed(signature: Signature) -> Price:
    """Backends' own entry points for transposed convolution: input, weight, ..."""
    return _convolved(*_input_and_weight(signature))


def convolution_time_batch_channels(signature: Signature) -> Price:
    """conv_tbc: (T, N, C_in) by a weight (kernel, C_in, C_out)."""
    kernel, channels, _ = _input_and_weight(signature)[1].shape
    return product(signature.outputs[0].elements * kernel * channels)


def _convolution_gradients(transposed: int, mask: int) -> Formula:
    """grad_output, input, weight, ...: with the places of the flag and of the output mask.

    The gradients of input and weight are products over the same triples as the forward one, groups and all.
    """

    def formula(signature: Signature) -> Price:
        gradient, x, weight = (argument(signature, at, name) for at, name in enumerate(_GRADIENT_INPUT_WEIGHT))
        wanted = flags(argument(signature, mask, "output_mask"), 3)
        spread = x if argument(signature, transposed, "transposed", False) else gradient
        once = _convolved(spread, weight, times=wanted[0] + wanted[1])
        return once._replace(bias_flops=gradient.elements if wanted[2] else 0)

    return formula


_GRADIENT_INPUT_WEIGHT = ("grad_output", "input", "weight")
# grad_output, input, weight, [bias_sizes,] stride, padding, dilation, transposed, output_padding, groups, mask
convolution_backward = _convolution_gradients(transposed=7, mask=10)
convolution_backward_overrideable = _convolution_gradients(transposed=6, mask=9)


# Deformable convolution -------------------------------------------------------------------------------------------

_SAMPLE = 8  # a bilinear sample: four taps, a multiply-add each (see windows.py)


def _columns(x: Any, weight: Any, positions: Any) -> int:
    """Samples taken: each input channel, at each element of the kernel, for each output position."""
    return int(x.shape[0] * x.shape[1] * prod(weight.shape[2:]) * prod(positions.shape[2:]))


def deformable_convolution(signature: Signature) -> Price:
    """input, weight, offset, mask, ..., use_mask: the product of a convolution over bilinear samples.

    A sample is 8 FLOPs, and one more where it is multiplied by the mask.
    """
    x, weight = _input_and_weight(signature)
    masked = bool(argument(signature, 13, "use_mask", False))
    samples = _columns(x, weight, signature.outputs[0])
    return _convolved(signature.outputs[0], weight).plus(samples * (_SAMPLE + masked))


def deformable_convolution_backward(signature: Signature) -> Price:
    """grad, input, weight, offset, mask, bias, ..., use_mask: all gradients, whichever are wanted.

    Two products. For each sample: taken again for the weight's gradient (8), spread to the input's (8), and two
    coordinates' (8 each); with a mask three multiplications by it, and its own gradient's multiply-add (2).
    """
    gradient, x, weight = (argument(signature, at, name) for at, name in enumerate(("grad", "input", "weight")))
    masked = bool(argument(signature, 14, "use_mask", False))
    samples = _columns(x, weight, gradient) * (4 * _SAMPLE + 5 * masked)
    return _convolved(gradient, weight, times=2).plus(samples)._replace(bias_flops=gradient.elements)


def affine_grid(signature: Signature) -> Price:
    """theta (N, D, D+1) and a size: each position (D+1 numbers) times theta, D sums over D+1."""
    dimensions = argument(signature, 0, "theta").shape[-2]
    return product(signature.outputs[0].elements * (dimensions + 1))
