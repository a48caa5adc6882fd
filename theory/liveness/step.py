"""A training step's memory in closed form: every allocation and every return, in order, from a chain of layers alone.

The step is this function, from the call to the return. It has been called before: the optimizer has its state, and the
gradients of the last time are there.

    def step():
        optimizer.zero_grad(set_to_none=set_to_none)
        for _ in range(micro_batches):
            with torch.autocast("cpu", autocast):      # autocast=None: without this line
                out = model(images)
                loss = cross_entropy(out, labels)      # keep_logits=False: cross_entropy(model(images), labels)
            loss.backward()                            # backward=False: without this line
        optimizer.step()

Memory lives as long as somebody holds it: a variable of this function or of the model's own, autograd's graph, a
parameter that holds its gradient, an optimizer its state. All rules follow from that. In a chain an input dies as the
next layer returns, unless it was saved. A gradient dies as soon as the node it was for has run, and then what that node
had saved. Variables of the step are bound to the new before they let go of the old, and die in order when it returns.

What an operator needs for itself belongs to its implementation: a `Backend` says what, and without one it is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..layer import Layer
from ..network import Network
from ..optimizers import Optimizer
from ..stream import Stream
from ..tensor import TensorSpec
from .autocast import Autocast
from .autograd import Graph
from .backend import Backend
from .calls import NoRuleError
from .forward import Forward
from .heap import Heap, Storage, Tensor
from .play import play

LABELS = "int64"


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the step does. Training mode, in-place layers and checkpoints are the network's.

    Without an `optimizer` the first line and the last are left out: gradients of the last step are added to. Without
    `gradients` autograd is off (`torch.no_grad`).

    Raises ValueError for fewer than one micro-batch, a backward without gradients, an optimizer without a backward.
    """

    optimizer: Optimizer | None = None
    gradients: bool = True
    backward: bool = True
    micro_batches: int = 1
    set_to_none: bool = True
    keep_logits: bool = True
    autocast: str | None = None

    def __post_init__(self) -> None:
        if self.micro_batches < 1:
            raise ValueError(f"a step has at least one micro-batch, got {self.micro_batches}")
        if self.backward and not self.gradients:
            raise ValueError("there is no backward without gradients: give backward=False")
        if self.optimizer and not self.backward:
            raise ValueError("an optimizer has nothing to do without a backward: give optimizer=None")


def step_stream(network: Network, images: TensorSpec, step: Step, backend: Backend | None = None) -> Stream:
    """The step's stream. Raises NoRuleError for what has no rule, ShapeError where a layer cannot take its input."""
    run = _Run(network, images, step, backend)
    run.step()
    return run.heap.stream()


class _Variable(NamedTuple):
    tensor: Tensor
    graph: Graph


class _Run:
    """One step, as it goes. It begins with what is there."""

    def __init__(self, network: Network, images: TensorSpec, step: Step, backend: Backend | None) -> None:
        if step.autocast and network.checkpoints:
            raise NoRuleError("checkpoints under autocast have no rule: in backward they make copies of their own")
        self.network, self.options, self.backend = network, step, backend
        self.heap = Heap()
        self.forward = Forward(network, self.heap, backend, records=step.gradients)
        self.autograd = self.forward.autograd
        self.variables: dict[str, _Variable] = {}
        labels = TensorSpec(images.shape[:1], LABELS)
        for named in network:
            self._find(named.path, named.layer)
        self.images = Tensor(images, self.heap.find(images.nbytes, "input", ""))
        self.labels = Tensor(labels, self.heap.find(labels.nbytes, "input", ""))

    def _find(self, path: str, layer: Layer) -> None:
        for parameter in layer.parameters:
            self.heap.find(parameter.nbytes, "parameters", path)
            if self.options.backward:
                gradient = self.heap.find(parameter.nbytes, "parameter gradients", path)
                self.autograd.gradients[path, parameter.name] = gradient
            if self.options.optimizer:
                for kept in self.options.optimizer.state(parameter):
                    self.heap.find(kept.nbytes, "optimizer state", path)
        for buffer in layer.buffers:
            self.heap.find(buffer.nbytes, "buffers", path)

    def step(self) -> None:
        """From the call to the return."""
        if self.options.optimizer and self.options.set_to_none:
            self._zero_grad()
        for _ in range(self.options.micro_batches):
            self._forward()
            if self.options.backward:
                self._backward()
        if self.options.optimizer:
            self._update(self.options.optimizer)
        for name in tuple(self.variables):
            self._forget(name)

    def _zero_grad(self) -> None:
        for gradient in self.autograd.gradients.values():
            self.heap.drop(gradient)
        self.autograd.gradients.clear()

    def _forward(self) -> None:
        self.forward.graph = []
        self.forward.autocast = Autocast(self.heap, self.options.autocast) if self.options.autocast else None
        out = self.forward.model(self.images)
        self.heap.phase = "loss" if self.forward.graph else "outside"
        if self.options.keep_logits:
            self._bind("out", _Variable(out, []))
        loss = self.forward.loss(out, self.labels)
        if not self.options.keep_logits:
            self.heap.drop(out.storage)
        self._bind("loss", _Variable(loss, self.forward.graph))
        if self.forward.autocast:
            self.forward.autocast.end()

    def _backward(self) -> None:
        loss = self.variables["loss"]
        self.autograd.backward(loss.graph, loss.tensor.spec)

    def _bind(self, name: str, value: _Variable) -> None:
        if name in self.variables:
            self._forget(name)
        self.variables[name] = value

    def _forget(self, name: str) -> None:
        variable = self.variables.pop(name)
        self.autograd.forget(variable.graph)
        self.heap.drop(variable.tensor.storage)

    def _update(self, optimizer: Optimizer) -> None:
        """One parameter after the other, in a loop whose variables last from one to the next."""
        names: dict[str, Storage] = {}
        with self.heap.at("", "optimizer"):
            for parameter in self.network.parameters:
                for operation in optimizer.update(parameter):
                    script = self.backend.update(operation) if self.backend else None
                    names |= play(self.heap, operation.name, operation.results, script, lambda _: "temporaries")
                    for name in operation.forgets:
                        if name in names:
                            self.heap.drop(names.pop(name))
                    for old, new in operation.renames:
                        names[new] = names.pop(old)
            for storage in names.values():
                self.heap.drop(storage)
