"""Other counters beside torchtally: what each makes of the cases of peer_cases.py, and of the walkthrough's CNN.

Those that are installed are run (`pip install torchinfo fvcore ptflops thop calflops deepspeed torchtnt mmengine`),
each case in a process of its own, for some leave patched functions behind. These are counts: any machine gives them.

    python benchmarks/peers.py [--only TOOL]... [--output NAME]
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))

from peer_cases import CASES, Case, outputs_of, prepared
from results import write_results

import torchtally
from torchtally.models import CNN

TIMEOUT = 120  # seconds for one case
_PROCESSES = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Said:
    """What a tool prints of one call: its figure, FLOPs per unit of it, and of backward if it has one."""

    figure: float
    unit: int
    backward: float | None = None

    @property
    def flops(self) -> float:
        return self.figure * self.unit

    @property
    def backward_flops(self) -> float | None:
        return None if self.backward is None else self.backward * self.unit


Counter = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], bool], Said]
"""Model, its arguments, whether backward is asked for -> what it says."""

MACS, FLOPS = 2, 1


# Tools ----------------------------------------------------------------------------------------------------------------


def _torchtally(model: nn.Module, args: Any, keywords: Any, backward: bool, kind: str = "matmul_flops") -> Said:
    totals = torchtally.count(model, *args, backward=backward, **keywords).totals
    return Said(totals.get(f"forward_{kind}", 0), FLOPS, totals.get(f"backward_{kind}"))


def _both(model: nn.Module, args: Any, keywords: Any, backward: bool, entered: Any, read: Callable[[], int]) -> Said:
    """Of a tool that watches what runs inside a block: forward, then backward of all outputs."""
    with entered:
        outputs = outputs_of(model(*args, **keywords))
        forward = read()
        if backward:
            torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    return Said(forward, FLOPS, read() - forward if backward else None)


def _flop_counter_mode(model: nn.Module, args: Any, keywords: Any, backward: bool) -> Said:
    counter = FlopCounterMode(display=False)
    return _both(model, args, keywords, backward, counter, counter.get_total_flops)


def _profiler(model: nn.Module, args: Any, keywords: Any, backward: bool) -> Said:
    def watched(run: Callable[[], Any]) -> tuple[int, Any]:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_flops=True) as seen:
            result = run()
        return sum(event.flops for event in seen.key_averages()), result

    forward, result = watched(lambda: model(*args, **keywords))
    outputs = outputs_of(result)
    ones = [torch.ones_like(output) for output in outputs]
    return Said(forward, FLOPS, watched(lambda: torch.autograd.backward(outputs, ones))[0] if backward else None)


def _torchinfo(model: nn.Module, args: Any, keywords: Any, backward: bool) -> Said:
    import torchinfo

    data: Any = keywords or list(args)
    return Said(torchinfo.summary(model, input_data=data, verbose=0).total_mult_adds, MACS)


def _fvcore(model: nn.Module, args: Any, keywords: Any, backward: bool) -> Said:
    from fvcore.nn import FlopCountAnalysis

    found = FlopCountAnalysis(model, (*args, *keywords.values()))
    return Said(found.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total(), MACS)


def _ptflops(backend: str) -> Counter:
    def count(model: nn.Module, args: Any, keywords: Any, backward: bool) -> Said:
        import ptflops

        macs, _ = ptflops.get_model_complexity_info(
            model, (1,), input_constructor=lambda _: keywords or args[0], as_strings=False,
            print_per_layer_stat=False, backend=backend,
        )  # fmt: skip
        if macs is None:
            raise RuntimeError("gives no figure")
        return Said(macs, MACS)

    return count


def _thop(model: nn.Module, args: Any, keywords: Any, backward: bool) -> Said:
    import thop

    return Said(thop.profile(model, inputs=(*args, *keywords.values()), verbose=False)[0], MACS)


def _calflops(model: nn.Module, args: Any, keywords: Any, backward: bool) -> Said:
    from calflops import calculate_flops

    flops, _, _ = calculate_flops(
        model, args=list(args), kwargs=keywords, print_results=False, output_as_string=False, print_detailed=False
    )
    return Said(flops, FLOPS)


def _deepspeed(model: nn.Module, args: Any, keywords: Any, backward: bool) -> Said:
    from deepspeed.profiling.flops_profiler import get_model_profile

    flops, _, _ = get_model_profile(
        model, args=list(args), kwargs=keywords, print_profile=False, detailed=False, as_string=False, warm_up=0
    )
    return Said(flops, FLOPS)


def _torchtnt(model: nn.Module, args: Any, keywords: Any, backward: bool) -> Said:
    from torchtnt.utils.module_summary import get_module_summary

    found = get_module_summary(model, module_args=args, module_kwargs=keywords)
    there = isinstance(found.flops_backward, (int, float)) and backward
    return Said(_number(found.flops_forward), MACS, found.flops_backward if there else None)


def _mmengine(model: nn.Module, args: Any, keywords: Any, backward: bool) -> Said:
    from mmengine.analysis import get_model_complexity_info

    found = get_model_complexity_info(model, inputs=(*args, *keywords.values()), show_table=False, show_arch=False)
    return Said(_number(found["flops"]), MACS)


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)):
        raise RuntimeError(f"gives {value!r} instead of a figure")
    return value


# Name -> the package that it comes in, and how it is asked.
TOOLS: dict[str, tuple[str, Counter]] = {
    "torchtally": ("torchtally", _torchtally),
    "FlopCounterMode": ("torch", _flop_counter_mode),
    "torch.profiler": ("torch", _profiler),
    "torchinfo": ("torchinfo", _torchinfo),
    "fvcore": ("fvcore", _fvcore),
    "ptflops": ("ptflops", _ptflops("pytorch")),
    "ptflops, aten": ("ptflops", _ptflops("aten")),
    "thop": ("thop", _thop),
    "calflops": ("calflops", _calflops),
    "DeepSpeed": ("deepspeed", _deepspeed),
    "torchtnt": ("torchtnt", _torchtnt),
    "mmengine": ("mmengine", _mmengine),
}


# One case under one tool ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """A tool's figures of a case in FLOPs, the true ones, and what it left; or why it has none."""

    tool: str
    case: str
    truth: int
    truth_backward: int | None
    flops: float | None = None
    backward: float | None = None
    printed: float | None = None
    left: list[str]
    failed: str | None = None

    @property
    def ratio(self) -> str:
        """Of forward to the truth."""
        return (self.failed and "fails") or _ratio(self.flops, self.truth)

    @property
    def backward_ratio(self) -> str | None:
        if self.truth_backward is None:
            return None
        return "-" if self.failed or self.backward is None else _ratio(self.backward, self.truth_backward)

    @property
    def right(self) -> bool:
        """Both directions, where it has them."""
        both = self.truth_backward is None or self.backward is None or self.backward == self.truth_backward
        return self.failed is None and self.flops == self.truth and both


