"""Recurrent layers: per step and direction, a product with the input, one with the hidden state, and gates.

With N sequences of T steps, I input features, H hidden units, R of them fed back (H, or `proj_size`) and g
gates: T*N*I*gH multiply-adds for the input, T*N*R*gH for the hidden state, T*N*H*R for a projection.

Sums of gradients where a tensor is used several times (over steps, too) are autograd's work, and not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from .cost import ZERO, Cost
from .layer import Backward, Parameter, Role, Saved, ShapeError, at_least_one, gradients, trained, wants
from .pointwise import Dropout
from .tensor import TensorSpec


class Sizes(NamedTuple):
    """What the formulas need of an input: T, N, and whether N is a dimension of it."""

    steps: int
    batch: int
    batched: bool


class Needs(NamedTuple):
    """What makes the gates of a layer's first step need a gradient: later ones always do.

    That it reads something that needs one, or is trained; that it is trained; and the initial states.
    """

    reads: bool
    trains: bool
    hidden: bool
    cell: bool


@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """What the three kinds share. Inputs are x: (T, N, I), (N, T, I) with `batch_first`, or (T, I), and then the
    initial states, if given, (layers * directions, N, size) or without N.

    Where no initial state is given, or it needs no gradient, the first step's is not computed. Fused kernels compute
    gradients `unasked`: "data", those of the input and of all states (cudnn), or "everything", the weights' too
    (mkldnn). The former has the dropout between layers in it, which is then not counted.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    dtype: str = "float32"
    training: bool = True
    unasked: Literal["nothing", "data", "everything"] = "nothing"

    kind: ClassVar[str] = "recurrent"
    gates: ClassVar[int]
    states: ClassVar[int] = 1
    gate_flops: ClassVar[int]
    gate_gradient_flops: ClassVar[int]

    def __post_init__(self) -> None:
        at_least_one(self, "input_size", "hidden_size", "num_layers")

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _fed_back(self) -> int:
        """Features of the hidden state as it is fed back and put out."""
        return self.hidden_size

    def _features(self, layer: int) -> int:
        """Input features of a layer: the ones above the first read both directions of the one below."""
        return self.input_size if layer == 0 else self.directions * self._fed_back

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """For each layer and direction: weight_ih, weight_hh, bias_ih, bias_hh, and weight_hr if it projects."""
        rows = self.gates * self.hidden_size
        found = []
        for layer in range(self.num_layers):
            for suffix in (f"l{layer}", f"l{layer}_reverse")[: self.directions]:
                shapes: list[tuple[str, tuple[int, ...]]] = [
                    ("weight_ih", (rows, self._features(layer))),
                    ("weight_hh", (rows, self._fed_back)),
                ]
                shapes += [("bias_ih", (rows,)), ("bias_hh", (rows,))] if self.bias else []
                if self._fed_back != self.hidden_size:
                    shapes += [("weight_hr", (self._fed_back, self.hidden_size))]
                found += [Parameter(f"{name}_{suffix}", shape, self.dtype) for name, shape in shapes]
        return tuple(found)

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def _sizes(self, inputs: tuple[TensorSpec, ...]) -> Sizes:
        """Raises ShapeError where the input or an initial state does not fit."""
        x, *states = inputs
        if len(x.shape) not in (2, 3) or x.shape[-1] != self.input_size or 0 in x.shape:
            raise ShapeError(
                f"{type(self).__name__} takes two or three dimensions, the last of {self.input_size} features, "
                f"got {x.shape}"
            )
        batched = len(x.shape) == 3
        steps, batch = (x.shape[:2] if batched else (x.shape[0], 1))[:: -1 if self.batch_first and batched else 1]
        sizes = Sizes(steps, batch, batched)
        expected = self._state_shapes(sizes)
        if states and tuple(state.shape for state in states) != expected:
            given = ", ".join(str(state.shape) for state in states)
            raise ShapeError(f"{type(self).__name__} expects initial states {expected}, got {given}")
        return sizes

    def _state_shapes(self, sizes: Sizes) -> tuple[tuple[int, ...], ...]:
        """Of the hidden state; an LSTM's cell state comes second, and is never projected."""
        depth, batch = self.num_layers * self.directions, (sizes.batch,) if sizes.batched else ()
        return tuple((depth, *batch, size) for size in (self._fed_back, self.hidden_size)[: self.states])

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """The last layer's hidden states of all steps, directions side by side: (T, N, directions * R)."""
        self._sizes(inputs)
        return inputs[0].with_shape(*inputs[0].shape[:-1], self.directions * self._fed_back)

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        """All that PyTorch returns: the output, then the final states of all layers and directions."""
        states = self._state_shapes(self._sizes(inputs))
        return (self.output(*inputs), *(inputs[0].with_shape(*shape) for shape in states))

    def _products(self, layer: int, sizes: Sizes) -> tuple[Cost, Cost, Cost]:
        """Of one layer and direction, all steps: with the input, with the hidden state, the projection."""
        rows = sizes.steps * sizes.batch * self.gates * self.hidden_size
        projects = self._fed_back != self.hidden_size
        projection = sizes.steps * sizes.batch * self.hidden_size * self._fed_back if projects else 0
        return (
            Cost.matmul(rows * self._features(layer)),
            Cost.matmul(rows * self._fed_back),
            Cost.matmul(projection),
        )

    def _between(self, inputs: tuple[TensorSpec, ...]) -> tuple[Dropout, TensorSpec]:
        """The dropout behind every layer but the last, and what it is applied to."""
        counted = self.training and self.unasked != "data"
        return Dropout(p=self.dropout, training=counted), self.output(*inputs)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Per layer and direction: the products of all steps, and the gates' operators."""
        sizes = self._sizes(inputs)
        dropout, hidden = self._between(inputs)
        total = (self.num_layers - 1) * dropout.forward(hidden)
        units = sizes.steps * sizes.batch * self.hidden_size
        for layer in range(self.num_layers):
            one = sum(self._products(layer, sizes), start=Cost.elementwise(units, self.gate_flops))
            total += self.directions * one
        return total

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """Back through time: the gates' gradients, then of every product its two factors'.

        The hidden state's gradient is needed at every step but the first, whatever is trained; the input's in
        the layers above the first, too. Each bias gradient is a sum over steps and samples: T*N*gH additions,
        in `flops`.
        """
        flags = wants(needs_input_grad, inputs)
        sizes = self._sizes(inputs)
        received = trained(self.parameters, needs_weight_grad, needs_bias_grad)
        if not received and not any(flags):
            return Backward(input_gradients=gradients(flags, inputs))
        weights = needs_weight_grad or self.unasked == "everything"
        biases = self.bias and (needs_bias_grad or self.unasked == "everything")
        needed = flags if self.unasked == "nothing" else (True,) * (1 + self.states)
        dropout, hidden = self._between(inputs)
        through = (self.num_layers - 1) * dropout.input_gradient(hidden)
        weight = ZERO
        for layer in range(self.num_layers):
            ours, theirs = self._gradient(layer, sizes, needed, bool(received))
            through += self.directions * ours
            weight += self.directions * theirs
        rows = sizes.steps * sizes.batch * self.gates * self.hidden_size
        additions = 2 * rows * self.num_layers * self.directions if biases else 0
        return Backward(
            input_gradients=gradients(flags, inputs),
            parameter_gradients=received,
            input=through,
            weight=weight if weights else ZERO,
            bias=Cost(flops=additions),
        )

    def _gradient(self, layer: int, sizes: Sizes, flags: tuple[bool, ...], trains: bool) -> tuple[Cost, Cost]:
        """What passes through one layer and direction (gates, hidden state, input), and its weights' gradients."""
        of_input, of_hidden, projection = self._products(layer, sizes)
        initial = len(flags) > 1 and flags[1]
        # of_hidden is of all T steps; without a gradient of the initial state one step less.
        once = Cost.matmul(sizes.batch * self.gates * self.hidden_size * self._fed_back)
        needs = Needs(trains or layer > 0 or flags[0], trains, *(*flags[1:], False, False)[:2])
        passed = self._gates_backward(sizes, needs) + once * (sizes.steps - (0 if initial else 1)) + projection
        if layer > 0 or flags[0]:
            passed += of_input
        return passed, of_input + of_hidden + projection

    def _gates_backward(self, sizes: Sizes, needs: Needs) -> Cost:
        """Of one layer and direction, all steps."""
        return Cost.elementwise(sizes.steps * sizes.batch * self.hidden_size, self.gate_gradient_flops)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """Every layer's input, the initial states, and what the gates of each step keep.

        As the composite implementation does; a fused kernel keeps an opaque workspace instead. Of a batch that
        comes first, each direction makes and keeps a copy with the steps first.
        """
        x, *states = inputs
        sizes = self._sizes(inputs)
        dropout, hidden = self._between(inputs)
        between = (*dropout.saved(hidden), Saved("intermediate", hidden)) * (self.num_layers - 1)
        role: Role = "input" if states else "intermediate"
        initial = (Saved(role, x.with_shape(*shape)) for shape in self._state_shapes(sizes))
        widths = self._kept_each_step() * sizes.steps + self._kept_between_steps() * (sizes.steps - 1)
        times = self.num_layers * self.directions
        steps = tuple(Saved("intermediate", x.with_shape(sizes.batch, width)) for width in widths) * times
        copied = self.batch_first and sizes.batch > 1 and sizes.steps > 1
        first = (Saved("intermediate", x),) * self.directions if copied else (Saved("input", x),)
        return (*first, *between, *initial, *steps)

    def _kept_each_step(self) -> tuple[int, ...]:
        """Widths of the (N, width) tensors that each step keeps."""
        raise NotImplementedError

    def _kept_between_steps(self) -> tuple[int, ...]:
        """Widths of the states that each step but the first keeps of the one before."""
        raise NotImplementedError
