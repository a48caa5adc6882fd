"""Matrix products and convolutions against named dimensions, and against what FlopCounterMode says of their parts."""

from __future__ import annotations

from itertools import product as combinations
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from torch import nn

from torchtally.profiler.formulas import Price

from .running import count, numbers, priced, tensor

B, M, K, N = 3, 4, 5, 6


def flops(multiply_adds: int) -> Price:
    return Price(2 * multiply_adds, 2 * multiply_adds)


@pytest.mark.parametrize(
    ("operator", "shapes", "multiply_adds"),
    [
        (torch.mm, [(M, K), (K, N)], M * K * N),
        (torch.mv, [(M, K), (K,)], M * K),
        (torch.dot, [(K,), (K,)], K),
        (torch.vdot, [(K,), (K,)], K),
        (torch.bmm, [(B, M, K), (B, K, N)], B * M * K * N),
        (torch.addmm, [(M, N), (M, K), (K, N)], M * K * N),
        (torch.addmm, [(N,), (M, K), (K, N)], M * K * N),
        (torch.addmv, [(M,), (M, K), (K,)], M * K),
        (torch.addr, [(M, N), (M,), (N,)], M * N),
        (torch.baddbmm, [(B, M, N), (B, M, K), (B, K, N)], B * M * K * N),
        (torch.addbmm, [(M, N), (B, M, K), (B, K, N)], B * M * K * N),
        (torch.matmul, [(2, B, M, K), (K, N)], 2 * B * M * K * N),
        (torch.matmul, [(2, 1, M, K), (B, K, N)], 2 * B * M * K * N),
        (torch.matmul, [(K,), (B, K, N)], B * K * N),
        (torch.inner, [(M, K), (N, K)], M * K * N),
        (torch.outer, [(M,), (N,)], None),
        (F.linear, [(B, M, K), (N, K)], B * M * K * N),
        (F.linear, [(K,), (N, K), (N,)], K * N),
        (lambda a, b: torch.einsum("bmk,bnk->bmn", a, b), [(B, M, K), (B, N, K)], B * M * K * N),
        (lambda a, b: torch.einsum("mk,k->m", a, b), [(M, K), (K,)], M * K),
    ],
)
def test_products_by_their_dimensions(operator: Any, shapes: list[tuple[int, ...]], multiply_adds: int | None) -> None:
    seen = count(operator, *(numbers(*shape, grad=False) for shape in shapes))
    assert not seen.unpriced
    assert seen.forward.matmul_flops == (0 if multiply_adds is None else 2 * multiply_adds)


def test_empty_and_scalar_operands() -> None:
    for a, b in [((0, K), (K, N)), ((M, 0), (0, N)), ((M, K), (K, 0))]:
        assert count(torch.mm, numbers(*a), numbers(*b)).forward == Price()
    assert count(lambda a, b: a * b, numbers(), numbers()).forward == Price(1)


def test_out_variants_and_keywords() -> None:
    out = torch.empty(M, N)
    a, b = numbers(M, K, grad=False), numbers(K, N, grad=False)
    assert count(lambda: torch.mm(a, b, out=out)).forward == flops(M * K * N)
    assert count(lambda: torch.ops.aten.mm(self=a, mat2=b)).forward == flops(M * K * N)
    # As a mode above another may pass them on.
    given = {"self": tensor(M, K), "mat2": tensor(K, N)}
    assert priced("aten.mm.default", **given, outputs=[tensor(M, N)]) == flops(M * K * N)
    given = {"self": tensor(N), "mat1": tensor(M, K), "mat2": tensor(K, N)}
    assert priced("aten.addmm.default", **given, outputs=[tensor(M, N)]) == flops(M * K * N)
    given = {"self": tensor(M, K), "vec": tensor(K)}
    assert priced("aten.mv.default", **given, outputs=[tensor(M)]) == flops(M * K)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_products_are_four_real_ones(dtype: torch.dtype) -> None:
    """(a + bi)(c + di) and an addition: 4 multiplications and 4 additions, so 8 FLOPs a multiply-add."""
    a, b = numbers(M, K, dtype=dtype), numbers(K, N, dtype=dtype)
    seen = count(torch.mm, a, b)
    assert seen.forward == flops(4 * M * K * N)
    assert seen.backward.matmul_flops == 2 * 4 * 2 * M * K * N


def test_integer_products_count_as_products() -> None:
    a = torch.ones(M, K, dtype=torch.int64)
    assert count(torch.mm, a, torch.ones(K, N, dtype=torch.int64)).forward == flops(M * K * N)


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_backward_of_a_product_is_one_per_factor_that_needs_it(needs: tuple[bool, bool]) -> None:
    seen = count(torch.mm, numbers(M, K, grad=needs[0]), numbers(K, N, grad=needs[1]))
    assert seen.backward == flops(sum(needs) * M * K * N)


