"""Models wrapped for several processes: FLOPs are those of the plain model by hand, or the run says what they are.

Each rank is a process of its own, so that nothing of torch.distributed is left in this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import torchtally

N, A, B, C = 5, 8, 16, 4
FIRST, RELU, SECOND = 2 * N * A * B, N * B, 2 * N * B * C
FORWARD = FIRST + RELU + SECOND
# The second layer's input and weight, both biases, the ReLU, the first layer's weight; the input needs no gradient.
BACKWARD = 2 * SECOND + N * C + RELU + FIRST + N * B
PARAMETERS = A * B + B + B * C + C
WRAPPED = [
    "DistributedDataParallel", "DataParallel", "fully_shard", "FSDP", "FSDP, original parameters", "tensor parallel",
    "DTensor",
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch.distributed without gloo"
)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is said in groups of one and of two processes, by the way in which the model is wrapped."""
    folder, root = tmp_path_factory.mktemp("ranks"), Path(__file__).parents[2]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")
    command = [sys.executable, "-W", "ignore", "-m", "tests.profiler.sharding"]
    ranks = [
        subprocess.Popen([*command, str(rank), str(folder)], cwd=root, env=env, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert all(rank.returncode == 0 for rank in ranks), "\n".join(errors)
    return dict(json.loads((folder / "said.json").read_text()))


@pytest.fixture(params=[1, 2], ids=["one process", "two processes"])
def said(request: pytest.FixtureRequest, everything: dict[str, Any]) -> dict[str, Any]:
    return {"world": request.param, **everything[str(request.param)]}


def test_the_plain_model_by_hand(said: dict[str, Any]) -> None:
    plain = said["plain"]
    assert plain["totals"]["forward_flops"] == FORWARD
    assert plain["totals"]["backward_flops"] == BACKWARD
    assert plain["totals"]["parameters"] == PARAMETERS
    assert plain["notes"] == plain["unpriced"] == []


@pytest.mark.parametrize("way", WRAPPED)
def test_flops_are_the_plain_models(said: dict[str, Any], way: str) -> None:
    """Of the parts that stay plain tensors in tensor parallelism, half are in each of two processes."""
    halved = RELU // 2 if way == "tensor parallel" and said["world"] == 2 else 0
    assert said[way]["totals"]["forward_flops"] == FORWARD - halved
    assert said[way]["totals"]["backward_flops"] == BACKWARD - halved
    assert said[way]["failures"] == [], "closed forms agree, or do not speak"


@pytest.mark.parametrize("way", ["DistributedDataParallel", "DataParallel"])
def test_replicas_have_all_figures_of_the_plain_model(said: dict[str, Any], way: str) -> None:
    totals, plain = said[way]["totals"], said["plain"]["totals"]
    assert {name: totals[name] for name in plain} == plain
    assert totals["parameter_gradient_bytes"] == 4 * PARAMETERS
    assert said[way]["notes"] == []
    assert said[way]["not_compared"] == {}


def test_communication_is_named(said: dict[str, Any]) -> None:
    """And the average of the gradients is arithmetic of its own: one division each."""
    assert said["DataParallel"]["unpriced"] == []
    replica = said["DistributedDataParallel"]
    assert replica["unpriced"] == ["c10d.allreduce_.default"]
    assert replica["totals"]["accumulation_flops"] == PARAMETERS
    if said["world"] == 2:
        assert "c10d._reduce_scatter_base_.default" in said["fully_shard"]["unpriced"]
        assert "c10d._reduce_scatter_base_.default" in said["FSDP"]["unpriced"]
        assert "_c10d_functional.all_reduce.default" in said["tensor parallel"]["unpriced"]


@pytest.mark.parametrize(
    ("way", "note"),
    [
        ("fully_shard", "(model): fully_shard: parameters are of all processes together, their gradients are not seen"),
        ("FSDP", "(model): FullyShardedDataParallel: parameters and their gradients are of this process's shard"),
        ("FSDP, original parameters", "gradients of original parameters are not seen"),
        ("tensor parallel", "0, 2: parameters are DTensors: what works on DTensors is counted whole"),
        ("DTensor", "0, 2: parameters are DTensors"),
    ],
)
def test_what_is_not_as_in_the_plain_model_is_said(said: dict[str, Any], way: str, note: str) -> None:
    (only,) = said[way]["notes"]
    assert note in only
    parts = said["world"] if way.startswith("FSDP") else 1
    assert said[way]["totals"]["parameters"] == PARAMETERS // parts


def test_a_parallel_wrapper_without_devices_calls_the_module() -> None:
    model = nn.DataParallel(nn.Sequential(nn.Linear(A, B), nn.ReLU(), nn.Linear(B, C)))
    with torchtally.profile(model) as run:
        model(torch.rand(N, A)).sum().backward()
    assert (run.totals["forward_flops"], run.totals["backward_flops"]) == (FORWARD, BACKWARD)
    assert run.ledger.row("module.0").flops == FIRST
    assert run.coverage.complete
    assert run.compare().ok
