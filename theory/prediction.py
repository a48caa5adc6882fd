"""What theory says of a training step: one row per layer, and their sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Literal

from .cost import ZERO, Cost
from .layer import Backward, Layer, Saved, parameter_bytes, parameter_count
from .parameterless import Parameterless
from .tensor import TensorSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerPrediction:
    """One layer of a step. `backward` is None where autograd computes nothing; then nothing is saved."""

    path: str
    layer: Layer
    input: TensorSpec
    output: TensorSpec
    forward: Cost
    backward: Backward | None
    saved: tuple[Saved, ...]

    @property
    def kind(self) -> str:
        return self.layer.kind

    @property
    def parameters(self) -> int:
        """Learnable elements."""
        return parameter_count(self.layer)

    @property
    def parameter_bytes(self) -> int:
        return parameter_bytes(self.layer)

    @property
    def activation_bytes(self) -> int:
        """Bytes of the output, also where it shares the input's storage (in-place, views)."""
        return self.output.nbytes

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the input's gradient; 0 where none is computed."""
        return self.backward.gradient_bytes if self.backward else 0

    @property
    def totals(self) -> Totals:
        """The row's additive quantities."""
        backward = self.backward or Backward(input_gradients=())
        return Totals(
            parameters=self.parameters,
            parameter_bytes=self.parameter_bytes,
            buffer_bytes=sum(buffer.nbytes for buffer in self.layer.buffers),
            activation_bytes=self.activation_bytes,
            forward=self.forward,
            backward=backward.total,
            gradient_bytes=backward.gradient_bytes,
            parameter_gradient_bytes=backward.parameter_gradient_bytes,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """Sums over layers. Bytes are payloads; `gradient_bytes` are of the inputs' gradients."""

    parameters: int = 0
    parameter_bytes: int = 0
    buffer_bytes: int = 0
    activation_bytes: int = 0
    forward: Cost = ZERO
    backward: Cost = ZERO
    gradient_bytes: int = 0
    parameter_gradient_bytes: int = 0

    def __add__(self, other: Totals) -> Totals:
        if not isinstance(other, Totals):
            return NotImplemented
        return Totals(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(Totals)})

    @property
    def forward_flops(self) -> int:
        return self.forward.flops

    @property
    def forward_matmul_flops(self) -> int:
        return self.forward.matmul_flops

    @property
    def backward_flops(self) -> int:
        return self.backward.flops

    @property
    def backward_matmul_flops(self) -> int:
        return self.backward.matmul_flops

    @property
    def flops(self) -> int:
        """Of the whole step: forward and backward."""
        return self.forward.flops + self.backward.flops


def total(rows: Iterable[LayerPrediction]) -> Totals:
    """The sum over rows; zeros for none."""
    return sum((row.totals for row in rows), start=Totals())


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The rows of a step in forward order, and sums of them."""

    rows: tuple[LayerPrediction, ...]

    def __iter__(self) -> Iterator[LayerPrediction]:
        return iter(self.rows)

    def __getitem__(self, path: str) -> LayerPrediction:
        """The row of that path. Raises KeyError."""
        for row in self.rows:
            if row.path == path:
                return row
        raise KeyError(path)

    @property
    def input(self) -> TensorSpec:
        return self.rows[0].input

    @property
    def output(self) -> TensorSpec:
        return self.rows[-1].output

    @property
    def totals(self) -> Totals:
        """Of the whole network; the network's input is no activation of it."""
        return total(self.rows)

    def block(self, path: str) -> Totals:
        """Of the rows at that path or under it (`block1`). Raises KeyError where there are none."""
        rows = [row for row in self.rows if not path or row.path == path or row.path.startswith(path + ".")]
        if not rows:
            raise KeyError(path)
        return total(rows)

    def by_kind(self) -> dict[str, Totals]:
        """Sums by kind of layer, in order of first appearance."""
        kinds = dict.fromkeys(row.kind for row in self.rows)
        return {kind: total(row for row in self.rows if row.kind == kind) for kind in kinds}

    def percentages(self, phase: Literal["forward", "backward"] = "forward") -> dict[str, Fraction]:
        """Each kind's share of the phase's FLOPs, in per cent. Raises ZeroDivisionError without FLOPs."""
        whole = getattr(self.totals, phase).flops
        return {kind: Fraction(100 * getattr(sums, phase).flops, whole) for kind, sums in self.by_kind().items()}

    def saved_bytes(self, *, network_input: bool = False) -> dict[str, int]:
        """Bytes that each layer is the first to keep for backward, by path; the network's own input only if asked for.

        One tensor may be an output kept by one layer and an input kept by the next: it counts once. In-place layers and
        views hand on their input's memory.
        """
        kept: set[int] = set() if network_input else {0}
        found, number = {}, 0
        for row in self.rows:
            before = number
            if not (isinstance(row.layer, Parameterless) and row.layer.shares_storage):
                number += 1
            found[row.path] = 0
            for saved in row.saved:
                storage = {"input": before, "output": number}.get(saved.role)
                if storage not in kept:
                    found[row.path] += saved.tensor.nbytes
                if storage is not None:
                    kept.add(storage)
        return found

    @property
    def backward_to_forward(self) -> Fraction:
        """Backward FLOPs per forward FLOP."""
        return Fraction(self.totals.backward.flops, self.totals.forward.flops)