def test_grouped_mm() -> None:
    rows, groups = 8, 3
    packed = priced("aten._grouped_mm", tensor(rows, K), tensor(groups, K, N), tensor(groups, dtype="int32"))
    assert packed == flops(rows * K * N)
    assert priced("aten._grouped_mm", tensor(groups, M, K), tensor(groups, K, N)) == flops(groups * M * K * N)
    along_columns = priced("aten._grouped_mm", tensor(groups, M, K), tensor(K, rows), tensor(groups, dtype="int32"))
    assert along_columns == flops(M * K * rows)
    along_k = priced("aten._grouped_mm", tensor(M, rows), tensor(rows, N), tensor(groups, dtype="int32"))
    assert along_k == flops(M * rows * N)


def test_grouped_mm_is_the_sum_of_its_groups() -> None:
    x = torch.rand(8, 16, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.rand(3, 16, 32, dtype=torch.bfloat16, requires_grad=True)
    ends = torch.tensor([2, 3, 8], dtype=torch.int32)
    seen = count(lambda a, b: F.grouped_mm(a, b, offs=ends), x, weight)
    starts = [0, 2, 3]
    parts = [
        count(torch.mm, x[a:b].detach(), weight[i].detach()) for i, (a, b) in enumerate(zip(starts, ends, strict=True))
    ]
    assert seen.forward.matmul_flops == sum(part.fcm[0] for part in parts) == 2 * 8 * 16 * 32
    assert seen.backward.matmul_flops == 2 * seen.forward.matmul_flops
    assert seen.fcm == (0, 0)  # FlopCounterMode has no formula


def test_low_precision_products() -> None:
    left, right, scale = tensor(M, K, dtype="float8_e4m3fn"), tensor(K, N, dtype="float8_e4m3fn"), tensor()
    out = [tensor(M, N, dtype="bfloat16")]
    assert priced("aten._scaled_mm.default", left, right, scale, scale, outputs=out) == flops(M * K * N)
    assert priced("aten._int_mm.default", left, right, outputs=out) == flops(M * K * N)
    packed = tensor(N // 2, K, dtype="uint8")
    assert priced("aten._weight_int4pack_mm_for_cpu", left, packed, 32, tensor(), outputs=out) == flops(M * K * N)
    assert priced("aten._weight_int8pack_mm", left, tensor(N, K, dtype="int8"), tensor(N), outputs=out) == flops(
        M * K * N
    )


def test_bilinear_contracts_two_operands_at_a_time() -> None:
    """For each of O features x1 W_o, M*I1*I2 multiply-adds, times x2, M*I2. Backward each gradient likewise."""
    i1, i2, o = 3, 4, 5
    seen = count(nn.Bilinear(i1, i2, o, bias=False), numbers(M, i1), numbers(M, i2))
    assert seen.forward == flops(M * o * (i1 * i2 + i2))
    first, second, weight = 2 * i1 * i2, i1 * i2 + i2, i1 * i2 + i1
    assert seen.backward.matmul_flops == 2 * M * o * (first + second + weight)
    assert seen.fcm == (0, 0)


def test_linear_backward_adds_the_bias_gradient() -> None:
    shapes = tensor(M, K), tensor(M, N), tensor(N, K)
    assert priced("aten.linear_backward", *shapes, (True, True, True)) == flops(2 * M * K * N).plus(M * N)
    assert priced("aten.linear_backward", *shapes, (False, True, False)) == flops(M * K * N)


# Convolutions -----------------------------------------------------------------------------------------------------

KINDS = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, nn.ConvTranspose3d)}
SETTINGS = [
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 2, "dilation": 2, "padding": 2},
    {"kernel_size": 1},
    {"kernel_size": 4, "stride": 2, "bias": False},
]


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("needs_input", [True, False])
def test_convolutions(
    dimensions: int, groups: int, transposed: bool, settings: dict[str, Any], needs_input: bool
) -> None:
    """N * positions * C_out * C_in/g * kernel multiply-adds; positions of the output, or transposed of the input."""
    c_in, c_out, batch = 4, 8, 2
    layer = KINDS[dimensions][transposed](c_in, c_out, groups=groups, **settings)
    x = numbers(batch, c_in, *(7, 6, 5)[:dimensions], grad=needs_input)
    seen = count(layer, x)
    y = layer(x)
    positions = prod((x if transposed else y).shape[2:])
    once = 2 * batch * positions * c_out * (c_in // groups) * settings["kernel_size"] ** dimensions
    assert seen.forward == Price(once, once)
    products = (1 + needs_input) * once
    bias = y.numel() if settings.get("bias", True) else 0
    assert seen.backward == Price(products, products, bias)
    assert seen.fcm[0] == once
    if groups == 1:
        assert seen.fcm[1] == products


@pytest.mark.parametrize("transposed", [False, True])
def test_grouped_convolution_is_its_groups_side_by_side(transposed: bool) -> None:
    """An independent witness: FlopCounterMode, which is right without groups, on each group by itself."""
    groups, c_in, c_out = 3, 6, 9
    kind = KINDS[2][transposed]
    seen = count(kind(c_in, c_out, 3, groups=groups, stride=2, bias=False), numbers(2, c_in, 7, 8))
    part = count(kind(c_in // groups, c_out // groups, 3, stride=2, bias=False), numbers(2, c_in // groups, 7, 8))
    assert seen.forward.matmul_flops == groups * part.fcm[0] == seen.fcm[0]
    assert seen.backward.matmul_flops == groups * part.fcm[1] != seen.fcm[1]


def multiply_adds_by_loops(
    sizes: tuple[int, int], kernel: int, stride: int, channels: tuple[int, int], groups: int
) -> int:
    """Every multiplication of a convolution without padding, one at a time."""
    done = 0
    outputs = [range(0, size - kernel + 1, stride) for size in sizes]
    for _ in combinations(*outputs):
        for out_channel, in_channel in combinations(range(channels[1]), range(channels[0])):
            same_group = out_channel * groups // channels[1] == in_channel * groups // channels[0]
            done += kernel * kernel * same_group
    return done


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution_by_loops(groups: int) -> None:
    macs = multiply_adds_by_loops((7, 6), 3, 2, (4, 8), groups)
    seen = count(nn.Conv2d(4, 8, 3, stride=2, groups=groups, bias=False), numbers(1, 4, 7, 6))
    assert seen.forward == flops(macs)
    assert seen.backward == flops(2 * macs)


def test_unbatched_and_empty_convolutions() -> None:
    layer = nn.Conv2d(4, 8, 3, bias=False)
    assert count(layer, numbers(4, 7, 6)).forward == flops(5 * 4 * 8 * 4 * 9)
    assert count(layer, numbers(0, 4, 7, 6)).forward == Price()


def test_backends_own_entry_points() -> None:
    x, w, y = tensor(2, 4, 7, 6), tensor(8, 2, 3, 3), tensor(2, 8, 5, 4)
    once = flops(2 * 8 * 5 * 4 * 2 * 9)
    pairs = (1, 1)
    zeros = (0, 0)
    assert priced("aten.convolution", x, w, None, pairs, zeros, pairs, False, zeros, 2, outputs=[y]) == once
    assert priced("aten.cudnn_convolution", x, w, zeros, pairs, pairs, 2, False, False, True, outputs=[y]) == once
    assert priced("aten.mkldnn_convolution", x, w, None, zeros, pairs, pairs, 2, outputs=[y]) == once
    # (C_in, C_out/groups, k, k), from 5x4 to 7x6
    args = (y, tensor(8, 2, 3, 3), zeros, zeros, pairs, pairs, 2, False, False, True)
    assert priced("aten.cudnn_convolution_transpose", *args, outputs=[x]) == once
    masked = (y, x, w, pairs, zeros, pairs, False, zeros, 2, (True, True, True))
    assert priced("aten.convolution_backward_overrideable", *masked) == Price(
        2 * once.flops, 2 * once.flops, y.elements
    )
    assert count(
        lambda a, b, c: torch.conv_tbc(a, b, c), numbers(5, 2, 3), numbers(2, 3, 4), numbers(4)
    ).forward == flops(4 * 2 * 4 * 2 * 3)


@pytest.mark.parametrize("masked", [False, True])
def test_deformable_convolution(masked: bool) -> None:
    """A convolution over bilinear samples: 8 each, weighted by the mask 9."""
    n, c_in, c_out, k, size = 2, 4, 6, 3, 5
    x, weight = numbers(n, c_in, 7, 7), numbers(c_out, c_in, k, k)
    offset = numbers(n, 2 * k * k, size, size)
    mask = numbers(n, k * k, size, size) if masked else None
    seen = count(lambda a, o, w: torchvision.ops.deform_conv2d(a, o, w, mask=mask), x, offset, weight)
    samples = n * c_in * k * k * size * size
    once = 2 * c_out * samples
    assert not seen.unpriced
    assert seen.of("torchvision.deform_conv2d") == Price(once + (8 + masked) * samples, once)
    backward = seen.of("_deform_conv2d_backward")
    assert backward.matmul_flops == 2 * once
    assert backward.flops == 2 * once + (32 + 5 * masked) * samples


def test_affine_grid_is_a_product() -> None:
    n, h, w = 2, 3, 4
    seen = count(lambda theta: F.affine_grid(theta, [n, 1, h, w], align_corners=False), numbers(n, 2, 3))
    assert seen.of("affine_grid_generator").matmul_flops == 2 * n * h * w * 3 * 2
    assert seen.backward.matmul_flops == 2 * n * h * w * 3 * 2
