"""Theory beside the hardware's count, with an ncu that is made up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from torchtally.models import CNN, CNNConfig, example

from .test_ncu import LISTED, TENSOR, printed, row, sass

N = 2
FIRST_CONVOLUTION = 2 * (N * 32 * 32 * 32) * (3 * 3 * 3)  # forward; as much for the weight's gradient
SECOND_CONVOLUTION = 2 * (N * 64 * 16 * 16) * (32 * 3 * 3)
FC = 2 * N * 128 * 10


@pytest.fixture
def benchmark_of(loaded: Callable[[str], ModuleType]) -> ModuleType:
    return loaded("hardware_flops")


def launch(benchmark: ModuleType, path: str, phase: str, ffma: int, kernel: str = "sgemm", **more: int) -> Any:
    return benchmark.Launch(path, phase, kernel, {sass("ffma"): ffma, **more})


def of(benchmark: ModuleType, path: str, phase: str, *launches: Any) -> Any:
    (found,) = [each for each in benchmark.rows(launches, N) if (each.path, each.phase) == (path, phase)]
    return found


def test_each_layer_has_both_phases_and_theory(benchmark_of: ModuleType) -> None:
    rows = benchmark_of.rows([], N)
    assert len(rows) == 2 * (3 * 4 + 2)
    theory = {(each.path, each.phase): each.theory for each in rows}
    assert theory["block1.conv", "forward"] == FIRST_CONVOLUTION
    assert theory["block1.conv", "backward"] == FIRST_CONVOLUTION  # the images need no gradient
    assert theory["block2.conv", "backward"] == 2 * SECOND_CONVOLUTION
    assert theory["fc", "forward"] == FC


def test_hardware_over_theory(benchmark_of: ModuleType) -> None:
    two = [launch(benchmark_of, "block1.conv", "forward", FIRST_CONVOLUTION // 4, **{TENSOR: each}) for each in (7, 8)]
    found = of(benchmark_of, "block1.conv", "forward", *two)
    assert found.executed.flops == FIRST_CONVOLUTION + 7 + 8
    assert found.ratio == pytest.approx((FIRST_CONVOLUTION + 15) / FIRST_CONVOLUTION)
    other = of(benchmark_of, "fc", "forward", *two)
    assert (other.executed.flops, other.ratio) == (0, 0)  # it launched nothing


@pytest.mark.parametrize(
    ("path", "share", "kernel", "tensor", "says"),
    [
        ("block2.conv", 1, "implicit_gemm", 0, "as theory has it"),
        ("block2.conv", 1.01, "implicit_gemm", 0, "theory, and some for the bias"),
        ("block2.conv", 0.45, "cudnn::winograd_nonfused::f", 0, "winograd: fewer multiplications"),
        ("block2.conv", 0.45, "fft2d_c2r_32x32", 0, "fft: fewer multiplications"),
        ("block2.conv", 0.45, "implicit_gemm", 0, "unexplained"),
        ("block2.conv", 0, "cutlass_tensorop", 1.5, "tensor cores: whole tiles"),
        ("block2.conv", 1.5, "implicit_gemm", 0, "whole tiles, with padding"),
        ("block2.pool", 0, "max_pool", 0, "by convention"),
    ],
)
def test_each_ratio_has_its_reason(
    benchmark_of: ModuleType, path: str, share: float, kernel: str, tensor: float, says: str
) -> None:
    theory = SECOND_CONVOLUTION if path.endswith("conv") else N * 64 * 8 * 8 * 4
    metrics = {TENSOR: int(theory * tensor)}
    found = of(
        benchmark_of,
        path,
        "forward",
        launch(benchmark_of, path, "forward", round(theory * share / 2), kernel, **metrics),
    )
    assert says in benchmark_of.reason(found)


def test_what_was_not_counted_has_no_ratio(benchmark_of: ModuleType) -> None:
    found = of(
        benchmark_of,
        "fc",
        "forward",
        launch(benchmark_of, "fc", "forward", 1, **{"sm__inst_executed_pipe_tensor.sum": 9}),
    )
    assert found.ratio is None
    assert "counts no operations of theirs" in benchmark_of.reason(found)
    lines = benchmark_of.table([found], "on")
    assert "not measured" in lines[4]
    assert lines[-2] == f"Convolutions and linear layers: theory {FC:,} FLOPs; not all of them were measured."


# What runs under ncu --------------------------------------------------------------------------------------------------


def test_each_layer_has_the_input_that_it_has_in_a_step(benchmark_of: ModuleType) -> None:
    images, _ = example(CNNConfig(), N)
    found = {path: given for path, _, given in benchmark_of.inputs_of(CNN(), images)}
    assert found["block1.conv"].shape == (N, 3, 32, 32)
    assert found["block2.conv"].shape == (N, 32, 16, 16)
    assert found["fc"].shape == (N, 128)
    assert [path for path, given in found.items() if not given.requires_grad] == ["block1.conv"]
    assert all(given.is_leaf for given in found.values())


def test_each_phase_runs_once_in_its_range_and_nothing_else_between_start_and_stop(benchmark_of: ModuleType) -> None:
    """Seen by the dispatcher: `on` between start and stop; the range in which each operator ran."""
    state: dict[str, Any] = {"on": False, "range": None}
    ran: list[tuple[Any, str]] = []

    class Seeing(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if state["on"]:
                ran.append((state["range"], func.overloadpacket.__name__))
            return func(*args, **(kwargs or {}))

    @contextmanager
    def ranged(name: str) -> Iterator[None]:
        assert state["on"]
        state["range"] = name
        yield
        state["range"] = None

    with Seeing():
        benchmark_of.run_layers(N, "cpu", ranged, lambda: state.update(on=True), lambda: state.update(on=False))
    convolutions = [(name, operator) for name, operator in ran if operator.startswith("convolution")]
    assert convolutions == [
        (f"torchtally=block{block}.conv={phase}", f"convolution{'_backward' if phase == 'backward' else ''}")
        for block in (1, 2, 3)
        for phase in ("forward", "backward")
    ]
    assert {operator for name, operator in ran if name is None} <= {"ones_like", "detach"}  # no arithmetic
    assert not any(operator.startswith("add") and "conv" in str(name) for name, operator in ran)  # nothing accumulated


METRICS = (*(sass(f"{kind}{what}") for kind in "fdh" for what in ("add", "mul", "fma")), TENSOR)


def counted_row(name: str, ffma: int) -> list[str]:
    """A kernel of multiply-adds alone."""
    return row(0, name, "gemm", *(f"{ffma:,}" if metric == sass("ffma") else "0" for metric in METRICS))


# From the command line ------------------------------------------------------------------------------------------------


def fake_run(output: str) -> Callable[..., Any]:
    said: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        said.append(command)
        listed = LISTED.format(tensor="sm__ops_path_tensor_src_tf32_dst_fp32 Counter # of math ops")
        return SimpleNamespace(stdout=listed if "--query-metrics" in command else output, stderr="", said=said)

    run.said = said  # type: ignore[attr-defined]
    return run


def test_ncu_is_asked_and_read(benchmark_of: ModuleType) -> None:
    ffma = FIRST_CONVOLUTION // 2
    run = fake_run(printed([counted_row("torchtally=block1.conv=forward", ffma)], METRICS))
    (found, *_) = benchmark_of.counted("/opt/ncu", N, "off", run)
    assert (found.path, found.ratio, found.kernels) == ("block1.conv", 1.0, ("gemm",))
    (query, profile) = run.said  # type: ignore[attr-defined]
    assert query == ["/opt/ncu", "--query-metrics"]
    asked = profile[profile.index("--metrics") + 1].split(",")
    assert {sass("ffma"), TENSOR} <= set(asked)
    assert profile[profile.index("--clock-control") + 1] == "none"  # the device's clocks are not ours to set
    assert profile[-5:] == ["--inside", "--batch-size", str(N), "--tf32", "off"]


@pytest.fixture
def with_device(benchmark_of: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(benchmark_of, "device_or_exit", lambda device: None)

    def end(which: str | None, output: str, *arguments: str) -> Any:
        monkeypatch.setattr(benchmark_of.shutil, "which", lambda name: which)
        counted = benchmark_of.counted
        monkeypatch.setattr(benchmark_of, "counted", lambda tool, n, tf32: counted(tool, n, tf32, fake_run(output)))
        return CliRunner().invoke(benchmark_of.main, ["--batch-size", str(N), *arguments])

    return end


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_device_one_line(benchmark_of: ModuleType) -> None:
    ended = CliRunner().invoke(benchmark_of.main, [])
    assert (ended.output, ended.exit_code) == ("no device 'cuda' here: nothing was measured\n", 0)


def test_without_ncu_one_line(with_device: Any) -> None:
    ended = with_device(None, "")
    assert (ended.output, ended.exit_code) == ("no ncu (Nsight Compute) here: nothing was measured\n", 0)


def test_without_permission_one_line(with_device: Any) -> None:
    ended = with_device("/opt/ncu", "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission\n")
    assert re.fullmatch(
        r"ncu may not read this GPU's counters \(ERR_NVGPUCTRPERM\): .*: nothing was measured\n", ended.output
    )
    assert ended.exit_code == 0


def test_an_ncu_that_fails_is_a_failure(with_device: Any) -> None:
    ended = with_device("/opt/ncu", "==ERROR== Failed to find metric\n")
    assert ended.output == "ncu printed no table: ERROR== Failed to find metric: nothing was measured\n"
    assert ended.exit_code == 1


def test_the_table_for_each_setting(with_device: Any) -> None:
    kernels = [counted_row("torchtally=fc=forward", FC // 2)]
    ended = with_device("/opt/ncu", printed(kernels, METRICS), "--tf32", "on")
    assert ended.exit_code == 0, ended.output
    assert "### TF32 on" in ended.output
    assert "TF32 off" not in ended.output
    assert f"| fc | forward | {FC:,} | {FC:,} | {FC:,} | 0 | 1.000 | as theory has it |" in ended.output
