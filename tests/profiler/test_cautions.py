"""Models that cannot be observed as they are: compiled ones run as their eager twins, others are named."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import torchtally

N, A, B = 5, 8, 4


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(A, B), nn.ReLU())


@pytest.fixture(scope="module", autouse=True)
def compiled_once() -> None:
    """The first compilation of a process patches nn.Module for good; that is torch's doing, not ours."""
    torch.compile(network(), backend="eager")(torch.randn(N, A))


@pytest.mark.parametrize("when", ["before", "inside"])
def test_a_compiled_model_is_counted_as_its_eager_twin(when: str) -> None:
    torch._dynamo.reset()
    compiled, x = torch.compile(network(), backend="eager"), torch.randn(N, A)
    if when == "before":
        compiled(x).sum().backward()
    with torchtally.profile(compiled) as run:
        compiled(x).sum().backward()
    assert run.totals["forward_flops"] == 2 * N * A * B + N * B
    assert run.totals["backward_flops"] == 2 * N * A * B + N * B + N * B, "weight, bias, ReLU; the input needs none"
    assert any("eager twins" in note for note in run.coverage.notes)


def test_modules_of_a_compiled_model_have_rows_of_their_own() -> None:
    torch._dynamo.reset()
    compiled, x = torch.compile(network(), backend="eager"), torch.randn(N, A)
    compiled(x)
    with torchtally.profile(compiled) as run:
        compiled(x)
    assert run.ledger.row("_orig_mod.0").flops == 2 * N * A * B
    assert run.ledger.row("_orig_mod.1").flops == N * B


def test_compiled_code_is_compiled_again_after_the_block() -> None:
    torch._dynamo.reset()
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(1)
        return graph.forward

    model, x = network(), torch.randn(N, A)
    with torchtally.profile(model):
        model(x)
    torch.compile(model, backend=backend)(x)
    assert graphs, "compilation was left switched off"


def test_scripted_models_say_where_their_work_stands() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(A, B)))
    with torchtally.profile(scripted) as run:
        scripted(torch.randn(N, A))
    assert run.totals["forward_matmul_flops"] == 2 * N * A * B
    assert any("ScriptModules" in note for note in run.coverage.notes)
    assert not run.coverage.complete


def test_an_ordinary_model_has_nothing_to_say() -> None:
    model = network()
    with torchtally.profile(model) as run:
        model(torch.randn(N, A)).sum().backward()
    assert run.coverage.notes == ()
    assert run.coverage.complete


def test_inference_mode_runs_the_same_kernels() -> None:
    """Operators arrive whole there, and are taken apart as C++ would: bilinear upsampling stays one operator."""
    model, x = nn.Upsample(scale_factor=2, mode="bilinear"), torch.rand(1, 3, 4, 4)
    with torch.no_grad():
        alone = model(x)
    with torchtally.profile(model) as run, torch.inference_mode():
        observed = model(x)
    with torchtally.profile(model) as other, torch.no_grad():
        model(x)
    assert torch.equal(alone, observed)
    assert run.totals["forward_flops"] == other.totals["forward_flops"]


def test_a_run_on_fake_tensors_does_no_harm_to_the_next() -> None:
    code = (
        "import torch, torchtally\n"
        "from torch import nn\n"
        "from torch._subclasses.fake_tensor import FakeTensorMode\n"
        "class Divided(nn.Module):\n"
        "    def forward(self, x): return x / torch.full((), 3) * 0.5\n"
        "model = Divided()\n"
        "def step():\n"
        "    with torchtally.profile(model): model(torch.ones(2, requires_grad=True)).sum().backward()\n"
        "with FakeTensorMode(): step()\n"
        "step()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
