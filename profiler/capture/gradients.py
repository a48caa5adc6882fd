"""Gradients of parameters, seen when they have been accumulated into `.grad`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..records import GradientFacts
from .tensors import Look, SpecTable, look

# A parameter, the index of the first module that holds it, and its name there.
Holder = tuple[nn.Parameter, int, str]


class ParameterGradients:
    """Counts accumulated gradients by (module index, name, look)."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str, Look], int] = {}

    @contextmanager
    def watching(self, holders: list[Holder]) -> Iterator[None]:
        """Hook the parameters that are trained now, and leave them as they were."""
        undo: list[tuple[Tensor, RemovableHandle, bool]] = []
        try:
            for parameter, owner, name in holders:
                if parameter.requires_grad and parameter.is_leaf:
                    untouched = getattr(parameter, "_post_accumulate_grad_hooks", None) is None
                    hook = partial(self._accumulated, owner, name)
                    undo.append((parameter, parameter.register_post_accumulate_grad_hook(hook), untouched))
            yield
        finally:
            for watched, handle, untouched in undo:
                handle.remove()
                if untouched and not watched._post_accumulate_grad_hooks:
                    watched._post_accumulate_grad_hooks = None  # type: ignore[assignment]

    def _accumulated(self, owner: int, name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        if gradient is not None:
            key = (owner, name, look(gradient))
            self._counts[key] = self._counts.get(key, 0) + 1

    def facts(self, paths: tuple[str, ...], specs: SpecTable) -> tuple[GradientFacts, ...]:
        """The gradients that were accumulated, as records."""
        return tuple(
            GradientFacts(paths[owner], "parameter", name, specs.one(seen), times)
            for (owner, name, seen), times in self._counts.items()
        )
