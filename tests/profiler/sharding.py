"""One step of a small network, wrapped in each way of torch.distributed, in a process of its own for each rank.

Run by test_distributed.py; the last of two ranks writes what torchtally says, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Replicate, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import torchtally

N, A, B, C = 5, 8, 16, 4


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(A, B), nn.ReLU(), nn.Linear(B, C))


def ways(mesh: Any) -> dict[str, Callable[[], nn.Module]]:
    """Name -> the network, wrapped so."""

    def sharded() -> nn.Module:
        model = network()
        for layer in (model[0], model[2]):
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    cpu = torch.device("cpu")
    return {
        "plain": network,
        "DistributedDataParallel": lambda: DistributedDataParallel(network()),
        "DataParallel": lambda: nn.DataParallel(network()),
        "fully_shard": sharded,
        "FSDP": lambda: FullyShardedDataParallel(network(), device_id=cpu),
        "FSDP, original parameters": lambda: FullyShardedDataParallel(network(), device_id=cpu, use_orig_params=True),
        "tensor parallel": lambda: parallelize_module(
            network(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()}
        ),
        "DTensor": lambda: distribute_module(network(), mesh),
    }


def said(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """What a run says of one step, forward and backward."""
    with torchtally.profile(model) as run:
        model(x).sum().backward()
    comparison = run.compare()
    return {
        "totals": dict(run.totals),
        "notes": run.coverage.notes,
        "unpriced": [entry.operator for entry in run.coverage.unpriced],
        "failures": [f"{row.path} {row.phase} {row.quantity}" for row in comparison.failures],
        "not_compared": dict(comparison.not_compared),
    }


def all_ways(rank: int, meeting: Path, world: int) -> dict[str, Any]:
    """What is said of each way, in a group of that many processes."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    try:
        mesh, x, found = init_device_mesh("cpu", (world,)), torch.rand(N, A), {}
        for name, make in ways(mesh).items():
            whole = distribute_tensor(x, mesh, [Replicate()]) if name == "DTensor" else x
            found[name] = said(make(), whole)
    finally:
        dist.destroy_process_group()
    return found


def work(rank: int, folder: Path) -> None:
    """Of two processes together; and of the last one alone."""
    torch.set_num_threads(1)
    together = all_ways(rank, folder / "both", 2)
    if rank == 1:
        alone = all_ways(0, folder / "one", 1)
        (folder / "said.json").write_text(json.dumps({"1": alone, "2": together}))


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
