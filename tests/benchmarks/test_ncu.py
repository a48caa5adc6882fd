"""ncu's output, read. No GPU is needed: the samples are made, in the form that its manual and tables in public
repositories have (the names of columns, a row of units, quotes, thousands apart, NVTX ranges in a column of theirs, its
own lines before and after the table)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

RANGES = "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"
STARTED = "Id:Domain:Start/Stop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"
ABOUT = ("ID", "Process ID", "Process Name", "Host Name", RANGES, STARTED, "Kernel Name", "Context", "Stream")
ABOUT += ("Block Size", "Grid Size", "Device", "CC")
TENSOR = "sm__ops_path_tensor_src_tf32_dst_fp32.sum"


def sass(name: str) -> str:
    return f"smsp__sass_thread_inst_executed_op_{name}_pred_on.sum"


FIRST = ("fadd", "fmul", "ffma")


@pytest.fixture
def ncu(loaded: Callable[[str], ModuleType]) -> ModuleType:
    return loaded("ncu")


def row(number: int, name: str, kernel: str, *figures: str) -> list[str]:
    ranges = f'13416  "<default domain>:{name}:none:none:none:none:none:none"' if name else ""
    return [str(number), "13416", "python3.12", "127.0.0.1", ranges, "", kernel, "1", "7", "(128, 1, 1)", "(64, 1, 1)",
            "0", "9.0", *figures]  # fmt: skip


def printed(rows: list[list[str]], names: tuple[str, ...], units: tuple[str, ...] | None = None) -> str:
    table = io.StringIO()
    writer = csv.writer(table, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([[*ABOUT, *names], ["" for _ in ABOUT] + list(units or ("inst",) * len(names)), *rows])
    before = ["==PROF== Connected to process 13416 (/usr/bin/python3.12)", "the program's own words, with a \" in them"]
    before += [f'==PROF== Profiling "{each[6]}": 0%....50%....100% - 3 passes' for each in rows]
    return "\n".join([*before, table.getvalue().rstrip(), "==PROF== Disconnected from process 13416", ""])


def test_kernels_are_read_with_their_layer_and_phase(ncu: ModuleType) -> None:
    kernel = "void cutlass::Kernel<tensorop, 128, 64>(Params, int)"
    rows = [
        row(0, "torchtally=block1.conv=forward", kernel, "1,024", "0", "2,097,152"),
        row(1, "torchtally=block1.conv=backward", "reduce_kernel", "7", "n/a", "0"),
    ]
    one, two = ncu.launches(printed(rows, (*map(sass, FIRST),)), [*map(sass, FIRST), TENSOR])
    assert (one.path, one.phase, one.kernel) == ("block1.conv", "forward", kernel)
    assert one.metrics == {sass("fadd"): 1_024, sass("fmul"): 0, sass("ffma"): 2_097_152, TENSOR: None}
    assert (two.path, two.phase) == ("block1.conv", "backward")
    assert two.metrics[sass("fmul")] is None


def test_a_metric_that_ncu_left_out_is_not_zero(ncu: ModuleType) -> None:
    asked = [sass("ffma"), TENSOR]
    (only,) = ncu.launches(printed([row(0, "torchtally=fc=forward", "k", "5")], (sass("ffma"),)), asked)
    assert ncu.executed([only]).flops is None


def test_kernels_in_no_range_of_ours_are_left_out(ncu: ModuleType) -> None:
    rows = [row(0, "theirs", "other", "1"), row(1, "", "none", "2"), row(2, "torchtally=fc=forward", "ours", "3")]
    (only,) = ncu.launches(printed(rows, (sass("fadd"),)), [sass("fadd")])
    assert only.kernel == "ours"


def test_a_range_inside_another_is_found(ncu: ModuleType) -> None:
    inside = row(0, "theirs", "kernel", "1")
    inside[4] += '  "<default domain>:torchtally=gap=backward:none:none:none:none:none:none"'
    (only,) = ncu.launches(printed([inside], (sass("fadd"),)), [sass("fadd")])
    assert (only.path, only.phase) == ("gap", "backward")


def test_a_name_goes_into_a_range_and_comes_out(ncu: ModuleType) -> None:
    (only,) = ncu.launches(
        printed([row(0, ncu.range_name("block2.pool", "backward"), "k", "1")], (sass("fadd"),)), [sass("fadd")]
    )
    assert (only.path, only.phase) == ("block2.pool", "backward")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("", "printed no table: nothing at all"),
        ("==PROF== Connected\n==ERROR== Failed to find metric x\n==PROF== Gone", "no table: ERROR== Failed to find"),
        ('"ID","Kernel Name"\n==WARNING== No kernels were profiled.\n', "a table without kernels"),
        (printed([row(0, "", "k", "1")], (sass("fadd"),)), "none of the 1 kernels"),
        (printed([row(0, "torchtally=fc=forward", "k", "1.5")], (sass("ffma"),), ("Kinst",)), "scaled .* to 'Kinst'"),
    ],
)
def test_what_cannot_be_read_is_said(ncu: ModuleType, output: str, says: str) -> None:
    with pytest.raises(ncu.NcuError, match=says):
        ncu.launches(output, [sass("ffma")])


def test_no_permission_is_an_error_of_its_own(ncu: ModuleType) -> None:
    said = (
        "==PROF== Connected to process 1\n==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access "
        "NVIDIA GPU Performance Counters on the target device 0."
    )
    with pytest.raises(ncu.NotAllowedError, match="may not read this GPU's counters") as caught:
        ncu.launches(said, [])
    assert "\n" not in str(caught.value)


# FLOPs ----------------------------------------------------------------------------------------------------------------


def one(ncu: ModuleType, **figures: int | None) -> Any:
    return ncu.Launch("fc", "forward", "kernel", {sass(name): figure for name, figure in figures.items()})


def test_a_multiply_add_is_two(ncu: ModuleType) -> None:
    found = ncu.executed([one(ncu, fadd=10, fmul=200, ffma=3_000, dadd=1, dmul=1, dfma=1)])
    assert found.vector == 10 + 200 + 2 * 3_000 + 1 + 1 + 2
    assert found.flops == found.vector


def test_half_precision_computes_on_pairs(ncu: ModuleType) -> None:
    assert ncu.executed([one(ncu, hadd=10, hmul=200, hfma=3_000)]).vector == 2 * 10 + 2 * 200 + 4 * 3_000


def test_kernels_add_up(ncu: ModuleType) -> None:
    assert ncu.executed([one(ncu, ffma=5), one(ncu, ffma=7)]).flops == 2 * (5 + 7)


def test_tensor_cores_count_operations_of_their_own(ncu: ModuleType) -> None:
    launch = ncu.Launch("fc", "forward", "kernel", {sass("ffma"): 1, TENSOR: 4_096})
    found = ncu.executed([launch])
    assert (found.vector, found.tensor, found.flops) == (2, 4_096, 2 + 4_096)


@pytest.mark.parametrize(("instructions", "flops"), [(0, 2), (5, None)])
def test_instructions_of_tensor_cores_are_no_operations(ncu: ModuleType, instructions: int, flops: int | None) -> None:
    """Where none was executed, none of their operations was either."""
    launch = ncu.Launch("fc", "forward", "k", {sass("ffma"): 1, "sm__inst_executed_pipe_tensor.sum": instructions})
    found = ncu.executed([launch])
    assert found.flops == flops
    assert found.tensor_instructions == (instructions or None)


def test_a_missing_figure_is_not_zero(ncu: ModuleType) -> None:
    assert ncu.executed([one(ncu, ffma=5, fadd=1), one(ncu, ffma=7, fadd=None)]).flops is None
    unknown = ncu.Launch("fc", "forward", "kernel", {sass("ffma"): 1, TENSOR: None})
    assert ncu.executed([unknown]).flops is None


# Metrics --------------------------------------------------------------------------------------------------------------

LISTED = """Device NVIDIA H200 (GH100)