def _ratio(said: float | None, truth: int) -> str:
    if said is None:
        return "-"
    if not truth:
        return "1" if not said else "for 0"
    ratio = f"{said / truth:.3g}"
    return "1" if said == truth else f"{said / truth:.6g}" if ratio == "1" else ratio


def _state(model: nn.Module) -> dict[str, Any]:
    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    hooks = {
        path: sum(len(held) for name, held in vars(module).items() if "hook" in name and isinstance(held, dict))
        for path, module in model.named_modules()
    }
    return {
        "modes": {path: module.training for path, module in model.named_modules()},
        "tensors": tensors,
        "hooks": hooks,
        "attributes": {path: set(vars(module)) for path, module in model.named_modules()},
        "functions": [dict(vars(space)) for space in (nn.functional, torch, torch.Tensor)],
    }


def _left(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is not as it was, in words."""
    found = {
        "mode": before["modes"] != after["modes"],
        "hooks": before["hooks"] != after["hooks"],
        "attributes": before["attributes"] != after["attributes"],
        "state dict": before["tensors"].keys() != after["tensors"].keys(),
        "statistics": any(
            name in after["tensors"] and not torch.equal(after["tensors"][name], tensor)
            for name, tensor in before["tensors"].items()
            if tensor.device.type != "meta"
        ),
        "patched functions": any(
            name in was and was[name] is not value and name not in BY_TORCH
            for was, now in zip(before["functions"], after["functions"], strict=True)
            for name, value in now.items()
        ),
    }
    return [what for what, differs in found.items() if differs]


# What torch itself changes when it imports torch._dynamo, as a checkpoint does, and Python when it pickles.
BY_TORCH = ("manual_seed", "__slotnames__")

# They watch a step that is the user's own: what it does to BatchNorm's statistics is none of theirs.
WATCHERS = (_flop_counter_mode, _profiler)


def run(tool: str, case: Case) -> Row:
    """One tool on one case, quietly."""
    counter = TOOLS[tool][1]
    model, args, keywords = prepared(case)
    before = _state(model)

    def left() -> list[str]:
        return [what for what in _left(before, _state(model)) if what != "statistics" or counter not in WATCHERS]

    common = {"tool": tool, "case": case.name, "truth": case.forward, "truth_backward": case.backward}
    try:
        without = torch.no_grad() if case.evaluated else contextlib.nullcontext()
        with warnings.catch_warnings(), without:
            warnings.simplefilter("ignore")
            if counter is _torchtally and not case.products:
                said = _torchtally(model, args, keywords, case.backward is not None, "flops")
            else:
                said = counter(model, args, keywords, case.backward is not None)
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Row(**common, left=left(), failed=why[:160])
    return Row(**common, flops=said.flops, backward=said.backward_flops, printed=said.figure, left=left())


def _answer(pipe: Any, ask: Callable[..., Any], *args: Any) -> None:
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:  # some write there from C
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        pipe.send(ask(*args))


def apart(timeout: float, ask: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a process of its own; None where it ended without an answer, or gave none in time."""
    here, there = _PROCESSES.Pipe(duplex=False)
    process = _PROCESSES.Process(target=_answer, args=(there, ask, *args))
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(timeout) else None
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()


def rows_of(tool: str) -> list[Row]:
    """All cases. Called apart: the tool is imported here once, and forked from."""
    with contextlib.suppress(Exception):  # each case says what is wrong with it
        run(tool, CASES[0])
    found = []
    for case in ALL:
        nothing = Row(
            tool=tool, case=case.name, truth=case.forward, truth_backward=case.backward, left=[], failed="no answer"
        )
        found.append(apart(TIMEOUT, run, tool, case) or nothing)
    return found


# The walkthrough's CNN ------------------------------------------------------------------------------------------------

BATCH, SIDES, CHANNELS, CLASSES, KERNEL = 32, (32, 16, 8), (3, 32, 64, 128), 10, 3
_BLOCKS = tuple(zip(SIDES, CHANNELS[:-1], CHANNELS[1:], strict=True))
_CONVOLUTIONS = sum(2 * BATCH * side**2 * before * KERNEL**2 * after for side, before, after in _BLOCKS)
_FIRST = 2 * BATCH * SIDES[0] ** 2 * CHANNELS[0] * KERNEL**2 * CHANNELS[1]
_DENSE = 2 * BATCH * CHANNELS[-1] * CLASSES
PRODUCTS = _CONVOLUTIONS + _DENSE
# BatchNorm 5 an element, ReLU 1; pooling 2 x 2 for each quarter; then the mean over 4 x 4.
_NORMS = sum(BATCH * after * side**2 * (5 + 1 + 1) for side, _, after in _BLOCKS)
EVERYTHING = PRODUCTS + _NORMS + BATCH * CHANNELS[-1] * (SIDES[-1] // 2) ** 2
BACKWARD = 2 * PRODUCTS - _FIRST  # the images need no gradient

NETWORK = Case("the walkthrough's CNN, N = 32", "", CNN, lambda: (torch.rand(32, 3, 32, 32),), PRODUCTS, BACKWARD)


class Fails(nn.Module):
    """Works, and then does not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return self.layer(x) @ torch.rand(3, 3)


FAILURE = Case("a forward that fails", "", Fails, lambda: (torch.rand(2, 4),), 0)
ALL = (*CASES, NETWORK, FAILURE)


# Showing --------------------------------------------------------------------------------------------------------------


def _cell(row: Row) -> str:
    ratio = row.ratio if row.backward_ratio is None else f"{row.ratio}; {row.backward_ratio}"
    return ratio if row.right else f"**{ratio}**"


def cases_table(rows: list[Row], tools: list[str]) -> str:
    """Cases down, tools across: their figure in the truth."""
    by = {(row.tool, row.case): row for row in rows}
    lines = ["| case | truth, FLOPs | " + " | ".join(tools) + " |", "|---|---:|" + "---|" * len(tools)]
    for case in CASES:
        truth = f"{case.forward:,}" if case.backward is None else f"{case.forward:,}; {case.backward:,}"
        lines.append(f"| {case.name} | {truth} | " + " | ".join(_cell(by[tool, case.name]) for tool in tools) + " |")
    right = [sum(by[tool, case.name].right for case in CASES) for tool in tools]
    lines.append(f"| right, of {len(CASES)} | | " + " | ".join(map(str, right)) + " |")
    return "\n".join(lines)


def left_table(rows: list[Row], tools: list[str]) -> str:
    """What each left behind in any case, and after a forward that fails."""
    lines = ["| tool | left behind | after a forward that fails |", "|---|---|---|"]
    for tool in tools:
        mine = [row for row in rows if row.tool == tool]
        usual = sorted({what for row in mine if row.case != FAILURE.name for what in row.left})
        failing = [what for row in mine if row.case == FAILURE.name for what in row.left]
        lines.append(f"| {tool} | {', '.join(usual) or 'nothing'} | {', '.join(failing) or 'nothing'} |")
    return "\n".join(lines)


def network_table(rows: list[Row]) -> str:
    """The walkthrough's CNN, forward and backward."""
    lines = [
        "| tool | prints | as FLOPs | of products | of everything | backward, FLOPs | of products | left behind |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        if row.failed or row.flops is None:
            lines.append(f"| {row.tool} | {row.failed} | | | | | | |")
            continue
        backward = "-" if row.backward is None else f"{row.backward:,.0f}"
        left = ", ".join(row.left) or "nothing"
        lines.append(
            f"| {row.tool} | {row.printed:,.0f} | {row.flops:,.0f} | {_ratio(row.flops, PRODUCTS)} "
            f"| {_ratio(row.flops, EVERYTHING)} | {backward} | {row.backward_ratio} | {left} |"
        )
    return "\n".join(lines)


def report(rows: list[Row], tools: list[str], versions: dict[str, str], missing: list[str]) -> str:
    """All three tables, in markdown."""
    of_network = [row for row in rows if row.case == NETWORK.name]
    defects = "\n".join(f"- {case.name}: {case.what}" for case in CASES)
    return "\n".join(
        [
            ", ".join(f"{tool} {version}" for tool, version in versions.items())
            + (f". Not installed: {', '.join(missing)}." if missing else "."),
            "",
            "Each tool's figure divided by the truth (forward; backward where the case has one); figures in "
            "multiply-adds are doubled first. 1 is exactly right, - is no figure, **bold** is not right. The truth is "
            "FLOPs of products, or of what there is in cases without a product (see peer_cases.py). ptflops divides "
            "what its hooks see by the number of samples, 2 here.",
            "",
            cases_table(rows, tools),
            "",
            "What each case is about:",
            "",
            defects,
            "",
            "## What is left behind",
            "",
            left_table(rows, tools),
            "",
            f"## {NETWORK.name}",
            "",
            f"Forward {PRODUCTS:,} FLOPs of products, {EVERYTHING:,} with normalization, ReLU and pooling; "
            f"backward {BACKWARD:,} of products.",
            "",
            network_table(of_network),
        ]
    )


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(TOOLS)), help="tools; all that are installed by default")
@click.option("--output", help="write benchmarks/results/NAME.md and .json [peers when no tool was chosen]")
def main(only: tuple[str, ...], output: str | None) -> None:
    """Run counters that are installed on models that some of them get wrong."""
    chosen = [tool for tool in TOOLS if not only or tool in only]
    tools = [tool for tool in chosen if _installed(TOOLS[tool][0])]
    rows = []
    for tool in tools:
        rows += apart(TIMEOUT * len(ALL), rows_of, tool)
        right = sum(row.right for row in rows[-len(ALL) :][: len(CASES)])
        click.echo(f"{tool}: {right} of {len(CASES)} right")
    versions = {tool: importlib.metadata.version(TOOLS[tool][0]) for tool in tools}
    shown = report(rows, tools, versions, [tool for tool in chosen if tool not in tools])
    click.echo(shown)
    name = output or ("peers" if not only else None)
    if name:
        write_results(name, shown, {"rows": [asdict(row) for row in rows]}, "cpu")


if __name__ == "__main__":
    main()
