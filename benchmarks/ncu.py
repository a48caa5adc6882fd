"""Nsight Compute's command line (`ncu`): which of its metrics count floating-point operations, and its CSV, read.

With `--csv --page raw` it prints a table after all else: a row of names, a row of units, a row for each kernel, every
cell in quotes, thousands apart by commas, "n/a" where there is no figure. Ranges (NVTX) of the launching thread are in
a column of their own, each as "<domain>:name:...". Lines of its own begin with "==". As its manual has it (Nsight
Compute CLI, docs.nvidia.com/nsight-compute/NsightComputeCli) and as printed tables in public repositories are.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

PERMISSION = "ERR_NVGPUCTRPERM"

# FLOPs of one thread's instruction that was not predicated off. Half precision computes on pairs, as ncu's own roofline
# counts it (hadd x 2, hfma x 4), and so do the instructions on pairs of floats that later devices have.
_PER_INSTRUCTION = {"fadd": 1, "fmul": 1, "ffma": 2, "dadd": 1, "dmul": 1, "dfma": 2, "hadd": 2, "hmul": 2, "hfma": 4}
_PER_PAIR = {"fadd2": 2, "fmul2": 2, "ffma2": 4}
_TENSOR_OPERATIONS = "sm__ops_path_tensor_src_"  # operations: a multiply-add is 2
_TENSOR_INSTRUCTIONS = "sm__inst_executed_pipe_tensor"  # each of as many operations as its shape has, which is not said

_TOKEN = re.compile(r"torchtally=([\w.]+)=(\w+)")
_SCALED = re.compile(r"[KMG](inst|ops?)?$")


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel that was launched for a layer's phase, and its metrics; None where ncu has no figure."""

    path: str
    phase: str
    kernel: str
    metrics: Mapping[str, int | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Executed:
    """FLOPs that the hardware executed: `vector` of ordinary instructions, `tensor` of tensor cores; None is not known.

    `tensor_instructions` are there on devices that count no operations of tensor cores.
    """

    vector: int | None
    tensor: int | None
    tensor_instructions: int | None = None

    @property
    def flops(self) -> int | None:
        """All; None where a part is not known."""
        return None if self.vector is None or self.tensor is None else self.vector + self.tensor


class NcuError(ValueError):
    """Output of ncu that is not what it should be; the message says what is wrong and what ncu said."""


class NotAllowedError(NcuError):
    """The driver lets nobody but administrators read counters."""


def range_name(path: str, phase: str) -> str:
    """Of the NVTX range around a layer's phase: no characters that ncu gives a meaning to."""
    return f"torchtally={path}={phase}"


# Metrics --------------------------------------------------------------------------------------------------------------


def metrics(listed: str) -> list[str]:
    """What to ask for, from what `ncu --query-metrics` lists for the device.

    Ordinary instructions always: every device that ncu knows has them. Of tensor cores, operations by the type of their
    operands, or instructions where there are no operations; of a metric and its parts, the whole. Raises NcuError where
    nothing is listed.
    """
    known = {line.split()[0] for line in listed.splitlines() if line.strip()}
    if not any(name.startswith("sm") and "__" in name for name in known):
        raise NcuError(f"ncu lists no metrics of this device: {_said(listed.splitlines())}")
    operators = [*_PER_INSTRUCTION, *(name for name in _PER_PAIR if _instructions(name) in known)]
    operations = [name for name in known if name.startswith(_TENSOR_OPERATIONS) and "_src_int" not in name]
    tensor = operations or [name for name in known if name.startswith(_TENSOR_INSTRUCTIONS)]
    return [f"{name}.sum" for name in (*map(_instructions, operators), *_wholes(tensor))]


def _instructions(name: str) -> str:
    return f"smsp__sass_thread_inst_executed_op_{name}_pred_on"


def _wholes(names: Iterable[str]) -> list[str]:
    """Without those that begin with another: `..._src_fp16_dst_fp32` is a part of `..._src_fp16`."""
    whole: list[str] = []
    for name in sorted(names):
        if not any(name.startswith(f"{other}_") for other in whole):
            whole.append(name)
    return whole


def executed(launches: Iterable[Launch]) -> Executed:
    """FLOPs over kernels. A device that has no metric of tensor cores has no tensor cores."""
    launches = list(launches)
    named = {name for launch in launches for name in launch.metrics}
    per_name = {f"{_instructions(name)}.sum": flops for name, flops in (_PER_INSTRUCTION | _PER_PAIR).items()}
    vector = _sum(launches, {name: flops for name, flops in per_name.items() if name in named})
    operations = [name for name in named if name.startswith(_TENSOR_OPERATIONS)]
    if operations:
        return Executed(vector=vector, tensor=_sum(launches, dict.fromkeys(operations, 1)))
    instructions = [name for name in named if name.startswith(_TENSOR_INSTRUCTIONS)]
    worked = _sum(launches, dict.fromkeys(instructions, 1))
    return Executed(vector=vector, tensor=0 if worked == 0 else None, tensor_instructions=worked or None)


def _sum(launches: Iterable[Launch], weights: Mapping[str, int]) -> int | None:
    """None where a kernel has no figure."""
    figures = [(launch.metrics.get(name), weight) for launch in launches for name, weight in weights.items()]
    known = [figure * weight for figure, weight in figures if figure is not None]
    return sum(known) if len(known) == len(figures) else None


# The table ------------------------------------------------------------------------------------------------------------


def launches(output: str, asked: Sequence[str]) -> list[Launch]:
    """The kernels in our ranges, in order, with the metrics that were `asked` for. Raises NotAllowedError where
    counters may not be read, NcuError where there is no table, or none of our ranges in it."""
    if PERMISSION in output:
        raise NotAllowedError(
            f"ncu may not read this GPU's counters ({PERMISSION}): the driver's option "
            "NVreg_RestrictProfilingToAdminUsers=0, the capability SYS_ADMIN of a container, or root allows it"
        )
    lines = output.splitlines()
    begin = next((number for number, line in enumerate(lines) if line.startswith('"ID"')), None)
    if begin is None:
        raise NcuError(f"ncu printed no table: {_said(lines)}")
    header, units, *rows = _rows(lines[begin:])
    _not_scaled(dict(zip(header, units, strict=True)), asked)
    found = [launch for row in rows if (launch := _launch(dict(zip(header, row, strict=True)), asked)) is not None]
    if not found:
        raise NcuError(f"none of the {len(rows)} kernels that ncu counted names a range of ours; its columns: {header}")
    return found


def _rows(lines: Iterable[str]) -> Iterator[list[str]]:
    """As wide as the header; what ncu says after the table is not."""
    rows = csv.reader(line for line in lines if not line.startswith("=="))
    header = next(rows)
    yield header
    units = next(rows, None)
    if units is None:
        raise NcuError("ncu printed a table without kernels")
    yield units
    yield from (row for row in rows if len(row) == len(header))


def _not_scaled(units: Mapping[str, str], asked: Iterable[str]) -> None:
    for name in asked:
        if _SCALED.match(units.get(name, "")):
            raise NcuError(f"ncu scaled {name} to {units[name]!r}: figures are no integers any more")


def _launch(cells: Mapping[str, str], asked: Iterable[str]) -> Launch | None:
    """None outside our ranges. A metric without a column has no figure."""
    token = next((match for cell in cells.values() if (match := _TOKEN.search(cell))), None)
    if token is None:
        return None
    return Launch(
        token[1], token[2], cells.get("Kernel Name", ""), {name: _figure(cells.get(name, "")) for name in asked}
    )


def _figure(cell: str) -> int | None:
    try:
        return int(float(cell.replace(",", "")))
    except ValueError:  # "n/a", or nothing
        return None


def _said(lines: Iterable[str]) -> str:
    """Its last words of its own, errors first."""
    own = [line.strip("= ") for line in lines if line.startswith("==")]
    errors = [line for line in own if line.startswith("ERROR")]
    return (errors or own or ["nothing at all"])[-1]