-------------------------------------------------------- --------------- ---------------------------------------------
Metric Name                                              Metric Type     Metric Description
-------------------------------------------------------- --------------- ---------------------------------------------
sm__inst_executed_pipe_tensor                            Counter         # of warp instructions executed by tensor pipe
{tensor}
smsp__sass_thread_inst_executed_op_ffma_pred_on          Counter         # of FFMA thread instructions executed
                                                                         where all predicates were true
"""


def asked(ncu: ModuleType, *names: str) -> list[str]:
    lines = [f"{name:56} Counter         # of math ops executed in Tensor path" for name in names]
    found: list[str] = ncu.metrics(LISTED.format(tensor="\n".join(lines)))
    return found


def test_ordinary_instructions_are_always_asked_for(ncu: ModuleType) -> None:
    names = [f"{kind}{what}" for kind in "fdh" for what in ("add", "mul", "fma")]
    assert set(map(sass, names)) <= set(asked(ncu))


def test_of_a_metric_and_its_parts_the_whole(ncu: ModuleType) -> None:
    """Sparse and dense apart, and both without the metric of their sum; integers are none of ours."""
    base = "sm__ops_path_tensor_src_"
    names = (
        "fp16",
        "fp16_dst_fp16",
        "fp16_dst_fp32_sparsity_on",
        "fp8_sparsity_off",
        "fp8_sparsity_on",
        "int8",
        "fp64",
    )
    found = asked(ncu, *(base + name for name in names))
    wanted = {"fp16", "fp8_sparsity_off", "fp8_sparsity_on", "fp64"}
    assert {name for name in found if "tensor" in name} == {f"{base}{name}.sum" for name in wanted}


def test_instructions_of_tensor_cores_where_operations_are_not_counted(ncu: ModuleType) -> None:
    found = asked(ncu, "sm__inst_executed_pipe_tensor_op_hmma")
    assert [name for name in found if "tensor" in name] == ["sm__inst_executed_pipe_tensor.sum"]


def test_instructions_on_pairs_where_the_device_has_them(ncu: ModuleType) -> None:
    assert sass("ffma2") not in asked(ncu)
    assert sass("ffma2") in asked(ncu, "smsp__sass_thread_inst_executed_op_ffma2_pred_on")


def test_a_list_of_nothing_is_said(ncu: ModuleType) -> None:
    with pytest.raises(ncu.NcuError, match="lists no metrics of this device: ERROR== No supported GPU"):
        ncu.metrics("==ERROR== No supported GPU found\n")
