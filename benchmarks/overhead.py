"""What observing costs, side by side: torchtally, bare hooks, an empty dispatch mode, and the tools that people know.

Each process runs every instrument in turn, several rounds, one thread, and keeps the least seconds of a step (forward
and backward) for each; the table has the medians over the processes. A round is several steps in a row, timed together.
Python's garbage is collected before, so that no instrument pays for another's, and not between: what its steps leave
for the collector is an instrument's own cost, as it is in a loop. (A single step after a collection would not show it.)

Seconds are the process's own on a CPU. On CUDA they are the wall clock's, from an idle device to an idle device: CPU
seconds would count a host that spins while it waits. What the host spends observing while the device still works costs
nothing there, so that a step of long kernels shows less than one of short ones.

    python benchmarks/overhead.py [--processes 5] [--steps 4] [--device cpu|cuda] [--output NAME]
        [--part chain|depth|cnn|memory|llama] ...
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn
from torch.nn.modules import module as torch_modules
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))

from results import DEVICE, device_or_exit, write_results
from shapes import LlamaShape, chain, llama_on_meta

import torchtally
from torchtally.models import CNN, CNNConfig, example
from torchtally.profiler.capture.attribution import Slots
from torchtally.profiler.capture.modules import CallRecorder
from torchtally.profiler.capture.watch import MemoryWatch, memory_device
from torchtally.profiler.measure import measure_memory

Instrument = Callable[[nn.Module], contextlib.AbstractContextManager[Any]]


class _Empty(TorchDispatchMode):
    """The least that a dispatch mode can cost, with the same switches as ours."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Plain(TorchDispatchMode):
    """The same as PyTorch's documentation writes it, which consults torch._dynamo at every operator."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _hooks(before: Callable[..., None], after: Callable[..., None]) -> Iterator[None]:
    handles = [
        torch_modules.register_module_forward_pre_hook(before),
        torch_modules.register_module_forward_hook(after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _empty_hooks(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    return _hooks(lambda module, inputs: None, lambda module, inputs, output: None)


def _shape_hooks(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """The least that says anything: how often each module was called with what shape and dtype, in and out. It takes
    one tensor for granted, and knows nothing of gradients, errors, threads, or the modules around.
    """
    calls: dict[Any, int] = {}
    taken = []

    def before(module: nn.Module, inputs: Any) -> None:
        (tensor,) = inputs
        taken.append((id(module), tensor.shape, tensor.dtype))

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        call = (taken.pop(), output.shape, output.dtype)
        calls[call] = calls.get(call, 0) + 1

    return _hooks(before, after)


@contextlib.contextmanager
def _module_facts(model: nn.Module) -> Iterator[None]:
    """Which module is running, in which phase, and what it takes and gives: the hooks of a run, without attribution,
    which is whose a tensor or a node is, and where gradients arrive (`capture/passing.py`)."""
    index = {id(module): place for place, module in enumerate(model.modules())}
    with contextlib.ExitStack() as exits:
        CallRecorder(index, Slots()).install(exits)
        yield


@contextlib.contextmanager
def _mem_tracker(model: nn.Module) -> Iterator[None]:
    from torch.distributed._tools.mem_tracker import MemTracker

    tracker = MemTracker()
    tracker.track_external(model)
    with tracker:
        yield


@contextlib.contextmanager
def _memory_account(model: nn.Module) -> Iterator[None]:
    watch = MemoryWatch(model, device=memory_device(model))
    watch.begin()
    try:
        yield
    finally:
        watch.end()


def _torch_profiler(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    return torch.profiler.profile(record_shapes=True, with_flops=True)


STEPS = 4  # timed together

_DEPTHS = (1000, 2000, 4000, 8000)  # pairs, each the double of the one before
_WATCHED = (500, 1000, 2000, 4000)

INSTRUMENTS: dict[str, Instrument] = {
    "bare": lambda model: contextlib.nullcontext(),
    "empty hooks": _empty_hooks,
    "hooks that note shapes": _shape_hooks,
    "torchtally, module facts alone": _module_facts,
    "empty dispatch mode": lambda model: _Empty(),
    "empty dispatch mode, PyTorch's switches": lambda model: _Plain(),
    "torchtally": lambda model: torchtally.profile(model),
    "FlopCounterMode": lambda model: FlopCounterMode(display=False),
    "torch.profiler, shapes and FLOPs": _torch_profiler,
    "MemTracker": _mem_tracker,
    "memory account": _memory_account,
}


def _step(model: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def step() -> None:
        model(x).sum().backward()
        model.zero_grad()

    return step


def timer(device: str) -> Callable[[], float]:
    """Seconds of what a step costs there (see above)."""
    return _when_idle if device == "cuda" else time.process_time


def _when_idle() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _timer_of(model: nn.Module) -> Callable[[], float]:
    return timer(next(model.parameters()).device.type)


def _seconds(instrument: Instrument, model: nn.Module, step: Callable[[], None], times: int = 1) -> float:
    """Seconds of one of several steps in a row (so many times the usual number), a first step inside the instrument not
    counted."""
    now, once = _timer_of(model), instrument is _mem_tracker  # which takes one step and no more
    steps = 1 if once else STEPS * times
    with instrument(model):
        if not once:
            step()
        gc.collect()
        start = now()
        for _ in range(steps):
            step()
        return (now() - start) / steps


def _interleaved(
    model: nn.Module, step: Callable[[], None], names: list[str], rounds: int, times: int = 1
) -> dict[str, float]:
    samples: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            samples[name].append(_seconds(INSTRUMENTS[name], model, step, times))
    return {name: min(found) for name, found in samples.items()}


# The parts, each run in a process of its own --------------------------------------------------------------------------


def part_chain(device: str) -> dict[str, Any]:
    """1,000 x (Linear(16, 16), ReLU), batch 4: microseconds added per module call."""
    model, x = chain(1000).to(device), torch.randn(4, 16, device=device)
    quick = [name for name in INSTRUMENTS if name not in ("MemTracker", "memory account")]
    found = _interleaved(model, _step(model, x), quick, rounds=10)
    return {name: 1e6 * (seconds - found["bare"]) / 2001 for name, seconds in found.items() if name != "bare"}


def part_mem_tracker(device: str) -> dict[str, Any]:
    """125 x (Linear, ReLU): MemTracker grows with the square of the depth, and would take minutes for 1,000."""
    model, x = chain(125).to(device), torch.randn(4, 16, device=device)
    found = _interleaved(model, _step(model, x), ["bare", "torchtally", "MemTracker"], rounds=2)
    return {name: 1e6 * (found[name] - found["bare"]) / 251 for name in ("torchtally", "MemTracker")}


def part_depth(device: str) -> dict[str, Any]:
    """The same at growing depth, up to 16,000 module calls: microseconds added per module call. As many calls are timed
    at each depth: Python's full collections come once in so many calls, and would else be the deepest model's alone.
    """
    added = {}
    for pairs in _DEPTHS:
        model, x = chain(pairs).to(device), torch.randn(4, 16, device=device)
        names, times = ["bare", "empty dispatch mode", "torchtally"], _DEPTHS[-1] // pairs
        found = _interleaved(model, _step(model, x), names, rounds=3, times=times)
        for name in names[1:]:
            added[f"{name}, {2 * pairs:,} calls"] = 1e6 * (found[name] - found["bare"]) / (2 * pairs + 1)
    return added


def _cnn(device: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = CNN(CNNConfig()).to(device)
    return model, *example(model.config, 32, device=device)


def _loss_step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    def step() -> None:
        nn.functional.cross_entropy(model(images), labels).backward()
        model.zero_grad()

    return step


def part_cnn(device: str) -> dict[str, Any]:
    """The walkthrough's CNN at N = 32: the step under each instrument over the bare step."""
    model, images, labels = _cnn(device)
    step = _loss_step(model, images, labels)
    names = ["bare", "empty dispatch mode", "torchtally", "FlopCounterMode"]
    found = _interleaved(model, step, names, rounds=60)
    return {name: found[name] / found["bare"] for name in names[1:]}


