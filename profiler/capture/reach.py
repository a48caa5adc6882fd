"""What a backward pass will run, read from the autograd graph: its nodes, and where they will give gradients.

Reading `next_functions` dispatches nothing and keeps nothing alive.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from torch.autograd.function import BackwardCFunction

from .autograd import NO_SEQUENCE_NUMBER, will_execute
from .expected import PLACES, Arrivals, leaf_place, note, place


@dataclass(slots=True, eq=False)
class Reach:
    """What hangs on a node that a backward pass runs.

    `nodes` by number. `parameters` has, by identity, the first node that gives each one's gradient. `doubtful` are
    edges from nodes that may give no gradient: where they lead, as which gradient of it, and from which number.
    """

    nodes: dict[int, Any]
    arrivals: Arrivals
    parameters: dict[int, int] = field(default_factory=dict)
    doubtful: list[tuple[Any, int, int]] = field(default_factory=list)


def reach(root: Any, number: int, parameters: Collection[int]) -> Reach:
    """All that the pass being run will come to from the node `root` of that number. `parameters` are the identities of
    those whose gradients are told apart from other leaves'.

    Autograd is asked about the ends of the graph alone: where all of them will run, so will all that leads to them.
    Else (`autograd.grad`, `backward(inputs=...)`) it is asked about each node.
    """
    return _follow(root, number, parameters, chosen=False) or _follow(root, number, parameters, chosen=True)  # type: ignore[return-value]


def _follow(root: Any, number: int, parameters: Collection[int], *, chosen: bool) -> Reach | None:
    """The same; `chosen` has each node asked about. Without it, None where an end of the graph will not run."""
    found = Reach({number: root}, {place(number, 0): number})
    nodes, arrivals = found.nodes, found.arrivals
    namesakes: set[Any] = set()  # nodes of several threads may have one number
    waiting = [root]
    while waiting:
        node = waiting.pop()
        giver = node._sequence_nr()
        doubtful = isinstance(node, BackwardCFunction)  # may return None for a gradient, as no other node does
        ends = True
        for following, position in node.next_functions:
            if following is None:
                continue
            ends = False
            number = following._sequence_nr()
            is_leaf = number == NO_SEQUENCE_NUMBER
            if (chosen or is_leaf) and not _runs(following):
                if chosen:
                    continue
                return None
            if not is_leaf:
                known = nodes.get(number)
                if known is None:
                    nodes[number] = following
                    waiting.append(following)
                elif known is not following and following not in namesakes:
                    namesakes.add(following)
                    waiting.append(following)
            if doubtful:
                found.doubtful.append((following, position, giver))
                continue
            if is_leaf:
                variable = following.variable
                if id(variable) in parameters:
                    found.parameters.setdefault(id(variable), giver)
                    continue
                where = leaf_place(variable)
            else:
                where = number * PLACES + position
            if arrivals.setdefault(where, giver) != giver:
                note(arrivals, where, giver)
        if ends and not chosen and not _runs(node):
            return None
    return found


def _runs(node: Any) -> bool:
    try:
        return will_execute(node)
    except RuntimeError:  # autograd refuses to say so of a leaf that autograd.grad will return: it runs
        return True
