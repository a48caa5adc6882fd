"""Which storages autograd keeps for a backward pass, read from the graph as the pass comes to its nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from .autograd import NO_SEQUENCE_NUMBER, OUTSIDE_BACKWARD, current_graph_task

_PREFIX = "_raw_saved_"


class SavedTensors:
    """Reads what nodes keep. `found` is told of every tensor in a graph that backward goes over. No node is held: a
    graph dies when it would."""

    def __init__(self, found: Callable[[Tensor], None]) -> None:
        self._found = found
        self._attributes: dict[type, tuple[str, ...]] = {}
        self._task = OUTSIDE_BACKWARD
        self._met: set[int] = {NO_SEQUENCE_NUMBER}

    def of(self, node: Any) -> Iterator[Tensor]:
        """The tensors that a node keeps, as they are; those that hooks have packed are not shown."""
        kind = type(node)
        names = self._attributes.get(kind)
        if names is None:
            names = self._attributes[kind] = tuple(name for name in dir(node) if name.startswith(_PREFIX))
        try:
            for name in names:
                raw = getattr(node, name)
                for variable in raw if isinstance(raw, (tuple, list)) else (raw,):
                    data = getattr(variable, "data", None)
                    if isinstance(data, Tensor):
                        yield data
        except RuntimeError:  # released already
            return

    def visit(self, node: Any) -> None:
        """Look at all that hangs on a node, unless this backward pass has come to it before."""
        task = current_graph_task()
        if task != self._task:
            self._task = task
            self._met = {NO_SEQUENCE_NUMBER}
        waiting = [node]
        while waiting:
            each = waiting.pop()
            number = each._sequence_nr()
            if number not in self._met:
                self._met.add(number)
                for tensor in self.of(each):
                    self._found(tensor)
                waiting += (following for following, _ in each.next_functions if following is not None)
