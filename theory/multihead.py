"""Multi-head attention: projections of queries, keys and values, attention per head, and a projection of the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from .attention import ScaledDotProductAttention
from .cost import ZERO, Cost
from .dense import Linear
from .layer import Backward, Parameter, Role, Saved, ShapeError, at_least_one, gradients, trained, wants
from .tensor import TensorSpec

_T = TypeVar("_T")


def _spread(given: tuple[_T, ...]) -> tuple[_T, _T, _T]:
    """One thing per query, key and value, of one for all, one for query and one for memory, or three."""
    if not 1 <= len(given) <= 3:
        raise ShapeError(f"MultiheadAttention takes one to three inputs, got {len(given)}")
    return given[0], given[len(given) > 1], given[-1]


# What is the core's output is in between for the layer.
_INNER: dict[Role, Role] = {"output": "intermediate"}


@dataclass(frozen=True, kw_only=True)
class MultiheadAttention:
    """`torch.nn.MultiheadAttention`. Inputs are x (self-attention), query and memory (key and value), or all three.

    Shapes are (L, N, E), or (N, L, E) with `batch_first`, or (L, E); keys and values have S in place of L,
    and `kdim`, `vdim` features. `need_weights`, PyTorch's default, keeps the scores, and means them over the
    heads if `average_attn_weights`; `weights_gradient` says that a gradient comes back for them, too. Without,
    `fused` says whether one kernel does the attention (see `attention`). `mask` is added to the scores; `two_masks` are
    added up before. Sums of gradients where one input is used several times are autograd's work, and not counted.
    """

    embed_dim: int
    num_heads: int
    dropout: float = 0.0
    bias: bool = True
    add_bias_kv: bool = False
    add_zero_attn: bool = False
    kdim: int | None = None
    vdim: int | None = None
    batch_first: bool = False
    dtype: str = "float32"
    training: bool = True
    need_weights: bool = True
    average_attn_weights: bool = True
    weights_gradient: bool = False
    fused: bool = False
    mask: bool = False
    two_masks: bool = False

    kind: ClassVar[str] = "attention"

    def __post_init__(self) -> None:
        at_least_one(self, "embed_dim", "num_heads")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} must divide embed_dim={self.embed_dim}")
        if self.fused and self.need_weights:
            raise ValueError("a fused kernel returns no weights: fused needs need_weights=False")

    @property
    def _widths(self) -> tuple[int, int, int]:
        """Features of queries, keys and values as they come in."""
        return self.embed_dim, self.kdim or self.embed_dim, self.vdim or self.embed_dim

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """One weight (3E, E) for all three projections, or three where `kdim` or `vdim` differ; then the output's."""
        e = self.embed_dim
        shapes: list[tuple[str, tuple[int, ...]]] = []
        if set(self._widths) == {e}:
            shapes += [("in_proj_weight", (3 * e, e))]
        else:
            shapes += [(f"{name}_proj_weight", (e, width)) for name, width in zip("qkv", self._widths, strict=True)]
        if self.bias:
            shapes += [("in_proj_bias", (3 * e,))]
        if self.add_bias_kv:
            shapes += [("bias_k", (1, 1, e)), ("bias_v", (1, 1, e))]
        shapes += [("out_proj.weight", (e, e))]
        if self.bias:
            shapes += [("out_proj.bias", (e,))]
        return tuple(Parameter(name, shape, self.dtype) for name, shape in shapes)

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def _three(self, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
        """Query, key and value. Raises ShapeError where they do not fit the layer, or one another."""
        query, key, value = _spread(inputs)
        shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
        if len({len(spec.shape) for spec in (query, key, value)}) > 1 or len(query.shape) not in (2, 3):
            raise ShapeError(f"MultiheadAttention takes two or three dimensions, alike for all: {shapes}")
        if tuple(spec.shape[-1] for spec in (query, key, value)) != self._widths:
            raise ShapeError(f"MultiheadAttention expects {self._widths} features: {shapes}")
        if key.shape[:-1] != value.shape[:-1] or self._batch(query) != self._batch(key):
            raise ShapeError(f"MultiheadAttention needs one batch, and as many values as keys: {shapes}")
        return query, key, value

    def _batch(self, x: TensorSpec) -> int:
        return 1 if len(x.shape) == 2 else x.shape[0 if self.batch_first else 1]

    def _length(self, x: TensorSpec) -> int:
        return x.shape[0] if len(x.shape) == 2 else x.shape[1 if self.batch_first else 0]

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """Shaped as the query."""
        return self._three(inputs)[0]

    def outputs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        """All that PyTorch returns: the output and, with `need_weights`, (N, L, S) or (N, heads, L, S) of weights."""
        query = self._three(inputs)[0]
        if not self.need_weights:
            return (query,)
        batch, heads, length, keys = self._core_inputs(inputs)[3].shape
        lead = (() if len(query.shape) == 2 else (batch,)) + (() if self.average_attn_weights else (heads,))
        return query, query.with_shape(*lead, length, keys)

    def _projections(self) -> tuple[Linear, Linear, Linear]:
        """Each as a linear layer of its own: one product of 3E features has as many multiply-adds as three of E."""
        query, key, value = (
            Linear(in_features=width, out_features=self.embed_dim, bias=self.bias) for width in self._widths
        )
        return query, key, value

    def _core(self) -> ScaledDotProductAttention:
        return ScaledDotProductAttention(
            fused=self.fused,
            scaled="queries" if self.need_weights else "both",
            # With weights, one operator multiplies and adds the mask: a bias addition, and left out as such.
            mask=self.mask and not self.need_weights,
            dropout=self.dropout,
            training=self.training,
        )

    def _core_inputs(self, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, TensorSpec, TensorSpec, TensorSpec]:
        """Queries, keys and values per head, (N, heads, length, E/heads), and the scores."""
        query, key, _ = self._three(inputs)
        width = self.embed_dim // self.num_heads
        keys = self._length(key) + self.add_bias_kv + self.add_zero_attn
        q = query.with_shape(self._batch(query), self.num_heads, self._length(query), width)
        kv = query.with_shape(self._batch(query), self.num_heads, keys, width)
        return q, kv, kv, self._core().scores(q, kv, kv)

    def scores(self, *inputs: TensorSpec) -> TensorSpec:
        """(N, heads, L, S). Raises ShapeError where queries, keys and values do not fit one another."""
        return self._core_inputs(inputs)[3]

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Three projections, attention, the output's projection; the weights' mean over the heads, the masks' sum."""
        *core, scores = self._core_inputs(inputs)
        pairs = zip(self._projections(), self._three(inputs), strict=True)
        apart = scores.elements * (self._averages + self.two_masks)
        parts = (*(layer.forward(x) for layer, x in pairs), self._core().forward(*core))
        return sum((*parts, self._out().forward(self.output(*inputs))), start=Cost.elementwise(apart))

    @property
    def _averages(self) -> bool:
        return self.need_weights and self.average_attn_weights

    def _out(self) -> Linear:
        return Linear(in_features=self.embed_dim, out_features=self.embed_dim, bias=self.bias)

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """The parts' gradients: the output projection's, attention's, the three projections'.

        Attention's are needed where a projection is trained, or its input needs a gradient. `bias_k` and
        `bias_v` are repeated for each sequence, so their gradients are sums: N*E additions each, none for one.
        """
        flags = wants(needs_input_grad, inputs)
        three = _spread(flags)
        received = trained(self.parameters, needs_weight_grad, needs_bias_grad)
        biases = self.bias and needs_bias_grad
        extra = self.add_bias_kv and needs_bias_grad
        inward = [flag or needs_weight_grad or biases or (extra and at > 0) for at, flag in enumerate(three)]
        *core, scores = self._core_inputs(inputs)
        needs = {"needs_weight_grad": needs_weight_grad, "needs_bias_grad": biases}
        parts = [
            layer.backward(x, needs_input_grad=flag, **needs)
            for layer, x, flag in zip(self._projections(), self._three(inputs), three, strict=True)
        ]
        parts += [self._core().backward(*core, needs_input_grad=tuple(inward))]
        parts += [self._out().backward(self.output(*inputs), needs_input_grad=any(inward), **needs)]
        batch = self._batch(inputs[0])
        repeated = 2 * batch * self.embed_dim if extra and batch > 1 else 0
        means = scores.elements if self._averages and self.weights_gradient and any(inward[:2]) else 0
        return Backward(
            input_gradients=gradients(flags, inputs),
            parameter_gradients=received,
            input=sum((part.input for part in parts), start=Cost.elementwise(means)),
            weight=sum((part.weight for part in parts), start=ZERO),
            bias=sum((part.bias for part in parts), start=Cost(flops=repeated)),
        )

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """The inputs, what attention keeps of the projected ones, and the output projection's input.

        Inputs that are one tensor are projected by one product: keeping a part of its result keeps all of it.
        """
        *core, _ = self._core_inputs(inputs)
        kept = self._core().saved(*core)
        parts, rest = kept[:3], [*kept[3:]]
        # A fused kernel's output is the output projection's input: the same memory, listed once.
        if not self.fused:
            rest.append(Saved("intermediate", self.output(*inputs)))
        found = [Saved("input", x) for x in inputs]
        joint = {1: (0, 1, 2), 2: (1, 2), 3: ()}[len(inputs)]
        appended = self.add_bias_kv or self.add_zero_attn
        views = [at for at in joint if parts[at].role == "input" and not (appended and at > 0)]
        if views:
            projected = self._three(inputs)[joint[0]]
            found.append(
                Saved("intermediate", projected.with_shape(*projected.shape[:-1], self.embed_dim * len(joint)))
            )
        found += [Saved("intermediate", part.tensor) for at, part in enumerate(parts) if at not in views]
        return (*found, *(Saved(_INNER.get(saved.role, saved.role), saved.tensor) for saved in rest))
