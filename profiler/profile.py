"""The context manager: watch a model through a block, then read the ledger.

with torchtally.profile(model) as run:
    loss = criterion(model(x), y)
    loss.backward()
print(run)
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from .adapters import adapt
from .capture.attribution import NOBODY, SequenceTable, Slots
from .capture.autograd import next_sequence_number
from .capture.cautions import cautions, in_transforms, run_eagerly
from .capture.expected import ExpectedGradients
from .capture.graph import GraphWalker
from .capture.modules import CallRecorder
from .capture.operators import OperatorRecorder
from .capture.saved import SavedTensors
from .capture.tensors import SpecTable
from .capture.watch import MemoryWatch, memory_device
from .environment import environment
from .errors import NotAModuleError, RunStateError, UsageError
from .formulas import Formula
from .memory import Memory
from .pricing import PRICES, Prices
from .records import GradientFacts, ModuleFacts, ParameterFacts, Trace
from .run import Run

if TYPE_CHECKING:
    from ..theory.layer import Layer

State = Literal["new", "active", "ended"]

# A parameter, the index of the first module that holds it, and its name there.
Holder = tuple[nn.Parameter, int, str]


class Profile(Run):
    """One watched block. Made by `profile`; entered once; read after it has ended, also when it ended by an error."""

    def __init__(self, model: nn.Module, *, prices: Prices = PRICES) -> None:
        if not isinstance(model, nn.Module):
            raise NotAModuleError(
                f"profile() needs a torch.nn.Module, got {type(model).__name__}; "
                "for a function, wrap it in a module whose forward calls it"
            )
        self._model: nn.Module | None = model
        super().__init__(prices=prices)
        self._state: State = "new"
        self._lock = threading.Lock()
        self._exits = ExitStack()
        self._watch: MemoryWatch | None = None

    def __enter__(self) -> Profile:
        with self._lock:
            if self._state != "new" or self._model is None:
                raise RunStateError(
                    "this run is active already; it cannot be entered again before it has ended"
                    if self._state == "active"
                    else "this run has ended, and a run records one block; call torchtally.profile(model) again"
                )
            self._state = "active"
        try:
            with ExitStack() as exits, DisableTorchFunction():  # no function mode of the user's sees what we read
                self._start(self._model, exits)
                self._exits = exits.pop_all()
        except BaseException:
            self._state = "new"
            raise
        return self

    def _start(self, model: nn.Module, exits: ExitStack) -> None:
        specs = self._specs = SpecTable()
        table, slots = SequenceTable(), Slots()
        modules = dict(model.named_modules())
        self._paths = tuple(modules)
        self._facts = _module_facts(modules, specs)
        # Settings are read now: what the block changes later is not what its first call ran with.
        self._layers = closed_forms(modules)
        self._holders = _holders(modules)
        index = {id(module): position for position, module in enumerate(modules.values())}
        self._expected = ExpectedGradients()
        self._calls = CallRecorder(index, slots, table, self._expected)
        dropouts = {position for position, module in enumerate(modules.values()) if isinstance(module, _DropoutNd)}
        self._saved = SavedTensors(_parameter_storages(model), dropouts)
        self._walker = GraphWalker(table, self._expected, self._calls.tally.owner_of, self._holders.keys(), self._saved)
        owners = {identity: owner for identity, (_, owner, _) in self._holders.items()}
        self._operators = OperatorRecorder(self._calls, slots, table, self._walker, owners, self._prices.is_free)
        self._environment = environment(_device(model))
        table.push(next_sequence_number(), NOBODY)
        self._cautions = cautions(modules)
        run_eagerly(exits)
        self._calls.install(exits)
        self._operators.install(exits)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._stop(None if kind is None else kind.__name__)
        finally:
            self._model = None
            self._watch = None
            self._state = "ended"

    def step(self) -> None:
        """Say that a step of a loop has ended. Then the first step alone is counted, and three more are watched for
        memory, without a dispatch mode, which would change it. Steps beyond those run unobserved.

        Raises RunStateError outside the block; StepsDifferError where the steps are not of one shape.
        """
        if self._state != "active" or self._model is None:
            raise RunStateError("step() is said inside the block, at the end of each step")
        if self._trace is None:
            self._stop_counting(None)
            self._watch = MemoryWatch(self._model, device=memory_device(self._model))
            self._watch.begin()
        elif self._watch is not None and not self._watch.step_ended():
            self._stop_watching()

    def _stop(self, error: str | None) -> None:
        if self._trace is None:
            self._stop_counting(error)
        elif self._watch is not None:
            self._watch.end()

    def _stop_counting(self, error: str | None) -> None:
        try:
            self._exits.close()
        finally:
            with DisableTorchFunction():
                self._trace = self._freeze(error)
            # The run keeps facts, and nothing of the model.
            del self._calls, self._operators, self._walker, self._saved, self._expected, self._holders

    def _stop_watching(self) -> None:
        watch, self._watch = self._watch, None
        assert watch is not None
        watch.end()
        self._memory = Memory.of(watch)

    def _freeze(self, error: str | None) -> Trace:
        self._operators.finish()
        paths, specs, tally = self._paths, self._specs, self._calls.tally
        return Trace(
            environment=self._environment,
            modules=self._facts,
            calls=tally.facts(paths, specs),
            operators=self._operators.signatures.facts(paths),
            gradients=(*tally.gradient_facts(self._expected.arrived, paths, specs), *self._parameter_gradients()),
            saved=self._saved.facts(paths, specs),
            saved_unknown=self._saved.unknown(paths),
            second_order=self._operators.second_order,
            notes=self._notes(error),
        )

    def _parameter_gradients(self) -> Iterable[GradientFacts]:
        for identity, times in self._walker.parameter_gradients.items():
            parameter, owner, name = self._holders[identity]
            yield GradientFacts(self._paths[owner], "parameter", name, self._specs.of(parameter), times)

    def _notes(self, error: str | None) -> tuple[str, ...]:
        notes = (*self._cautions, *self._saved.notes(self._paths))
        if error:
            notes += (f"the block was ended by {error}: figures are of the part before it",)
        elif not self._calls.tally.finished:
            notes += ("no module of the model was called in the block",)
        inside = self._calls.tally.transformed
        if inside:
            notes += (in_transforms([self._paths[owner] for owner in sorted(inside)]),)
        calls = self._calls.foreign_threads
        if calls:
            notes += (f"module calls in other threads were not observed: {calls}; profile each thread's part itself",)
        return notes

    def _ended(self) -> None:
        if self._state != "ended":
            raise RunStateError(
                "this run has no results yet: "
                + (
                    "leave the `with` block first"
                    if self._state == "active"
                    else "enter it with `with torchtally.profile(model) as run:`"
                )
            )

    def __repr__(self) -> str:
        return super().__repr__() if self._state == "ended" else f"<torchtally run, {self._state}>"

    def __str__(self) -> str:
        return super().__str__() if self._state == "ended" else f"<torchtally run, {self._state}>"


def profile(model: nn.Module, *, prices: Prices = PRICES, formulas: Mapping[Any, Formula] | None = None) -> Profile:
    """Watch `model` through a `with` block: forward, backward, optimizer steps, as many as you like.

    The model, torch and the process are left as they were on every path out; losses and gradients are what they would
    have been. Raises NotAModuleError for anything but a module. Results are read after the block:
    `print(run)`, `run.to_frame()`, `run.totals`, `run.compare()`.

    `formulas` prices operators of your own for this run alone: `{"mylib.my_op": formula}`, or the operator itself
    (`torch.ops.mylib.my_op`) as the key. A formula takes a `Signature` and returns a `Price`. `prices` replaces the
    whole table; `torchtally.PRICES.extend({...})` makes one that can be kept.
    """
    return Profile(model, prices=prices.extend(formulas) if formulas else prices)


def _module_facts(modules: Mapping[str, nn.Module], specs: SpecTable) -> tuple[ModuleFacts, ...]:
    identities: dict[int, int] = {}

    def facts(path: str, named: Iterable[tuple[str, Tensor]]) -> tuple[ParameterFacts, ...]:
        held = tuple(named)
        for name, tensor in held:
            if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
                raise UsageError(
                    f"{path}.{name}".lstrip(".")
                    + " is not initialized: it has no shape before the model has run once; "
                    "run one forward, then profile"
                )
        return tuple(
            ParameterFacts(
                name,
                specs.of(tensor),
                identities.setdefault(id(tensor), len(identities)),
                tensor.requires_grad,
            )
            for name, tensor in held
        )

    return tuple(
        ModuleFacts(
            path=path,
            type=type(module).__name__,
            parameters=facts(path, module.named_parameters(recurse=False)),
            buffers=facts(path, module.named_buffers(recurse=False)),
            training=module.training,
        )
        for path, module in modules.items()
    )


def closed_forms(modules: Mapping[str, nn.Module]) -> dict[str, Layer]:
    """The closed form of each module that has one, by path.

    None also where a module has settings that its closed form refuses: that must not stop the user's step.
    """
    found = {}
    for path, module in modules.items():
        with suppress(ValueError, TypeError, AttributeError):
            found[path] = adapt(module)
    return {path: layer for path, layer in found.items() if layer is not None}


def _holders(modules: Mapping[str, nn.Module]) -> dict[int, Holder]:
    """Each parameter once, by identity, with the first module that holds it."""
    holders: dict[int, Holder] = {}
    for owner, module in enumerate(modules.values()):
        for name, parameter in module.named_parameters(recurse=False):
            holders.setdefault(id(parameter), (parameter, owner, name))
    return holders


def _parameter_storages(model: nn.Module) -> set[int]:
    """Identities of the storages that hold the model's parameters and buffers, now."""
    return {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}


def _device(model: nn.Module) -> torch.device:
    tensor = next(model.parameters(), None)
    return torch.device("cpu") if tensor is None else tensor.device
