"""What a step tells the allocator's account about itself: which module runs, where a step begins, what is saved.

Nothing here changes what is allocated: no dispatch mode, no copy. Ranges are opened around module calls, and the
autograd numbers of each call lead its backward back to it, as in counting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules import module as torch_modules
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from .allocator import Range
from .attribution import NOBODY, SequenceTable
from .autograd import OUTSIDE_BACKWARD, current_graph_task, next_sequence_number
from .tensors import tensors_in
from .whereabouts import Whereabouts, of_model, of_optimizer, of_step, whereabouts

MODULE = "torchtally.module:"
NOTE = "torchtally.note:"


@dataclass(frozen=True, slots=True)
class Note:
    """Something said at a moment of the account.

    boundary  a step begins, and the one before has ended: `known` are all lasting tensors
    given     the model was given these tensors, of these shapes
    returned  the model's outermost call has ended; `expects_loss` where something can be differentiated
    found     where these tensors lie, now
    """

    what: Literal["boundary", "given", "returned", "found"]
    known: tuple[Whereabouts, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    expects_loss: bool = False


@dataclass
class Markers:
    """Ranges around the model's calls, and notes between them. `paths` are the modules', in order; `table` has whose
    autograd numbers are whose."""

    model: nn.Module
    step: Callable[..., Any] | None = None
    device: str = "cpu"
    notes: list[Note] = field(default_factory=list)
    table: SequenceTable = field(default_factory=SequenceTable)

    def __post_init__(self) -> None:
        modules = dict(self.model.named_modules())
        self.paths = tuple(modules)
        self._owners = {id(module): owner for owner, module in enumerate(modules.values())}
        self._names = tuple(f"{MODULE}{owner}" for owner in range(len(modules)))
        self._held_by = {
            id(parameter): path
            for path, module in reversed(modules.items())
            for parameter in module.parameters(recurse=False)
        }
        self._open: list[tuple[int, Any]] = []
        self._optimizers: dict[int, Optimizer] = {}
        self._thread = threading.get_ident()
        self.foreign_calls = 0  # of other threads, where nobody keeps an account

    def install(self, exits: ExitStack) -> None:
        """Watch module calls and optimizers; `exits` takes it back."""
        self.table.push(next_sequence_number(), NOBODY)
        exits.callback(self._close_all)
        exits.callback(torch_modules.register_module_forward_pre_hook(self._enter).remove)
        handle = torch_modules.register_module_forward_hook(self._leave, with_kwargs=True, always_call=True)
        exits.callback(torch_modules._global_forward_hooks_with_kwargs.pop, handle.id, None)  # its handle forgets this
        exits.callback(handle.remove)
        exits.callback(register_optimizer_step_post_hook(self._stepped).remove)

    def follow(self, optimizer: Optimizer) -> None:
        """Its state is known from now on; that of others from their first step."""
        self._optimizers.setdefault(id(optimizer), optimizer)

    def tick(self) -> None:
        """A step begins here, or the last has ended; nothing is said of what it holds."""
        self._note(Note("boundary"))

    def boundary(self) -> None:
        """A step begins here, or the last has ended."""
        held = [*of_model(self.model, self.device)]
        for optimizer in self._optimizers.values():
            held += of_optimizer(optimizer, self._held_by, self.device)
        if self.step is not None:
            held += of_step(self.step, self.device)
        self._note(Note("boundary", tuple(held)))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask autograd what it saves, and where parameters' gradients arrive, through a block."""
        with ExitStack() as exits:
            for parameter in self.model.parameters():
                if parameter.requires_grad and parameter.is_leaf:
                    exits.callback(parameter.register_post_accumulate_grad_hook(self._arrived).remove)
            exits.enter_context(saved_tensors_hooks(self._saved, _given_back))
            yield

    def _enter(self, module: nn.Module, args: Any) -> None:
        owner = self._owners.get(id(module))
        if owner is None:
            return
        if threading.get_ident() != self._thread:
            self.foreign_calls += 1
            return
        if not self._open and current_graph_task() == OUTSIDE_BACKWARD:  # else it is a part that is recomputed
            self._note(self._given(args))
        span = Range(self._names[owner])
        span.__enter__()
        self._open.append((owner, span))
        self.table.push(next_sequence_number(), owner)

    def _leave(self, module: nn.Module, args: Any, *rest: Any) -> None:
        """`rest` is (kwargs, result), or (result,) when forward raised."""
        owner = self._owners.get(id(module))
        if threading.get_ident() != self._thread or not any(each == owner for each, _ in self._open):
            return
        while self._open:  # calls inside that ended without saying so are ended with it
            ended, span = self._open.pop()
            span.__exit__(None, None, None)
            if ended == owner:
                break
        outer = self._open[-1][0] if self._open else NOBODY
        self.table.push(next_sequence_number(), outer)
        if not self._open and current_graph_task() == OUTSIDE_BACKWARD:
            kwargs, result = rest if len(rest) == 2 else ({}, None)
            self._note(self._given(kwargs))
            self._note(Note("returned", expects_loss=any(tensor.requires_grad for tensor in tensors_in(result))))

    def _given(self, value: Any) -> Note:
        tensors = tensors_in(value)
        found = (whereabouts(tensor, "input") for tensor in tensors if tensor.device.type == self.device)
        return Note(
            "given",
            known=tuple(each for each in found if each is not None),
            shapes=tuple(tuple(tensor.shape) for tensor in tensors),
        )

    def _close_all(self) -> None:
        while self._open:
            self._open.pop()[1].__exit__(None, None, None)

    def _stepped(self, optimizer: Optimizer, *_: Any) -> None:
        self.follow(optimizer)

    def _arrived(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            path = self._held_by.get(id(parameter), "")
            self._found(parameter.grad, whereabouts(parameter.grad, "parameter gradients", path))

    def _saved(self, tensor: Tensor) -> Tensor:
        self._found(tensor, whereabouts(tensor, "saved"))
        return tensor.detach()  # an output that its own node kept as it is would never be freed without a backward

    def _found(self, tensor: Tensor, where: Whereabouts | None) -> None:
        if where is not None and tensor.device.type == self.device:
            self._note(Note("found", (where,)))

    def _note(self, note: Note) -> None:
        with Range(f"{NOTE}{len(self.notes)}"):
            pass
        self.notes.append(note)


def _given_back(tensor: Tensor) -> Tensor:
    return tensor
