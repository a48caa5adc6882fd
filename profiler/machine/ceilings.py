"""What a machine can do at most: the best rate that was seen, of what is known to be fast.

Operands are zeros: no others let a GPU keep a higher clock, and a ceiling is what cannot be beaten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ...theory.roofline import Ceilings
from ..capture.allocator import account
from ..capture.device import NO_KERNELS
from ..errors import MeasurementError
from ..precision import TF32, with_tf32

Now = Callable[[], int]

SECONDS = 0.1  # for each thing tried
SIDES = (128, 256, 512, 1024, 2048)
_MORE_SIDES = (4096, 8192)  # which alone fill a GPU
SIZES = tuple(2**power for power in range(13, 29))  # bytes, from what fits the nearest cache to what fits none
_IMAGES = 8
_MAPS = {  # channels and side of convolutions, after which matrices
    512: ((64, 30),),
    1024: ((128, 28), (256, 14)),
    4096: ((256, 58), (512, 30)),
    8192: ((512, 58),),
}
_STARTS = 100  # of a kernel that does next to nothing, of each kind
DTYPES = ("float32", "float64", "bfloat16", "float16")

_NANOSECOND = 1e-9


def ceilings(device: str = "cpu", *, now: Now = time.perf_counter_ns, seconds: float = SECONDS) -> Ceilings:
    """Measured now, on the current device of that type.

    `overhead` is what a row's seconds cannot go below for each operator: on the CPU the time to start one, on CUDA,
    where rows have kernels and starting is the host's, the shortest kernel.
    """

    def best(run: Callable[[], Any]) -> float:
        return best_seconds(run, now=now, seconds=seconds, wait=_wait(device))

    return Ceilings(
        flops={name: max(_rates(best, name, device)) for name in _products(device)},
        bandwidth=tuple((size, _bandwidth(best, size, device)) for size in SIZES),
        overhead=_shortest_kernel() if device == "cuda" else _starting(best),
    )


def _starting(best: Callable[[Callable[[], Any]], float]) -> float:
    """Seconds of an operator that does next to nothing. From C++, as in backward, it takes less: half."""
    one = torch.ones(())
    return best(lambda: torch.relu(one)) / 2


def _shortest_kernel() -> float:
    """Seconds of the shortest work that a CUDA device was seen to do, copies and fills among it."""
    one, other = (torch.ones((), device="cuda") for _ in range(2))
    with account("cuda", memory=False) as kept:
        for _ in range(_STARTS):
            torch.relu(one)
            one.zero_()
            one.copy_(other)
        torch.cuda.synchronize()
    return shortest(kernel.ends - kernel.at for kernel in kept.kernels) * _NANOSECOND


def shortest(nanoseconds: Iterable[int]) -> int:
    """The least that is not 0. Raises MeasurementError where the profiler saw no work on the device."""
    found = [each for each in nanoseconds if each > 0]
    if not found:
        raise MeasurementError(NO_KERNELS)
    return min(found)


def best_seconds(run: Callable[[], Any], *, now: Now, seconds: float, wait: Callable[[], None] = lambda: None) -> float:
    """The least seconds of a call: the best of several loops, each long enough for the clock to be exact."""
    run()
    wait()
    times, loop = 1, 0
    end = now() + seconds / _NANOSECOND
    best = float("inf")
    while now() < end:
        begin = now()
        for _ in range(times):
            run()
        wait()
        loop = now() - begin
        best = min(best, loop / times)
        if loop < 1_000_000:
            times *= 2
    return best * _NANOSECOND


def _wait(device: str) -> Callable[[], None]:
    return torch.cuda.synchronize if device == "cuda" else (lambda: None)


# Products -------------------------------------------------------------------------------------------------------------


def _products(device: str) -> tuple[str, ...]:
    """Dtypes, and on CUDA float32 as TF32 apart: they differ by much, and the switch is the user's."""
    return (*DTYPES, TF32) if device == "cuda" else DTYPES


def _rates(best: Callable[[Callable[[], Any]], float], name: str, device: str) -> Iterator[float]:
    """FLOPs per second of matrix products and convolutions in that dtype."""
    dtype = getattr(torch, "float32" if name == TF32 else name)
    with with_tf32(name == TF32):
        for flops, product in _ascending(dtype, device):
            took = best(product)
            yield flops / took
            if took > SECONDS:
                return  # a dtype for which there is no fast product: larger ones would take minutes


def _ascending(dtype: torch.dtype, device: str) -> Iterator[tuple[int, Callable[[], Any]]]:
    """FLOPs and the product, the small ones first."""
    for side in (*SIDES, *_MORE_SIDES) if device == "cuda" else SIDES:
        yield 2 * side**3, _matrices(side, dtype, device)
        for channels, size in _MAPS.get(side, ()):
            inside = 9 * channels**2 * (size - 2) ** 2  # without padding, so that every product is computed
            yield 2 * _IMAGES * inside, _convolution(channels, size, dtype, device)


def _matrices(side: int, dtype: torch.dtype, device: str) -> Callable[[], Tensor]:
    left, right, out = (torch.zeros(side, side, dtype=dtype, device=device) for _ in range(3))
    return lambda: torch.mm(left, right, out=out)


def _convolution(channels: int, size: int, dtype: torch.dtype, device: str) -> Callable[[], Tensor]:
    images = torch.zeros(_IMAGES, channels, size, size, dtype=dtype, device=device)
    weight = torch.zeros(channels, channels, 3, 3, dtype=dtype, device=device)
    return lambda: torch.conv2d(images, weight)


# Memory ---------------------------------------------------------------------------------------------------------------


def _bandwidth(best: Callable[[Callable[[], Any]], float], size: int, device: str) -> float:
    """Bytes per second over `size` bytes in all: the best of reading, writing and copying."""
    whole = torch.zeros(size // 4, device=device)
    source, target = (torch.zeros(size // 8, device=device) for _ in range(2))
    moves: tuple[Callable[[], Tensor], ...] = (
        lambda: whole.sum(),
        lambda: whole.fill_(1.0),
        lambda: target.copy_(source),
        lambda: target.add_(source),
    )
    # `add_` reads both and writes one: three halves of what lies there
    return max(size * factor / best(move) for factor, move in zip((1, 1, 1, 1.5), moves, strict=True))
