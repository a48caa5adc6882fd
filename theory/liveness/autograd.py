"""Autograd's part: what its graph holds from forward to backward, and in which order backward lets go of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..phase import Phase
from ..stream import Category
from ..tensor import TensorSpec
from .autocast import WIDE
from .backend import Backend
from .calls import Call, Rule
from .cast import TO_COPY
from .checkpoint import Frame
from .heap import Heap, Storage, Tensor
from .play import play

SUM = "aten.sum"


@dataclass(frozen=True)
class Node:
    """What a layer's forward left: what was called, and what it `saved`, or the checkpoint's `frame` that will know.
    `flows`: its input has a gradient."""

    call: Call
    flows: bool
    saved: tuple[Storage, ...]
    frame: Frame | None
    path: str
    phase: Phase

    def category(self, result: str) -> Category:
        """Of one of its gradients: those of narrow copies of parameters are not yet the parameters'."""
        return "activation gradients" if result == "input" or self.call.copies else "parameter gradients"


Graph = list[Node]
"""What one forward left, in its order. Whoever holds the loss holds all of it."""


@dataclass
class Autograd:
    """Records and takes apart; and keeps the parameters' gradients, by the layer's path and the parameter's name.
    `run_again` is forward's, for checkpoints."""

    heap: Heap
    backend: Backend | None
    run_again: Callable[[Frame], Tensor]
    gradients: dict[tuple[str, str], Storage] = field(default_factory=dict)

    def record(self, graph: Graph, call: Call, saved: tuple[Storage, ...], frame: Frame | None) -> None:
        """A node for a layer that has just run, if it or one before it has parameters. It holds what is saved; in a
        checkpoint nothing but the frame, which it will have to ask."""
        flows = bool(graph)
        learns = flows or bool(call.layer.parameters)
        if frame:
            frame.asks.append(learns and bool(saved))
        if learns:
            held, asked = ((), frame if saved else None) if frame else (self.save(saved), None)
            graph.append(Node(call, flows, held, asked, self.heap.path, self.heap.phase))

    def save(self, storages: tuple[Storage, ...]) -> tuple[Storage, ...]:
        """Hold on to them. Results of forward are "saved" from now on."""
        for storage in storages:
            self.heap.hold(storage)
            storage.category = "saved" if storage.category == "activations" else storage.category
        return storages

    def backward(self, graph: Graph, loss: TensorSpec) -> None:
        """From the loss to the first layer with parameters. The loss's own gradient, a one, is held throughout by who
        called."""
        one = self.heap.open(loss.nbytes, "activation gradients", "aten.ones_like")
        gradient: Storage | None = self.heap.hold(one)
        while graph and gradient:
            gradient = self._run(graph.pop(), gradient)
        self.heap.phase = "outside"
        self.heap.drop(one)

    def forget(self, graph: Graph) -> None:
        """Nobody holds the graph any more: if no backward took it apart, it ends now, from the loss on."""
        while graph:
            self._release(graph.pop())

    def _run(self, node: Node, gradient: Storage) -> Storage | None:
        """Compute the node's gradients; let go of the one that came, then of what was saved; hand over the results."""
        rule = node.call.rule
        if rule is None:
            return gradient
        gradients = node.call.gradients(flows=node.flows)
        with self.heap.at(node.path, node.phase if node.phase == "loss" else "backward"):
            given = self._compute(node, rule, gradients)
            self.heap.drop(gradient)
            self._release(node)
        for name in ("weight", "bias") if node.call.copies else rule.hands_over:
            if name in given:
                wide = self._widened(node, given[name], gradients[name]) if node.call.copies else given[name]
                self._accumulate(node.path, name, wide)
        return given.get("input")

    def _compute(self, node: Node, rule: Rule, gradients: dict[str, TensorSpec]) -> dict[str, Storage]:
        """The node's operator, with what a checkpoint gives it for the time; then what the engine sums up."""
        asked = node.frame.ask(self.heap, self.run_again) if node.frame else ()
        script = self.backend.backward(node.call, flows=node.flows) if self.backend else None
        sums = {name: spec for name, spec in gradients.items() if name in rule.sums}
        rest = {name: spec for name, spec in gradients.items() if name not in sums}
        given = play(self.heap, rule.backward, rest, script, node.category)
        for storage in reversed(asked):
            self.heap.drop(storage)
        return given | play(self.heap, SUM, sums, None, node.category)

    def _widened(self, node: Node, gradient: Storage, spec: TensorSpec) -> Storage:
        """The gradient of a narrow copy, as one of the parameter."""
        with self.heap.at(node.path, "backward"):
            wide = self.heap.open(spec.with_dtype(WIDE).nbytes, "parameter gradients", TO_COPY)
            self.heap.drop(gradient)
            return wide

    def _accumulate(self, path: str, name: str, gradient: Storage) -> None:
        """The first gradient becomes the parameter's; another is added to it, in place, and dies."""
        if (path, name) not in self.gradients:
            self.gradients[path, name] = gradient
            return
        with self.heap.at(path, "accumulation"):
            self.heap.drop(gradient)

    def _release(self, node: Node) -> None:
        for storage in node.saved:
            self.heap.drop(storage)
        if node.frame:
            node.frame.release(self.heap)
