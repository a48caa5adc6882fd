"""Forward: modules in modules, each with its variables, and the operators of their layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from ..activations import LogSoftmax
from ..layer import Layer
from ..loss import NLLLoss
from ..network import Named, Network
from ..phase import Phase
from ..stream import Category
from .autocast import WIDE, Autocast, Product
from .autograd import Autograd, Graph
from .backend import Backend
from .calls import Call, NoRuleError
from .cast import Cast
from .checkpoint import Frame, random_state
from .heap import Heap, Storage, Tensor
from .play import play


class Forward:
    """Runs the network and the loss. With `records`, autograd keeps what is saved in `graph`, which is the step's to
    renew; so is `autocast`."""

    def __init__(self, network: Network, heap: Heap, backend: Backend | None, *, records: bool) -> None:
        self.network, self.heap, self.backend, self.records = network, heap, backend, records
        self.autograd = Autograd(heap, backend, self._run_again)
        self.graph: Graph = []
        self.autocast: Autocast | None = None
        self._frame: Frame | None = None
        self._again: Iterator[bool] | None = None
        self._phase: Phase = "forward"

    def model(self, images: Tensor) -> Tensor:
        """The logits, held by the caller."""
        return self._module("", self.network.layers, images)

    def loss(self, out: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy is two operators in one: log-probabilities, and their mean at the labels."""
        if self.autocast:
            out = self._call(Cast(WIDE), out)
        log_probabilities = self._call(LogSoftmax(), out)
        loss = self._call(NLLLoss(), log_probabilities, labels)
        self.heap.drop(log_probabilities.storage)
        if self.autocast:
            self.heap.drop(out.storage)
        return loss

    def _module(self, path: str, layers: tuple[Named, ...], given: Tensor) -> Tensor:
        """A module's result, for the caller to hold, who holds what was given until then.

        A module that contains others has one variable that goes through them, `x = part(x)`. What the network `keeps`
        is held by another, until the module returns.
        """
        with self.heap.at(path, self._phase):
            if [named.path for named in layers] == [path]:
                return self._call(layers[0].layer, given)
            x, kept = given, []
            self.heap.hold(x.storage)
            for part, inside in groupby(layers, key=_part_of(path)):
                run = self._checkpointed if self.records and part in self.network.checkpoints else self._module
                y = run(part, tuple(inside), x)
                if part in self.network.keeps:
                    kept.append(x)
                else:
                    self.heap.drop(x.storage)
                x = y
            for each in kept:
                self.heap.drop(each.storage)
            return x

    def _call(self, layer: Layer, *inputs: Tensor) -> Tensor:
        """Run a layer's operator: under autocast, a product on narrow copies."""
        if self.autocast is None or not isinstance(layer, Product):
            return self._operator(Call(layer, tuple(each.spec for each in inputs)), inputs)
        narrow, x = self.autocast.layer(layer), self.autocast.input(*inputs)
        y = self._operator(Call(narrow, (x.spec,), copies=True), (x,), self.autocast.weight())
        self.heap.drop(x.storage)
        return y

    def _operator(self, call: Call, inputs: tuple[Tensor, ...], *weights: Storage) -> Tensor:
        """The output, held by the caller. Autograd keeps what the layer saves, and weights that are copies."""
        script = self.backend.forward(call) if self.backend else None
        operator = call.rule.forward if call.rule else ""
        results = play(self.heap, operator, call.results(), script, lambda _: self._category())
        output = results.pop("output", None) or self.heap.hold(inputs[0].storage)
        if self.records:
            saved = (*call.saved([each.storage for each in inputs], output, results), *weights)
            self._keep(call, saved)
        for result in results.values():  # saved or not, nobody else wants them
            self.heap.drop(result)
        return Tensor(call.output, output)

    def _keep(self, call: Call, saved: tuple[Storage, ...]) -> None:
        """In the graph; when a checkpoint runs again, in its frame, if anybody will ask."""
        if self._again is None or self._frame is None:
            self.autograd.record(self.graph, call, saved, self._frame)
        elif next(self._again):
            self._frame.saved.append(self.autograd.save(saved))

    def _category(self) -> Category:
        """Of a result: a loss that nothing can be learnt from is work like any other."""
        return "temporaries" if self.heap.phase == "outside" else "activations"

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def _checkpointed(self, path: str, layers: tuple[Named, ...], given: Tensor) -> Tensor:
        """The module's result, with nothing saved inside."""
        state = random_state(self.heap)
        self._frame = Frame(path, layers, given, (state, *self.autograd.save((given.storage,))))
        try:
            return self._module(path, layers, given)
        finally:
            self._frame = None

    def _run_again(self, frame: Frame) -> Tensor:
        """The same layers once more. The last one's result is dropped inside it, once what goes with it is saved; its
        input is still in a variable, which the caller holds now."""
        *layers, last = frame.layers
        self._frame, self._again, self._phase = frame, iter(frame.asks), "recompute"
        with self.heap.at(frame.path, self._phase):
            before = self._module(frame.path, tuple(layers), frame.given)
            _check_end(last, before)
            with self.heap.at(last.path, self._phase):
                output = self._call(last.layer, before).storage
                if output.holders == 1:
                    output.category = "workspace"
                self.heap.drop(output)
        self._frame, self._again, self._phase = None, None, "forward"
        return before


def _check_end(last: Named, before: Tensor) -> None:
    """Raises NoRuleError where the last layer saves nothing that it gives: the second run would stop before it."""
    if all(saved.role == "input" for saved in last.layer.saved(before.spec)):
        raise NoRuleError(f"a checkpoint that ends with {last.path}, which saves no result, has no rule")


def _part_of(path: str) -> Callable[[Named], str]:
    """The module directly in `path` that a layer is, or is in."""
    depth = len(path.split(".")) if path else 0
    return lambda named: ".".join(named.path.split(".")[: depth + 1])
