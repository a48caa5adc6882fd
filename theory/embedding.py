"""Embeddings: rows of a table by index. Looking up moves data and is no arithmetic (see `cost`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .cost import ZERO, Cost
from .layer import Backward, Parameter, Saved, ShapeError, at_least_one, wants
from .tensor import TensorSpec

_INDEX_TYPES = ("int64", "int32")


@dataclass(frozen=True, kw_only=True)
class _Table:
    """A weight (num_embeddings, embedding_dim), looked up by integers, which have no gradient."""

    num_embeddings: int
    embedding_dim: int
    dtype: str = "float32"

    kind: ClassVar[str] = "embedding"

    def __post_init__(self) -> None:
        at_least_one(self, "num_embeddings", "embedding_dim")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The table."""
        return (Parameter("weight", (self.num_embeddings, self.embedding_dim), self.dtype),)

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def _check(self, indices: TensorSpec) -> None:
        if indices.dtype not in _INDEX_TYPES:
            raise ShapeError(f"{type(self).__name__} takes indices (int64 or int32), got {indices.dtype}")

    def _added(self, inputs: tuple[TensorSpec, ...]) -> int:
        """Elements that are added into the table's gradient."""
        return inputs[0].elements * self.embedding_dim

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """Each looked-up row's gradient is added into the table's: one addition per element looked up.

        The table's gradient is dense: as large as the table, however few rows were used.
        """
        wants(needs_input_grad, inputs)
        self._check(inputs[0])
        added = self._added(inputs)
        return Backward(
            input_gradients=(None,) * len(inputs),
            parameter_gradients=self.parameters if needs_weight_grad else (),
            weight=Cost.elementwise(added) if needs_weight_grad else ZERO,
        )


@dataclass(frozen=True, kw_only=True)
class Embedding(_Table):
    """`torch.nn.Embedding`: indices (*) -> (*, embedding_dim)."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(*, embedding_dim), in the table's dtype. Raises ShapeError for indices that are no integers."""
        (indices,) = inputs
        self._check(indices)
        return TensorSpec((*indices.shape, self.embedding_dim), self.dtype)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Nothing: a look-up is no product."""
        self.output(*inputs)
        return ZERO

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The indices."""
        (indices,) = inputs
        self._check(indices)
        return (Saved("index", indices),)


@dataclass(frozen=True, kw_only=True)
class EmbeddingBag(_Table):
    """`torch.nn.EmbeddingBag`: bags of indices -> one reduced row each, (B, embedding_dim).

    Inputs are indices (B, L), or all indices in one dimension and the bags' offsets (B,).
    """

    mode: Literal["sum", "mean", "max"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in ("sum", "mean", "max"):
            raise ValueError(f'mode must be "sum", "mean" or "max", got {self.mode!r}')

    def _bags(self, inputs: tuple[TensorSpec, ...]) -> int:
        indices, *offsets = inputs
        self._check(indices)
        if len(indices.shape) == 2 and not offsets:
            return indices.shape[0]
        if len(indices.shape) == 1 and len(offsets) == 1 and len(offsets[0].shape) == 1:
            return offsets[0].shape[0]
        shapes = ", ".join(str(spec.shape) for spec in inputs)
        raise ShapeError(f"EmbeddingBag takes indices (B, L), or indices (K,) and offsets (B,); got {shapes}")

    def _added(self, inputs: tuple[TensorSpec, ...]) -> int:
        """Of a maximum only the one element that it is; else all that were looked up."""
        return self.output(*inputs).elements if self.mode == "max" else super()._added(inputs)

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(B, embedding_dim), in the table's dtype. Raises ShapeError for other inputs than the class names."""
        return TensorSpec((self._bags(inputs), self.embedding_dim), self.dtype)

    def forward(self, *inputs: TensorSpec) -> Cost:
        """The reduction: one FLOP per element looked up. The look-up itself is free."""
        self.output(*inputs)
        return Cost.elementwise(inputs[0].elements * self.embedding_dim)

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """Indices and offsets, each index's bag (not for sums; one spare), each bag's size, and its maxima.

        As PyTorch's CPU kernel keeps them; other modes keep an index per bag in place of the maxima.
        """
        bags, indices = self._bags(inputs), inputs[0].with_shape(inputs[0].elements)
        per_bag = indices.with_shape(bags)
        bag_of = () if self.mode == "sum" else (indices.with_shape(indices.elements + 1),)
        maxima = indices.with_shape(bags, self.embedding_dim) if self.mode == "max" else per_bag
        return tuple(Saved("index", spec) for spec in (indices, per_bag, *bag_of, per_bag, maxima))
