"""One operator, played on the heap: its results, and around them what it needs for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..stream import Category
from ..tensor import TensorSpec
from .heap import Heap, Storage
from .script import GIVES, Script, in_order


def play(
    heap: Heap,
    operator: str,
    results: Mapping[str, TensorSpec],
    script: Script | None,
    category: Callable[[str], Category],
) -> dict[str, Storage]:
    """The results' storages by name, each held by the caller. Without a script they come one after the other.

    Raises ValueError for a script that does not give every result.
    """
    script = script or in_order(results)
    given: dict[str, Storage] = {}
    scratch: dict[str, Storage] = {}
    for does, name, size in script.giving(results):
        if does == GIVES:
            given[name] = heap.open(results[name].nbytes, category(name), operator)
        elif does == "<":
            scratch[name] = heap.open(size, "temporaries", "")
        elif does == "+":
            scratch[name] = heap.open(size, "workspace", operator)
        else:
            heap.drop(scratch.pop(name))
    if missing := results.keys() - given.keys():
        raise ValueError(f"{operator}: {script} does not give {', '.join(sorted(missing))}")
    return {name: given[name] for name in results}
