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
    names = (
        "path phase calls input_shape output_shape flops matmul_flops bias_flops "
        "parameter_bytes activation_bytes gradient_bytes parameter_gradient_bytes"
    ).split()
    return [tuple(getattr(row, name) for name in names) for row in run.ledger.rows]


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
    # A complex multiply-add is four real products and four real additions.
    multiply_add = 8 if dtype.is_complex else 2
    assert run.totals["forward_matmul_flops"] == multiply_add * N * (I * H + H * O)
    assert run.totals["backward_matmul_flops"] == multiply_add * N * (I * H + 2 * H * O)
    assert run.compare().ok is not dtype.is_complex, "closed forms count real arithmetic"
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


# Tensors without one shape --------------------------------------------------------------------------------------------


def padded_encoder() -> None:
    """PyTorch itself makes a nested tensor of a padded batch here."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True).eval()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        watch(model, torch.ones(2, 5, 8), src_key_padding_mask=padding)


def nested(layout: torch.layout) -> Callable[[], None]:
    def run() -> None:
        watch(nn.Linear(I, O), torch.nested.nested_tensor([torch.ones(2, I), torch.ones(5, I)], layout=layout))

    return run


def watch(model: nn.Module, *args: Any, **kwargs: Any) -> None:
    expected = model(*args, **kwargs)
    with torchtally.profile(model) as run:
        result = model(*args, **kwargs)
    assert result.is_nested == expected.is_nested
    assert run.ledger.row("").calls == 1
    assert "total" in str(run)


@pytest.mark.parametrize("work", [padded_encoder, nested(torch.strided), nested(torch.jagged)])
@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_nested_tensors_do_no_harm(work: Callable[[], None]) -> None:
    work()


@pytest.mark.parametrize(
    "work",
    [
        lambda model, x: torch.func.vmap(model)(x),
        lambda model, x: torch.func.jacrev(model)(x[0]),
        lambda model, x: torch.func.grad(lambda y: model(y).sum())(x),
        lambda model, x: torch.func.functional_call(model, dict(model.named_parameters()), x),
    ],
    ids=["vmap", "jacrev", "grad", "functional_call"],
)
def test_function_transforms_do_no_harm(work: Callable[[nn.Module, Tensor], Tensor]) -> None:
    model, x = nn.Linear(I, O), torch.ones(N, I)
    expected = work(model, x)
    with torchtally.profile(model) as run:
        assert torch.equal(work(model, x), expected)
    assert run.totals["forward_matmul_flops"] > 0


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_sparse_and_quantized_tensors_do_no_harm() -> None:
    model = Calling(lambda m, x: torch.sparse.mm(x, m.layer.weight), layer=nn.Linear(I, I))
    run = step(model, torch.eye(I).to_sparse())
    assert run.coverage.unpriced, "what has no price is named"
    assert ">=" in str(run) and "unpriced: aten._sparse_addmm" in str(run)
    quantized = torch.quantize_per_tensor(torch.ones(N, I), 0.1, 0, torch.qint8)
    assert step(nn.Identity(), quantized, backward=False).ledger.row("").output_shape == (N, I)
