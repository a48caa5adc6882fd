"""Where counters of FLOPs are wrong: each case has its true figure by hand, and torchtally has it.

The cases, with their arithmetic, are in benchmarks/peer_cases.py; benchmarks/peers.py runs other counters on them.
FlopCounterMode comes with torch, so it is held to being wrong here: a torch that repairs it skips that test, and it
must be right in all other cases, as a second witness.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import torchtally
from torchtally import Profile

sys.path.insert(0, str(Path(torchtally.__file__).parents[2] / "benchmarks"))

from peer_cases import CASES, EMBED, WORDS, C, Case, N, T, outputs_of, prepared, tied

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")

each = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])

# What it says instead of the truth, forward and backward, as a multiple.
WRONG: dict[str, tuple[float, float | None]] = {
    "depthwise convolution": (1, 33 / 2),
    "grouped convolution": (1, 5 / 2),
    "encoder layer in evaluation": (0, None),
    "matrix times vector": (0, None),
    "LSTM": (0, 0),
    "mixture of experts": (0, 0),
}
NO_PRODUCTS = "FlopCounterMode counts products only"


def step(case: Case) -> Profile:
    model, args, keywords = prepared(case)
    without = torch.no_grad() if case.evaluated else nullcontext()
    with torchtally.profile(model) as run, without:
        outputs = outputs_of(model(*args, **keywords))
        if case.backward is not None:
            torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    return run


@each
def test_torchtally_is_right(case: Case) -> None:
    run, kind = step(case), "matmul_flops" if case.products else "flops"
    assert run.coverage.unpriced == ()
    assert run.totals.get(f"forward_{kind}", 0) == case.forward
    if case.backward is not None:
        assert run.totals[f"backward_{kind}"] == case.backward


@each
def test_a_quick_count_is_right_too(case: Case) -> None:
    """One call, the backward of all outputs included; on fake tensors as well."""
    model, args, keywords = prepared(case)
    kind = "matmul_flops" if case.products else "flops"
    before = torchtally.count(model, *args, backward=False, **keywords)
    assert before.totals.get(f"forward_{kind}", 0) == case.forward
    if case.backward is not None:
        on_fake = torchtally.count(model, *args, device="meta", **keywords)
        assert on_fake.totals[f"backward_{kind}"] == case.backward


def flop_counter_mode(case: Case) -> tuple[int, int]:
    model, args, keywords = prepared(case)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad() if case.evaluated else nullcontext():
        outputs = outputs_of(model(*args, **keywords))
        forward = counter.get_total_flops()
        if case.backward is not None:
            torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    return forward, counter.get_total_flops() - forward


@pytest.mark.parametrize("name", WRONG)
def test_flop_counter_mode_is_wrong(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    forward, backward = flop_counter_mode(case)
    if (forward, backward) == (case.forward, case.backward or 0):
        pytest.skip(f"repaired in torch {torch.__version__}")
    times_forward, times_backward = WRONG[name]
    assert forward == times_forward * case.forward
    assert times_backward is None or backward == times_backward * (case.backward or 0)


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in WRONG], ids=lambda case: case.name)
def test_flop_counter_mode_agrees_elsewhere(case: Case) -> None:
    """Recomputed work, which torchtally keeps apart, is backward to it."""
    if not case.products:
        pytest.skip(NO_PRODUCTS)
    again = step(case).totals.get("recompute_matmul_flops", 0)
    forward, backward = flop_counter_mode(case)
    assert forward == case.forward
    assert case.backward is None or backward == case.backward + again


def test_one_model_is_one_figure() -> None:
    """FlopCounterMode has three of ViT-B/16: on meta, on the CPU, in evaluation."""
    cases = [case for case in CASES if case.name.startswith("encoder layer")]
    assert len({step(case).totals["forward_matmul_flops"] for case in cases}) == 1
    assert len(cases) == 3


def test_recomputed_work_is_a_phase_of_its_own() -> None:
    """Three products forward; under a checkpoint, two of them once more in backward."""
    run = step(next(case for case in CASES if case.name == "checkpoint"))
    assert run.totals["recompute_matmul_flops"] == 2 * (2 * N * T * C * C)


def test_tied_weights_are_counted_once() -> None:
    with torchtally.profile(model := tied()) as run:
        model(torch.zeros(N, T, dtype=torch.int64)).sum().backward()
    assert run.totals["parameters"] == WORDS * C
    assert run.totals["parameter_gradient_bytes"] == 4 * WORDS * C


@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 8), (torch.float32, 4), (torch.bfloat16, 2)])
def test_bytes_are_of_the_dtype(dtype: torch.dtype, size: int) -> None:
    """Some take every element to be as large as the largest."""
    run = torchtally.count(nn.Linear(C, EMBED, dtype=dtype), torch.rand(N, C, dtype=dtype))
    assert run.totals["parameter_bytes"] == size * (C * EMBED + EMBED)
    assert run.totals["activation_bytes"] == size * N * EMBED


# What counting leaves behind -----------------------------------------------------------------------------------------


def state_of(model: nn.Module) -> dict[str, Any]:
    """Of all modules the flags, the names of attributes, and how much is in each that holds something."""
    return {
        path: {name: len(held) if hasattr(held, "__len__") else held for name, held in vars(module).items()}
        for path, module in model.named_modules()
    }


def test_nothing_is_left_behind() -> None:
    """Others leave eval mode, hooks, buffers in the state dict, and BatchNorm's statistics moved."""
    model = nn.Sequential(nn.Conv2d(C, C, 3), nn.BatchNorm2d(C), nn.Dropout(0.5))
    before, tensors = state_of(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torchtally.count(model, torch.rand(N, C, 5, 5))
    assert state_of(model) == before
    after = model.state_dict()
    assert after.keys() == tensors.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in tensors.items())


def test_nor_after_a_forward_that_fails() -> None:
    """Others leave torch's functions patched, so that later counts are several times too large."""
    functions = {name: getattr(nn.functional, name) for name in dir(nn.functional)}
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        torchtally.count(nn.Linear(C, C), torch.rand(N, C + 1))
    assert {name: getattr(nn.functional, name) for name in dir(nn.functional)} == functions
    for _ in range(2):
        assert torchtally.count(nn.Linear(C, C), torch.rand(N, C)).totals["forward_matmul_flops"] == 2 * N * C * C
