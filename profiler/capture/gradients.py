"""Which gradients really arrive in backward, and of what shape.

No module hook and no tensor hook: a hook before an autograd node sees the gradients that reach it, is unaffected by
in-place operations that come later, and dies with the graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...theory.tensor import TensorSpec
from .tensors import SpecTable

Key = tuple[int, Literal["input", "output", "parameter"], str, TensorSpec]

_PURGE_FIRST_AT = 4096


class GradientRecorder:
    """Counts arrivals by (module index, what it is the gradient of, name, spec)."""

    def __init__(self, specs: SpecTable) -> None:
        self.counts: Counter[Key] = Counter()
        self._specs = specs
        self._handles: list[RemovableHandle] = []
        self._purge_at = _PURGE_FIRST_AT

    def watch(self, node: Any, place: int, owner: int, of: Literal["input", "output"], position: int) -> None:
        """Count the gradient that arrives at `node` in `place` as that of a module's input or output."""
        handle = node.register_prehook(partial(self._arrived, place, owner, of, str(position)))
        self._handles.append(handle)
        if len(self._handles) >= self._purge_at:
            self._purge()

    def _arrived(
        self, place: int, owner: int, of: Literal["input", "output"], name: str, gradients: tuple[Any, ...]
    ) -> None:
        gradient = gradients[place]
        if gradient is not None:
            self.counts[owner, of, name, self._specs.of(gradient)] += 1

    def _purge(self) -> None:
        """Forget handles whose graph is gone, so that a long block does not grow."""
        self._handles = [handle for handle in self._handles if handle.hooks_dict_ref() is not None]
        self._purge_at = max(_PURGE_FIRST_AT, 2 * len(self._handles))

    @contextmanager
    def watching_parameters(self, holders: dict[int, tuple[nn.Parameter, int, str]]) -> Iterator[None]:
        """Count the gradients of these parameters (identity -> parameter, module index, name)."""
        undo: list[tuple[Tensor, RemovableHandle, bool]] = []
        try:
            for parameter, owner, name in holders.values():
                if parameter.requires_grad and parameter.is_leaf:
                    untouched = getattr(parameter, "_post_accumulate_grad_hooks", None) is None
                    handle = parameter.register_post_accumulate_grad_hook(partial(self._accumulated, owner, name))
                    undo.append((parameter, handle, untouched))
            yield
        finally:
            for watched, handle, untouched in undo:
                handle.remove()
                if untouched and not watched._post_accumulate_grad_hooks:
                    watched._post_accumulate_grad_hooks = None  # type: ignore[assignment]

    def _accumulated(self, owner: int, name: str, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.counts[owner, "parameter", name, self._specs.of(parameter.grad)] += 1

    def remove(self) -> None:
        """Take back every hook on graphs that are still alive."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
