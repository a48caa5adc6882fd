"""The transformer's encoder layer: attention and two linear layers, each with a residual sum and a LayerNorm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .activations import activation
from .cost import ZERO, Cost
from .dense import Linear
from .layer import Backward, Parameter, Saved, gradients, is_bias, wants
from .multihead import MultiheadAttention
from .network import Named, Network
from .normalization import LayerNorm
from .pointwise import Dropout, Residual
from .tensor import TensorSpec

_ACTIVATIONS = {"relu": "ReLU", "gelu": "GELU"}
_ORDER = ("self_attn", "linear1", "linear2", "norm1", "norm2")


@dataclass(frozen=True, kw_only=True)
class TransformerEncoderLayer:
    """`torch.nn.TransformerEncoderLayer`: (L, N, E) unchanged, (N, L, E) with `batch_first`, or (L, E).

    `fused` and `mask` are of its attention (see `multihead`), which returns no weights here. `network` has
    the parts.
    """

    d_model: int
    nhead: int
    dim_feedforward: int = 2048
    dropout: float = 0.1
    activation: str = "relu"
    norm_first: bool = False
    batch_first: bool = False
    bias: bool = True
    dtype: str = "float32"
    training: bool = True
    fused: bool = False
    mask: bool = False

    kind: ClassVar[str] = "attention"

    def __post_init__(self) -> None:
        if self.activation not in _ACTIVATIONS:
            raise ValueError(f'activation must be "relu" or "gelu", got {self.activation!r}')
        _ = self.network  # its layers check the sizes

    @property
    def network(self) -> Network:
        """The parts as a chain, by the names that PyTorch gives them; residual sums and activation have their own."""
        attention, forward = self._attention(), self._feed_forward()
        norm1, norm2 = (
            Named(name, LayerNorm(normalized_shape=self.d_model, bias=self.bias, dtype=self.dtype))
            for name in ("norm1", "norm2")
        )
        if self.norm_first:
            return Network((norm1, *attention, norm2, *forward))
        return Network((*attention, norm1, *forward, norm2))

    def _dropout(self, name: str) -> Named:
        return Named(name, Dropout(p=self.dropout, training=self.training))

    def _attention(self) -> tuple[Named, ...]:
        attention = MultiheadAttention(
            embed_dim=self.d_model,
            num_heads=self.nhead,
            dropout=self.dropout,
            bias=self.bias,
            batch_first=self.batch_first,
            dtype=self.dtype,
            training=self.training,
            need_weights=False,
            fused=self.fused,
            mask=self.mask,
        )
        return Named("self_attn", attention), self._dropout("dropout1"), Named("residual1", Residual())

    def _feed_forward(self) -> tuple[Named, ...]:
        sizes = ((self.d_model, self.dim_feedforward), (self.dim_feedforward, self.d_model))
        first, second = (
            Linear(in_features=before, out_features=after, bias=self.bias, dtype=self.dtype) for before, after in sizes
        )
        return (
            Named("linear1", first),
            Named("activation", activation(_ACTIVATIONS[self.activation])),
            self._dropout("dropout"),
            Named("linear2", second),
            self._dropout("dropout2"),
            Named("residual2", Residual()),
        )

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Of attention, linear layers and norms, by their paths within the layer."""
        return tuple(
            sorted(self.network.parameters, key=lambda parameter: _ORDER.index(parameter.name.partition(".")[0]))
        )

    @property
    def buffers(self) -> tuple[Parameter, ...]:
        return ()

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """The input's shape and dtype. Raises ShapeError naming the part that cannot take it."""
        (x,) = inputs
        return self.network.predict(x).output

    def forward(self, *inputs: TensorSpec) -> Cost:
        """The sum of the parts."""
        (x,) = inputs
        return self.network.predict(x).totals.forward

    def backward(
        self,
        *inputs: TensorSpec,
        needs_input_grad: bool | tuple[bool, ...] = True,
        needs_weight_grad: bool = True,
        needs_bias_grad: bool = True,
    ) -> Backward:
        """The sum of the parts, each as far as something before it needs a gradient."""
        (x,) = inputs
        flags = wants(needs_input_grad, inputs)
        names = {True: needs_bias_grad, False: needs_weight_grad}
        received = tuple(parameter for parameter in self.parameters if names[is_bias(parameter)])
        frozen = [parameter.name for parameter in self.parameters if not names[is_bias(parameter)]]
        rows = self.network.predict(x, input_requires_grad=flags[0], frozen=frozen)
        parts = [row.backward for row in rows if row.backward is not None]
        return Backward(
            input_gradients=gradients(flags, inputs),
            parameter_gradients=received,
            input=sum((part.input for part in parts), start=ZERO),
            weight=sum((part.weight for part in parts), start=ZERO),
            bias=sum((part.bias for part in parts), start=ZERO),
        )

    def saved(self, *inputs: TensorSpec) -> tuple[Saved, ...]:
        """What the parts save, each tensor once: a part's input is the output of the one before."""
        (x,) = inputs
        kept = [Saved("input", x)]
        before_is_kept = True
        for row in self.network.predict(x, input_requires_grad=True):
            roles = [saved.role for saved in row.saved]
            if "input" in roles and not before_is_kept:
                kept.append(Saved("intermediate", row.input))
            kept += [
                Saved("intermediate" if saved.role == "output" else saved.role, saved.tensor)
                for saved in row.saved
                if saved.role != "input"
            ]
            # Without dropout the layer hands on what it was given.
            passes = isinstance(row.layer, Dropout) and not row.layer.works
            before_is_kept = "output" in roles or (passes and before_is_kept)
        return tuple(kept)
