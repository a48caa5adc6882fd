"""The walkthrough's benchmark: its tables from samples written by hand, and one real step on the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from torchtally.theory.roofline import Ceilings

N = 2
TOP = Ceilings(flops={"float32": 1e15, "tf32": 1e15}, bandwidth=((4096, 1e15), (2**28, 5e14)), overhead=1e-9)


@pytest.fixture
def walkthrough(loaded: Callable[[str], ModuleType]) -> ModuleType:
    return loaded("walkthrough")


def sample(us: float, **more: Any) -> dict[str, Any]:
    """A convolution and a pooling on a GPU: a step of 10 `us`, of which half is idle."""
    spent = {"conv forward": 2 * us, "conv backward": us, "pool forward": us, " optimizer": us, " idle": 5 * us}
    rows = {
        "conv forward": {"flops": 6_000_000, "bytes": 2**20, "roof": 0.5},
        "conv backward": {"flops": 12_000_000, "bytes": 3 * 2**20, "roof": 0.25},
        "pool forward": {"flops": 2_000_000, "bytes": 2**19, "roof": None},
    }
    return {
        "seconds": 10 * us * 1e-6, "spread": 0.01, "overhead": 1.02, "closure": 0.5, "peak_bytes": 2**21,
        "layers": ["", "conv", "pool"], "types": {"": "Net", "conv": "Conv2d", "pool": "MaxPool2d"},
        "rows": rows, "spent": {place: each * 1e-6 for place, each in spent.items()},
        "shares": {place: each / (10 * us) for place, each in spent.items()}, "beaten": [], **more,
    }  # fmt: skip


def test_a_line_per_layer_with_medians_over_processes(walkthrough: ModuleType) -> None:
    lines = walkthrough.batch_lines(32, [sample(100), sample(300), sample(200)])
    assert "| conv | 6.00 | 12.00 | 1.00 | 3.00 | 400.0 | 200.0 | 30.0% | 50% | 25% |" in lines
    assert "| pool | 2.00 |  | 0.50 |  | 200.0 |  | 10.0% |  |  |" in lines  # what was not measured is empty
    assert "| optimizer | 200.0 | 10.0% |" in lines
    assert "| idle | 1,000.0 | 50.0% |" in lines


def test_flops_are_not_seconds(walkthrough: ModuleType) -> None:
    (said,) = [line for line in walkthrough.batch_lines(32, [sample(100)]) if "convolutions" in line]
    flops, seconds = (6 + 12) / (6 + 12 + 2), (2 + 1) / (2 + 1 + 1)
    assert said == f"- convolutions: {flops:.1%} of the layers' FLOPs, {seconds:.1%} of the layers' seconds"


def test_what_beats_its_roofline_is_named(walkthrough: ModuleType) -> None:
    lines = walkthrough.batch_lines(32, [sample(100, beaten=["conv forward took too little"])])
    assert "- above its roofline: conv forward took too little" in lines


def test_a_phase_of_many_modules_is_one_line(walkthrough: ModuleType) -> None:
    one = sample(100)
    for place, share in (("conv accumulation", 0.1), ("pool accumulation", 0.2)):
        one["spent"][place], one["shares"][place] = share * 1e-3, share
    assert "| accumulation | 300.0 | 30.0% |" in walkthrough.batch_lines(32, [one])


def test_a_real_step_adds_up_and_can_be_written(walkthrough: ModuleType) -> None:
    found = walkthrough.measured(N, "cpu", 1, TOP)
    assert json.loads(json.dumps(found))
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert found["rows"]["block1.conv forward"]["flops"] == 2 * (N * 32 * 32 * 32) * (3 * 3 * 3)
    assert found["rows"]["block1.conv forward"]["bytes"] == 4 * (
        N * 3 * 32 * 32 + 32 * 3 * 3 * 3 + 32 + N * 32 * 32 * 32  # images, weight, bias, output
    )
    assert len(found["bare_ns"]) == len(found["observed_ns"]) == 1
    layers = {line.split(" | ")[0].strip("| ") for line in walkthrough.batch_lines(N, [found])}
    assert {"block3.pool", "gap", "fc", "loss", "optimizer", "python"} <= layers


def test_an_audit_that_fails_is_named_and_ends_with_1(walkthrough: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "audited": {"verdicts": {"agrees": 3, "unexplained": 1}, "failed": ["fc forward flops: nobody knows"]},
        "ceilings": TOP,
        "measured": sample(100),
    }
    monkeypatch.setattr(walkthrough, "in_process", lambda run, *arguments, threads: answers[run.__name__])
    ended = CliRunner().invoke(walkthrough.main, ["--batch-size", "32", "--processes", "2"])
    assert ended.exit_code == 1
    assert "Audit: 3 agrees, 1 unexplained." in ended.output
    assert "- fails: fc forward flops: nobody knows" in ended.output
    assert "### N = 32" in ended.output
    assert "float32 1e+03, tf32 1e+03" in ended.output


def test_an_audit_that_ends_with_an_error_has_failed(walkthrough: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def audit(device: str) -> Any:
        raise RuntimeError("CUDA error: no kernel image\nand more")

    monkeypatch.setattr(walkthrough.torchtally, "audit", audit, raising=False)
    found = walkthrough.audited("cuda")
    assert found["failed"] == ["ended with RuntimeError: CUDA error: no kernel image"]
    assert walkthrough.audit_lines(found)[0] == "Audit: no verdicts."


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_device_one_line(walkthrough: ModuleType) -> None:
    ended = CliRunner().invoke(walkthrough.main, ["--device", "cuda"])
    assert (ended.output, ended.exit_code) == ("no device 'cuda' here: nothing was measured\n", 0)
