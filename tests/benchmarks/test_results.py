"""What is written beside figures: device, driver, versions, command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch


@pytest.fixture
def results(loaded: Callable[[str], ModuleType]) -> ModuleType:
    return loaded("results")


@pytest.fixture
def gpu(results: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch says of a CUDA device, made up."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91_002)
    monkeypatch.setattr(results, "driver", lambda: "580.65.06")


def test_the_driver_as_nvidias_tool_has_it(results: ModuleType) -> None:
    asked: list[Any] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return SimpleNamespace(stdout="580.65.06\n580.65.06\n")  # a line for each device

    assert results.driver(run) == "580.65.06"
    assert asked == [["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]]


@pytest.mark.parametrize("error", [FileNotFoundError("nvidia-smi"), subprocess.CalledProcessError(9, "nvidia-smi")])
def test_a_driver_that_is_not_known_is_said(results: ModuleType, error: Exception) -> None:
    def run(command: list[str], **_: Any) -> Any:
        raise error

    assert results.driver(run) == "not known: nvidia-smi does not say"


@pytest.mark.usefixtures("gpu")
def test_all_that_figures_of_a_gpu_depend_on(results: ModuleType) -> None:
    facts = results.where("cuda")
    wanted = {
        "device": "cuda",
        "device_name": "NVIDIA H200",
        "compute_capability": "9.0",
        "cuda": "13.0",
        "cudnn": 91_002,
        "driver": "580.65.06",
        "tf32_matmul": False,
        "tf32_convolution": True,
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
    }
    assert {name: facts[name] for name in wanted} == wanted


def test_a_cpu_has_no_driver(results: ModuleType) -> None:
    assert "driver" not in results.where("cpu")


@pytest.mark.usefixtures("gpu")
def test_results_name_them(results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["benchmarks/zoo.py", "--device", "cuda"])
    results.write_results("name", "| a table |", {"samples": [1.5]}, "cuda")
    written = (tmp_path / "name.md").read_text(encoding="utf-8")
    content = json.loads((tmp_path / "name.json").read_text(encoding="utf-8"))
    assert "device_name NVIDIA H200" in written
    assert "driver 580.65.06" in written
    assert content["environment"]["driver"] == "580.65.06"
    assert content["command"] == "python benchmarks/zoo.py --device cuda"
    assert content["samples"] == [1.5]
