"""What autograd has saved for backward, read from the nodes of a graph: by the first node, in forward order, that
saved it.

Reading the raw saved variables dispatches nothing, keeps nothing alive and runs no unpacking hook; saved-tensor hooks
would turn off autograd's check of in-place changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import SavedTensor
from torch.autograd.function import BackwardCFunction
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.checkpoint import _Holder

from ..records import Phase, SavedFacts, SavedRole
from .attribution import BEFORE, NOBODY
from .autograd import NO_SEQUENCE_NUMBER
from .tensors import SpecTable, tensors_in

# That of `untyped_storage()._cdata`, without a Python object for each storage, which would live as long as it.
storage_identity: Callable[[Tensor], int] = torch._C._storage_address  # type: ignore[attr-defined]

_HEARS_NOTHING: Any = torch._C._disabled_torch_function_impl

_PREFIX = "_raw_saved_"
_FACTOR = f"{_PREFIX}other"
_STATISTICS = frozenset({"result1", "result2", "mean", "rstd", "save_mean", "save_var", "save_invstd", "logsumexp"})
_MASKS = frozenset({"mask", "noise"})
_RESULTS = frozenset({"result", "result0", "output", "out", "values"})

# A Python number in a formula (x * 0.5) is kept as a tensor without dimensions that gives way to any other in type
# promotion: here to these, of which each is narrower than the dtype that it stands for.
_NARROWER = {torch.float64: torch.float32, torch.int64: torch.int32, torch.complex128: torch.complex64}

_PACKED = "tensors packed by a saved-tensors hook"
_CHECKPOINTED = f"{_PACKED} (activation checkpointing)"

# Whether in a recomputed call, autograd's name for it, shape, dtype, and the storage's bytes.
_Kind = tuple[bool, str, torch.Size, torch.dtype, int]

_PASSES = 8  # that have ended and are remembered

# A backward pass: the number that the next node had when it started, and the identities of the storages found saved.
Started = tuple[int, set[int]]


class SavedTensors:
    """The tally of storages that were saved.

    `held` are the identities of storages that hold parameters and buffers, which are not counted. `dropouts` are the
    owners that drop elements out: what they multiply by is a mask, whatever its dtype.
    """

    def __init__(self, held: set[int], dropouts: Collection[int]) -> None:
        self.met_function_tensors = False  # of the user's kinds, with a `__torch_function__`
        self._held = held
        self._dropouts = dropouts
        self._attributes: dict[type, tuple[str, ...]] = {}  # of nodes of a type, what they saved
        self._secretive: set[type] = set()  # those that may keep more than that
        self._tallies: dict[_Kind, dict[int, int]] = {}  # -> owner -> times
        self._unreadable: dict[tuple[int, str], int] = {}  # owner and what -> times
        self._ended: deque[Started] = deque(maxlen=_PASSES)

    def remember(self, started: int, storages: set[int]) -> None:
        """A pass has ended; nodes that were there before it may share what it found."""
        if storages:
            self._ended.append((started, storages))

    def collect(
        self, nodes: dict[int, Any], owners: dict[int, int], storages: set[int], around: Collection[Started]
    ) -> None:
        """Give each storage to the first node that saved it, in the order of `owners`; add it to `storages`.

        `owners` has the numbers of the nodes to look at, in forward order. `around` are passes that this one runs
        inside of: what was made since they started is recomputed. Two nodes that were there when a pass started share
        what both saved, though the second is walked in a later one.
        """
        known = self._attributes
        recomputed_from = min((started for started, _ in around), default=NO_SEQUENCE_NUMBER)
        lowest = min(owners, default=0)
        earlier = [(started, found) for started, found in (*self._ended, *around) if started > lowest]
        for number, owner in owners.items():
            node = nodes[number]
            kind = type(node)
            names = known.get(kind)
            if names is None:
                names = known[kind] = tuple(name for name in dir(node) if name.startswith(_PREFIX))
                if kind.__name__ == "CopySlices" or isinstance(node, BackwardCFunction):
                    self._secretive.add(kind)
            if names:
                shared = [found for started, found in earlier if started > number] if earlier else ()
                try:
                    self._collect_from(node, names, owner, number >= recomputed_from, storages, shared)
                except (RuntimeError, NotImplementedError):  # released already; or sparse, opaque, functorch tensors
                    self._cannot_read(owner, f"the saved tensors of {node.name()}")
            if kind in self._secretive:
                self._look_beside(node, owner, storages)

    def _collect_from(
        self,
        node: Any,
        names: Iterable[str],
        owner: int,
        recomputed: bool,
        storages: set[int],
        shared: Collection[set[int]],
    ) -> None:
        held, tallies = self._held, self._tallies
        for name in names:
            raw = getattr(node, name)
            if raw is None:
                continue
            variables: Iterable[Any] = (raw,) if type(raw) is SavedTensor else filter(None, raw)
            for variable in variables:
                data = variable.data
                if type(data) is not Tensor and not self._is_tensor(data, owner):
                    continue
                if not data.ndim and _is_number(data):
                    continue
                identity = storage_identity(data)
                if identity in held or identity in storages:
                    continue
                storages.add(identity)
                if shared and any(identity in others for others in shared):
                    continue
                kind = (recomputed, name, data.shape, data.dtype, data.untyped_storage().nbytes())
                tally = tallies.get(kind)
                if tally is None:
                    tally = tallies[kind] = {}
                tally[owner] = tally.get(owner, 0) + 1

    def _is_tensor(self, data: Any, owner: int) -> bool:
        """Of a subclass, or what hooks have packed; None where there was none to save."""
        if data is None:
            return False
        if isinstance(data, Tensor):
            self.met_function_tensors |= type(data).__torch_function__ is not _HEARS_NOTHING
            return True
        self._cannot_read(owner, _CHECKPOINTED if isinstance(data, _Holder) else _PACKED)
        return False

    def _look_beside(self, node: Any, owner: int, storages: set[int]) -> None:
        """Name what such a node keeps where it cannot be read. Called after what can be."""
        if not isinstance(node, BackwardCFunction):
            self._cannot_read(owner, "what an in-place write into a view saved (CopySlices)")
        elif self._keeps_attributes(node, storages):
            self._cannot_read(owner, f"what {type(node).__name__} keeps as attributes")

    def _keeps_attributes(self, node: Any, storages: set[int]) -> bool:
        """Whether a custom function keeps tensors besides those that autograd saved for it. Called after those."""
        held = self._held
        for value in vars(node).values():
            for tensor in tensors_in(value):
                identity = tensor.untyped_storage()._cdata
                if identity not in storages and identity not in held:
                    return True
        return False

    def _cannot_read(self, owner: int, what: str) -> None:
        key = (owner, what)
        self._unreadable[key] = self._unreadable.get(key, 0) + 1

    def facts(self, paths: tuple[str, ...], specs: SpecTable) -> tuple[SavedFacts, ...]:
        """What was saved, as records; a storage of the loss, or of other work, has no path of a module."""
        return tuple(
            SavedFacts(
                path=paths[owner] if owner >= 0 else "",
                phase="recompute" if recomputed and owner >= 0 else _phase(owner),
                role="mask" if owner in self._dropouts and name == _FACTOR else _role(name, dtype),
                tensor=specs.one((shape, dtype)),
                bytes=nbytes,
                times=times,
            )
            for (recomputed, name, shape, dtype, nbytes), tally in self._tallies.items()
            for owner, times in tally.items()
        )

    def unknown(self, paths: tuple[str, ...]) -> tuple[tuple[str, Phase], ...]:
        """Path and phase of rows whose saved tensors could not all be seen.

        What a checkpoint itself keeps, its inputs, hangs on no node; any module around the checkpointed one may have
        called it.
        """
        found: dict[tuple[str, Phase], None] = {}
        for owner, what in self._unreadable:
            path = paths[owner] if owner >= 0 else ""
            found[path, _phase(owner)] = None
            if what == _CHECKPOINTED and owner >= 0:
                found.update(dict.fromkeys((each, "forward") for each in _above(path)))
        return tuple(found)

    def notes(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        """What could not be seen, and where."""
        return tuple(
            f"{paths[owner] or '(model)' if owner >= 0 else 'outside the model'}: {what} cannot be seen "
            f"({times}x); saved_bytes leaves them out"
            for (owner, what), times in self._unreadable.items()
        )


def _is_number(data: Tensor) -> bool:
    """Whether a tensor without dimensions stands for a Python number: nobody made that tensor."""
    narrower = _NARROWER.get(data.dtype)
    if narrower is None:
        return False
    try:
        return _gives_way(data, narrower)
    except (AssertionError, RuntimeError):  # a fake tensor outside its mode, or a real number inside one
        if type(data) is not Tensor:
            return False
    with _disable_current_modes():
        return _gives_way(data, narrower)


def _gives_way(data: Tensor, narrower: torch.dtype) -> bool:
    return torch.result_type(data, torch.empty((), dtype=narrower, device=data.device)) == narrower


def _above(path: str) -> Iterable[str]:
    """`a.b.c` -> `a.b`, `a` and "" """
    while path:
        path = path.rpartition(".")[0]
        yield path


def _phase(owner: int) -> Phase:
    return "loss" if owner == NOBODY else "outside" if owner == BEFORE else "forward"


def _role(attribute: str, dtype: torch.dtype) -> SavedRole:
    """What a tensor is to the node that saved it, from autograd's name for it and its dtype."""
    name = attribute.removeprefix(_PREFIX)
    if dtype in (torch.bool, torch.uint8) or name in _MASKS:
        return "mask"
    if not dtype.is_floating_point and not dtype.is_complex:
        return "index"
    if name in _STATISTICS:
        return "statistics"
    return "output" if name in _RESULTS else "input"