def part_memory(device: str) -> dict[str, Any]:
    """Memory's account: the CNN's step in it over the bare step; and all that three watched steps of a chain cost
    beyond the steps themselves, reading included, in microseconds per module call of a step."""
    model, images, labels = _cnn(device)
    step = _loss_step(model, images, labels)
    found = _interleaved(model, step, ["bare", "memory account"], rounds=15)
    figures = {"CNN, step in the account / bare": found["memory account"] / found["bare"]}
    for pairs in _WATCHED:
        deep = chain(pairs).to(device)
        step = _step(deep, torch.randn(4, 16, device=device))
        beyond = min(_watching(deep, step) - 3 * _seconds(INSTRUMENTS["bare"], deep, step) for _ in range(3))
        figures[f"watching, {2 * pairs:,} calls"] = 1e6 * beyond / (2 * pairs + 1)
    return figures


def _watching(model: nn.Module, step: Callable[[], None]) -> float:
    now = _timer_of(model)
    start = now()
    measure_memory(torchtally.Workload(model=model, step=step))
    return now() - start


def part_llama(device: str) -> dict[str, Any]:
    """A 405-billion-parameter Llama shape on meta tensors, sequence 2,048, forward and backward: CPU seconds."""
    model = llama_on_meta(LlamaShape())
    tokens = torch.zeros(1, 2048, dtype=torch.long, device="meta")
    names = ["bare", "torchtally", "FlopCounterMode"]
    found = _interleaved(model, _step(model, tokens), names, rounds=2)
    return {**found, "torchtally / FlopCounterMode": found["torchtally"] / found["FlopCounterMode"]}


