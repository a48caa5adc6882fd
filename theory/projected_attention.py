"""Attention between projections that are layers of their own, as transformers have it: its products, and only they.

What else such a layer does (scaling, masks, positions rotated or added, dropout) differs by model and is little, and
some give more than one tensor: readers compare `matmul_flops` alone where `products_only` is set, and no output's bytes
where `products_alone` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .attention import ScaledDotProductAttention
from .cost import ZERO, Cost
from .layer import Backward, Parameter, Saved, ShapeError, at_least_one, gradients, trained, wants
from .tensor import TensorSpec


@dataclass(frozen=True, kw_only=True)
class ProjectedAttention:
    """(N, L, C) -> (N, queries, `out_features`), with `heads` of `width` features for queries, keys and values alike.

    `queries` and `keys` are how many of them there are for one sample: L where they are None. `projections` names, for
    queries, keys and values, the children that make them one after another. `learns` says which of the three need a
    gradient whatever the input does, for their projection is trained or something else comes in there; `bias_learns`
    that something added to the scores does. `fused` is as for `ScaledDotProductAttention`.
    """

    heads: int
    width: int
    out_features: int
    projections: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    queries: int | None = None
    keys: int | None = None
    fused: bool = False
    learns: tuple[bool, bool, bool] = (False, False, False)
    bias_learns: bool = False
    dtype: str = "float32"

    kind: ClassVar[str] = "attention"
    products_only: ClassVar[bool] = True
    products_alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least_one(self, "heads", "width", "out_features")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """None of its own."""
        return ()

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def _per_head(self, x: TensorSpec) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
        """Queries, keys and values: (N, heads, length, width)."""
        if len(x.shape) != 3:
            raise ShapeError(f"{type(self).__name__} takes three dimensions (N, L, C), got {x.shape}")
        queries, keys = (x.shape[1] if given is None else given for given in (self.queries, self.keys))
        key = x.with_shape(x.shape[0], self.heads, keys, self.width)
        return x.with_shape(x.shape[0], self.heads, queries, self.width), key, key

    @property
    def _core(self) -> ScaledDotProductAttention:
        return ScaledDotProductAttention(fused=self.fused)

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(N, queries, out), in the input's dtype. Raises ShapeError for an input without three dimensions."""
        (x,) = inputs
        return x.with_shape(x.shape[0], self._per_head(x)[0].shape[2], self.out_features)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Queries times keys, scores times values: N * heads * queries * keys * width multiply-adds each."""
        (x,) = inputs
        return _products(self._core.forward(*self._per_head(x)))

    def _operands(self, flag: bool) -> tuple[bool, bool, bool]:
        query, key, value = (flag or learns for learns in self.learns)
        return query, key, value

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """Each operand's gradient is one product; queries', keys' and a bias's need that of the scores, another one.

        A fused kernel gives all of them together and computes the scores again, but gives no bias one.
        """
        (x,) = inputs
        (flag,) = wants(needs_input_grad, inputs)
        return Backward(
            input_gradients=gradients((flag,), inputs), input=self._gradients(x, flag, bias=self.bias_learns)
        )

    def _gradients(self, x: TensorSpec, flag: bool, *, bias: bool) -> Cost:
        """Of the operands, and of what is added to the scores."""
        operands, per_head = self._operands(flag), self._per_head(x)
        cost = self._core.backward(*per_head, needs_input_grad=operands).total
        if bias and not self.fused and not any(operands[:2]):
            cost += Cost.matmul(self._core.scores(*per_head).elements * self.width)
        return _products(cost)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The factors of the products: queries, keys and values, and the scores where they are kept."""
        (x,) = inputs
        per_head = self._per_head(x)
        kept = tuple(Saved("intermediate", spec) for spec in per_head)
        return kept if self.fused else (*kept, Saved("intermediate", self._core.scores(*per_head)))


@dataclass(frozen=True, kw_only=True)
class MultiscaleAttention(ProjectedAttention):
    """torchvision's `MultiscaleAttention`, of MViT: queries, keys and values are pooled, each to its own grid.

    `tables` are the rows of its three tables of relative positions, of height, width and time, if it has any: queries
    meet a row for each of the `grid` of keys along each axis, all but the first of them, which stands for no place.
    """

    tables: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The tables, (rows, width) each."""
        names = ("rel_pos_h", "rel_pos_w", "rel_pos_t")
        return tuple(
            Parameter(name, (rows, self.width), self.dtype)
            for name, rows in zip(names[: len(self.tables)], self.tables, strict=True)
        )

    def _positions(self, x: TensorSpec) -> Cost:
        """Queries times positions: N * heads * (queries - 1) * width multiply-adds for each row that a query meets."""
        if not self.tables:
            return ZERO
        batch, heads, queries, width = self._per_head(x)[0].shape
        return Cost.matmul(batch * heads * (queries - 1) * width * sum(self.grid))

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Attention's two products, and that with the positions."""
        (x,) = inputs
        return super().forward(x) + self._positions(x)

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """Attention's, and of the product with the positions the queries' and the tables'."""
        (x,) = inputs
        (flag,) = wants(needs_input_grad, inputs)
        tables = needs_weight_grad and bool(self.tables)
        met = self._positions(x) if self._operands(flag)[0] else ZERO
        return Backward(
            input_gradients=gradients((flag,), inputs),
            parameter_gradients=trained(self.parameters, needs_weight_grad, needs_bias_grad),
            input=self._gradients(x, flag, bias=tables) + met,
            weight=self._positions(x) if tables else ZERO,
        )


def _products(cost: Cost) -> Cost:
    """The products alone."""
    return Cost(flops=cost.matmul_flops, matmul_flops=cost.matmul_flops)
