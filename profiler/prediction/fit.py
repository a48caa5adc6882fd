"""Does it fit? And how large may the batch be? Answered by prediction: nothing is tried for real."""

from __future__ import annotations

from collections.abc import Callable

from ..amounts import in_bytes
from ..errors import PredictionError
from ..memory import Memory
from ..workload import Build
from .predict import predict
from .workspaces import Learner

_LARGEST = 2**20  # a batch beyond which nobody looks


def fits(build: Build, limit: int | str, *, batch_size: int | None = None, learn: bool | Learner = True) -> bool:
    """Whether a step of `build(batch_size=...)` stays within `limit`: bytes, or words such as "8 GiB".

    Raises what `predict` raises.
    """
    within = in_bytes(limit)
    return predict(build, batch_size=batch_size, learn=learn).memory.fits(within)


def largest_batch(build: Build, limit: int | str, *, learn: bool | Learner = True) -> int:
    """The largest batch whose step stays within `limit`: that one was predicted to fit, and the next one not to.

    Raises PredictionError where not even a batch of one fits, and where the peak does not grow with the batch; else
    what `predict` raises.
    """
    within = in_bytes(limit)
    learner = learn if isinstance(learn, Learner) else Learner() if learn else False
    try:
        return _largest(lambda batch: predict(build, batch_size=batch, learn=learner).memory, within)
    finally:
        if isinstance(learner, Learner) and learner is not learn:
            learner.close()


def _largest(memory: Callable[[int], Memory], limit: int) -> int:
    """Double until it does not fit; then halve what lies between, starting where a straight line says."""
    fitting, peak = 1, _peak(memory, 1)
    if peak > limit:
        raise PredictionError(f"not even a batch of one fits: its peak is {peak:,} B, and the limit {limit:,} B")
    while True:
        failing = 2 * fitting
        beyond = _peak(memory, failing)
        if beyond <= peak or failing > _LARGEST:
            raise PredictionError(
                f"the peak does not grow with the batch: {peak:,} B for {fitting}, {beyond:,} B for {failing}; "
                "does the factory use its batch_size?"
            )
        if beyond > limit:
            break
        fitting, peak = failing, beyond
    line = fitting + (limit - peak) * (failing - fitting) // (beyond - peak)
    guesses = [line + 1, line]
    while failing - fitting > 1:
        guess = guesses.pop() if guesses else 0
        batch = guess if fitting < guess < failing else (fitting + failing) // 2
        if _peak(memory, batch) <= limit:
            fitting = batch
        else:
            failing = batch
    return fitting


def _peak(memory: Callable[[int], Memory], batch: int) -> int:
    found = memory(batch)
    return found.peak_bytes + sum(size for _, size in found.reserved)
