"""Three steps under the allocator's account.

1. one to see opened what the next one will close,
2. the step that counts,
3. the same again, with autograd asked what it saves and which gradients arrive: if it makes the same requests, what was
   learnt of its blocks holds for those of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ...theory.stream import Stream
from ..errors import StepsDifferError, UsageError
from .allocator import Account, account
from .cautions import run_eagerly
from .garbage import no_garbage_collection
from .memory import Markers, Note
from .streams import Reader

STEPS = 3


class MemoryWatch:
    """Watches the steps that follow `begin`, up to `STEPS`; each is announced by `step_ended`.

    `step` and `optimizer`, where they are known, name the tensors that they hold.
    """

    def __init__(
        self,
        model: nn.Module,
        step: Callable[..., Any] | None = None,
        optimizer: Optimizer | None = None,
        device: str = "cpu",
    ) -> None:
        self.device = device
        self.notes: tuple[str, ...] = ()
        self._markers = Markers(model, step, device)
        if optimizer is not None:
            self._markers.follow(optimizer)
        self._exits = ExitStack()
        self._account: Account | None = None
        self._ended = 0

    def begin(self) -> None:
        """Open the account. Raises RunStateError while another profiler session is active."""
        with ExitStack() as exits:
            # Gradients that are older than the account would be given back without a word, or with a warning.
            exits.callback(_gradients(self._markers.model).clear)
            run_eagerly(exits)
            self._markers.install(exits)
            self._account = exits.enter_context(account(self.device, operators=False))
            self._markers.boundary()
            self._exits = exits.pop_all()

    def step_ended(self) -> bool:
        """Announce that a step has ended; whether there are more to watch."""
        self._markers.boundary()
        self._ended += 1
        if self._ended == STEPS - 1:
            self._exits.enter_context(self._markers.asking())
        return self._ended < STEPS

    def end(self) -> None:
        """Close the account, whatever happened."""
        if self._ended < STEPS:
            self._markers.boundary()  # a step that was cut short ends here
        self._exits.close()

    @property
    def beyond(self) -> tuple[tuple[str, int], ...]:
        """What the allocator held, when most was live, beyond what was asked for, by name."""
        return self._account.beyond if self._account is not None else ()

    def stream(self) -> Stream:
        """Of the second step; of the last one that was watched, where there were fewer. Raises StepsDifferError where
        the model was not given the same shapes in each."""
        assert self._account is not None, "a watch is read after it has begun and ended"
        reader = Reader(self._markers.paths, self._markers.table, self._markers.notes)
        with no_garbage_collection():  # of many objects that all stay it would find none, again and again
            reader.read(self._account.entries)
        if self._ended < STEPS:
            return reader.stream(reader.steps - 1)
        same_shapes(self._markers.notes)
        difference = _difference(reader.sizes(1), reader.sizes(2))
        if difference is None:
            reader.learn(1, like=2)
        self.notes = tuple(_notes(difference, self._markers.foreign_calls))
        return reader.stream(1)


def _notes(difference: str | None, foreign_calls: int) -> Iterator[str]:
    """What could not be seen, in words."""
    if difference is not None:
        yield f"two equal steps made different requests ({difference}): what autograd keeps is told by who let it go"
    if foreign_calls:
        yield f"module calls in other threads, whose memory was not seen: {foreign_calls}"


def memory_device(model: nn.Module) -> str:
    """Where the model lies. Raises UsageError for a device whose allocator is not known here, or more than one."""
    devices = {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} or {"cpu"}
    if len(devices) > 1 or devices - {"cpu", "cuda"}:
        raise UsageError(
            f"memory is measured on the CPU or on one CUDA device; the model lies on {', '.join(sorted(devices))}"
        )
    return devices.pop()


def _gradients(model: nn.Module) -> list[Tensor | None]:
    return [parameter.grad for parameter in model.parameters()]


def same_shapes(notes: Iterable[Note]) -> None:
    """Raises StepsDifferError where a step gave the model other shapes than the first."""
    first, *others = list(_shapes(notes))
    for number, shapes in enumerate(others, start=2):
        if shapes != first:
            raise StepsDifferError(
                f"the steps differ in shape: in step 1 the model was given {first}, in step {number} {shapes}; "
                "measuring takes the same step several times, so let each have a batch of one size"
            )


def _shapes(notes: Iterable[Note]) -> Iterator[list[tuple[tuple[int, ...], ...]]]:
    """What the model was given, call by call, for each step that ended."""
    of_step: list[tuple[tuple[int, ...], ...]] | None = None
    for note in notes:
        if note.what == "boundary":
            if of_step is not None:
                yield of_step
            of_step = []
        elif note.what == "given" and of_step is not None and note.shapes:
            of_step.append(note.shapes)


def _difference(one: list[int], other: list[int]) -> str | None:
    """Where two sequences of requests part, in words."""
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return f"request {number}: {left:+,} B and {right:+,} B"
    return None if len(one) == len(other) else f"{len(one)} requests and {len(other)}"