PARTS: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "chain": ("us added per module call, 1,000 x (Linear, ReLU)", part_chain),
    "MemTracker": ("us added per module call, 125 x (Linear, ReLU)", part_mem_tracker),
    "depth": ("us added per module call, by depth", part_depth),
    "cnn": ("step over the bare step, the walkthrough's CNN, N = 32", part_cnn),
    "memory": ("memory's account, ratio or us per module call", part_memory),
    "llama": ("seconds, 405-billion-parameter Llama shape on meta", part_llama),
}


def _in_process(part: str, device: str, steps: int, results: Any) -> None:
    global STEPS
    STEPS = steps
    torch.set_num_threads(1)
    results.put(PARTS[part][1](device))


def _processes(part: str, device: str, steps: int, count: int) -> list[dict[str, float]]:
    context = multiprocessing.get_context("spawn")
    found = []
    for _ in range(count):
        results = context.Queue()
        process = context.Process(target=_in_process, args=(part, device, steps, results))
        process.start()
        found.append(results.get())
        process.join()
    return found


@click.command(help=__doc__)
@click.option("--processes", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=STEPS, show_default=True, help="In a row, timed together.")
@DEVICE
@click.option("--part", "parts", type=click.Choice(list(PARTS)), multiple=True, help="Only this part; may be repeated.")
@click.option("--output", help="Write benchmarks/results/NAME.{json,md}.")
def main(processes: int, steps: int, device: str, parts: tuple[str, ...], output: str | None) -> None:
    device_or_exit(device)
    samples = {part: _processes(part, device, steps, processes) for part in parts or PARTS}
    lines = []
    for part, found in samples.items():
        lines += [f"### {PARTS[part][0]}", "", "| instrument | median | least | most |", "| --- | ---: | ---: | ---: |"]
        for name in found[0]:
            figures = [sample[name] for sample in found]
            lines.append(f"| {name} | {statistics.median(figures):.2f} | {min(figures):.2f} | {max(figures):.2f} |")
        lines.append("")
    lines += _verdicts(samples)
    print("\n".join(lines))
    if output:
        write_results(output, "\n".join(lines), {"samples": samples}, device)


def _verdicts(samples: dict[str, list[dict[str, float]]]) -> list[str]:
    """The ratios that are asked for: pairs within each process, then the median."""

    def ratio(part: str, above: str, below: str) -> str:
        found = statistics.median(sample[above] / sample[below] for sample in samples[part])
        return f"- {above} over {below}: {found:.2f}"

    lines = []
    if "chain" in samples:
        lines += [
            ratio("chain", "torchtally, module facts alone", "empty hooks"),
            ratio("chain", "torchtally, module facts alone", "hooks that note shapes"),
            ratio("chain", "torchtally", "empty dispatch mode"),
            ratio("chain", "torchtally", "empty dispatch mode, PyTorch's switches"),
            ratio("chain", "torchtally", "FlopCounterMode"),
        ]
    if "depth" in samples:
        lines += [f"- {line}" for line in _growth(samples["depth"])]
    return lines


def _growth(samples: list[dict[str, float]]) -> Iterator[str]:
    """How the whole overhead, not that of a call, grows when the depth doubles."""
    for pairs in _DEPTHS[1:]:
        deep, half = (f"torchtally, {2 * each:,} calls" for each in (pairs, pairs // 2))
        growth = statistics.median((2 * pairs + 1) * sample[deep] / ((pairs + 1) * sample[half]) for sample in samples)
        yield f"torchtally, {2 * pairs:,} calls over half of them: {growth:.2f}"


if __name__ == "__main__":
    main()
