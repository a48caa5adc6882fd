"""One number for one model, whatever its tensors are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import torchtally
from torchtally import Profile
from torchtally.models import CNN, CNNConfig, example

from .running import Calling, seeded, step

N, I, H, O = 4, 6, 10, 3  # noqa: E741


def two_layers(dtype: torch.dtype | None = None) -> nn.Sequential:
    return seeded(lambda: nn.Sequential(nn.Linear(I, H, dtype=dtype), nn.Tanh(), nn.Linear(H, O, dtype=dtype)))


def facts(run: Profile) -> list[tuple[Any, ...]]:
    """What must not depend on device or layout."""
    return [
        (row.path, row.phase, row.calls, row.input_shape, row.output_shape, row.flops, row.matmul_flops, row.bias_flops)
        + (row.parameter_bytes, row.activation_bytes, row.gradient_bytes, row.parameter_gradient_bytes)
        for row in run.ledger.rows
    ]


def cnn_facts(change: Callable[[nn.Module, Tensor], tuple[nn.Module, Tensor]] = lambda m, x: (m, x)) -> list[Any]:
    model = seeded(CNN)
    model, x = change(model, example(CNNConfig(), 2)[0])
    return facts(step(model, x))


@pytest.mark.parametrize(
    ("dtype", "width"),
    [(torch.float64, 8), (torch.float32, 4), (torch.bfloat16, 2), (torch.float16, 2), (torch.complex64, 8)],
)
def test_dtypes_change_bytes_and_nothing_else(dtype: torch.dtype, width: int) -> None:
    model = two_layers(dtype)
    with torchtally.profile(model) as run:
        y = model(torch.ones(N, I, dtype=dtype))
        (y.real if dtype.is_complex else y).sum().backward()
    assert run.totals["forward_matmul_flops"] == 2 * N * (I * H + H * O)
    assert run.totals["backward_matmul_flops"] == 2 * N * I * H + 2 * (2 * N * H * O)
    assert run.totals["parameter_bytes"] == width * (I * H + H + H * O + O)
    assert run.totals["activation_bytes"] == width * N * (H + H + O)
    assert run.totals["gradient_bytes"] == width * N * (H + H)
    assert run.totals["parameter_gradient_bytes"] == width * (I * H + H + H * O + O)
    assert run.coverage.complete


def test_autocast() -> None:
    """Products in bfloat16, whose casts cost no FLOPs; parameters and their gradients stay in float32."""
    model = nn.Sequential(nn.Linear(I, H), nn.ReLU(), nn.Linear(H, O))
    with torchtally.profile(model) as run, torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(torch.ones(N, I)).float().sum()
        loss.backward()
    plain = step(nn.Sequential(nn.Linear(I, H), nn.ReLU(), nn.Linear(H, O)), torch.ones(N, I))
    for name in ("forward_flops", "forward_matmul_flops", "backward_flops", "backward_matmul_flops"):
        assert run.totals[name] == plain.totals[name]
    assert run.totals["activation_bytes"] == 2 * N * (H + H + O)
    assert run.totals["parameter_bytes"] == run.totals["parameter_gradient_bytes"] == 4 * (I * H + H + H * O + O)
    assert run.ledger.row("2", "backward").gradient_bytes == 2 * N * H


def test_mixed_dtypes_in_one_model() -> None:
    model = Calling(lambda m, x: m.b(m.a(x).double()), a=nn.Linear(I, H), b=nn.Linear(H, O, dtype=torch.float64))
    run = step(model, torch.ones(N, I))
    assert run.ledger.row("a").activation_bytes == 4 * N * H
    assert run.ledger.row("b").activation_bytes == 8 * N * O
    assert run.ledger.row("b", "backward").gradient_bytes == 8 * N * H


def test_channels_last_is_the_same() -> None:
    assert (
        cnn_facts(
            lambda m, x: (m.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last))
        )
        == cnn_facts()
    )


def test_views_as_inputs_are_the_same() -> None:
    x = torch.ones(I, N).t()
    assert facts(step(two_layers(), x)) == facts(step(two_layers(), torch.ones(N, I)))


def test_the_meta_device_is_the_same() -> None:
    assert cnn_facts(lambda m, x: (m.to("meta"), x.to("meta"))) == cnn_facts()


def test_a_model_too_big_for_any_machine() -> None:
    size = 2**20
    with torch.device("meta"):
        model, x = nn.Linear(size, size), torch.ones(8, size)
    run = step(model, x)
    assert run.totals["parameter_bytes"] == 4 * (size * size + size)
    assert run.totals["forward_flops"] == 2 * 8 * size * size


def test_fake_tensors_are_the_same() -> None:
    with FakeTensorMode():
        fake = cnn_facts()
    assert fake == cnn_facts()


def test_a_block_around_fake_tensors_is_the_same() -> None:
    with FakeTensorMode():
        model, x = seeded(CNN), torch.ones(2, 3, 32, 32)
    assert facts(step(model, x)) == cnn_facts()


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_do_not_depend_on_the_data(seed: int) -> None:
    torch.manual_seed(seed)
    assert facts(step(two_layers(), torch.randn(N, I))) == facts(step(two_layers(), torch.zeros(N, I)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_is_the_same() -> None:
    assert cnn_facts(lambda m, x: (m.cuda(), x.cuda())) == cnn_facts()
