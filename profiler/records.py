"""Facts of a run, as frozen records that need no torch to read. Nothing here is priced, judged or formatted.

A `Trace` is a tally: equal facts are kept once, with how often they happened, so that a thousand equal steps take no
more room than one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..theory.phase import PHASES as PHASES
from ..theory.phase import Phase as Phase
from ..theory.tensor import TensorSpec

# An operator's argument as far as a price may depend on it. Floating-point scalars are dropped (None).
Argument: TypeAlias = TensorSpec | int | bool | str | None | tuple["Argument", ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """An operator with the shapes, dtypes and integer settings of one kind of call."""

    operator: str
    arguments: tuple[Argument, ...] = ()
    keywords: Mapping[str, Argument] = field(default_factory=dict)
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class ParameterFacts:
    """A parameter or buffer that a module holds itself. `identity` is equal where one tensor has several holders."""

    name: str
    tensor: TensorSpec
    identity: int
    trainable: bool


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """A module of the profiled model; `path` as `named_modules()` gives it, "" for the model itself."""

    path: str
    type: str
    parameters: tuple[ParameterFacts, ...] = ()
    buffers: tuple[ParameterFacts, ...] = ()
    training: bool = True


@dataclass(frozen=True, slots=True)
class CallFacts:
    """`times` calls of one module with the same tensors in and out.

    `own_outputs` are those outputs that no call inside this one had already given: what the module itself adds.
    `inputs_need_grad` has a flag per input.
    """

    path: str
    phase: Phase
    inputs: tuple[TensorSpec, ...]
    inputs_need_grad: tuple[bool, ...]
    outputs: tuple[TensorSpec, ...]
    own_outputs: tuple[TensorSpec, ...]
    times: int


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    """`times` dispatches of one operator signature, on behalf of one module in one phase."""

    path: str
    phase: Phase
    signature: Signature
    times: int


@dataclass(frozen=True, slots=True)
class GradientFacts:
    """`times` arrivals of a gradient in backward.

    `of` is "input" or "output" of a module, with its position, or "parameter" with its name.
    """

    path: str
    of: Literal["input", "output", "parameter"]
    name: str
    tensor: TensorSpec
    times: int


SavedRole = Literal["input", "output", "index", "mask", "statistics"]

SAVED_ROLES: tuple[SavedRole, ...] = ("input", "output", "index", "mask", "statistics")


@dataclass(frozen=True, slots=True)
class SavedFacts:
    """A storage that autograd kept for backward, `times` over, given to the first module that saved it.

    `tensor` is what was saved of it, perhaps a view; `bytes` the whole storage's. Parameters and buffers are not
    listed.
    """

    path: str
    phase: Phase
    role: SavedRole
    tensor: TensorSpec
    bytes: int
    times: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything a run observed. `second_order`: a backward pass was itself recorded, to be differentiated. `notes`
    names what could not be observed, in words.

    `saved_unknown` has the path and phase of modules whose saved tensors could not all be seen.
    """

    environment: Mapping[str, Any]
    modules: tuple[ModuleFacts, ...]
    calls: tuple[CallFacts, ...] = ()
    operators: tuple[OperatorFacts, ...] = ()
    gradients: tuple[GradientFacts, ...] = ()
    saved: tuple[SavedFacts, ...] = ()
    saved_unknown: tuple[tuple[str, Phase], ...] = ()
    second_order: bool = False
    notes: tuple[str, ...] = ()
