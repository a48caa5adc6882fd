"""Which closed form is a call's, and which of the call's tensors are its inputs.

Facts of the run choose: names of operators tell one fused kernel from several, outputs tell whether weights were asked
for. No count is used, so that what the form then states can still be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from .. import theory
from ..theory.convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ..theory.layer import Layer, ShapeError
from ..theory.recurrence import Recurrence
from ..theory.tensor import TensorSpec
from .observed import NotComparableError, Observed
from .records import CallFacts

_ATTENTION = ("aten._scaled_dot_product_",)
_WHOLE_ATTENTION = ("aten._native_multi_head_attention",)
_WHOLE_ENCODER_LAYER = ("aten._transformer_encoder_layer_fwd",)
_DRAWN = ("aten.bernoulli", "aten.native_dropout")
_MKLDNN_RECURRENT = ("aten.mkldnn_rnn_layer",)
_CUDNN_RECURRENT = ("aten._cudnn_rnn", "aten.miopen_rnn")
_FUSED_RMS_NORM = ("aten._fused_rms_norm",)
_FUSED_DROPOUT = ("aten.native_dropout",)
_CACHING = ("aten.cat", "aten.index_copy", "aten.index_put")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A closed form and its inputs, as positions among the call's tensors: one tensor may be two inputs."""

    layer: Layer
    positions: tuple[int, ...]

    def inputs(self, call: CallFacts) -> tuple[TensorSpec, ...]:
        return tuple(call.inputs[position] for position in self.positions)


Fit: TypeAlias = Callable[[Any, Observed, CallFacts], Fitted]


def fit(layer: Layer, seen: Observed, call: CallFacts) -> Fitted:
    """Raises NotComparableError where the facts leave it open."""
    if not call.inputs or not call.outputs:
        raise NotComparableError("no tensor was seen to go in, or none to come out")
    if any(spec.dtype.startswith("complex") for spec in (*call.inputs, *call.outputs)):
        raise NotComparableError("closed forms count real arithmetic, and this is complex")
    if not _made_inside(seen, call):
        raise NotComparableError("no operator gave a tensor as large as its output: a transform of torch.func, say")
    chosen = next((choose for kinds, choose in _FITS if isinstance(layer, kinds)), _first)
    return chosen(layer, seen, call)


def _made_inside(seen: Observed, call: CallFacts) -> bool:
    """Whether an operator of the module gave a tensor as large as its output; true where it ran none, or its children
    did. Under vmap, modules see one sample, and operators all."""
    ran = [facts.signature for facts in seen.operators if facts.phase == "forward"]
    return (
        not ran
        or seen.called_inside
        or any(out.elements == call.outputs[0].elements for signature in ran for out in signature.outputs)
    )


def _first(layer: Layer, seen: Observed, call: CallFacts) -> Fitted:
    """The only input, as settings have it."""
    return Fitted(layer, (0,))


def _all(layer: Layer, seen: Observed, call: CallFacts) -> Fitted:
    return Fitted(layer, tuple(range(len(call.inputs))))


def _two(layer: Layer, seen: Observed, call: CallFacts) -> Fitted:
    """Two inputs, or one given twice."""
    return Fitted(layer, (0, len(call.inputs) - 1))


def _recurrent(layer: Recurrence, seen: Observed, call: CallFacts) -> Fitted:
    """The sequence and initial states; an LSTM's two may be one tensor."""
    if any(not spec.is_floating for spec in call.inputs):
        raise NotComparableError("a packed sequence: the steps of each sample are data, which the run does not keep")
    layer = replace(layer, unasked=_computed_unasked(seen))
    if layer.states == 2 and len(call.inputs) == 2:
        return Fitted(layer, (0, 1, 1))
    return _all(layer, seen, call)


def _computed_unasked(seen: Observed) -> Literal["nothing", "data", "everything"]:
    if seen.times(*_CUDNN_RECURRENT):
        return "data"
    return "everything" if seen.times(*_MKLDNN_RECURRENT) else "nothing"


def _dropout(layer: theory.Dropout, seen: Observed, call: CallFacts) -> Fitted:
    drew = seen.always(*_DRAWN)
    if drew != layer.works:
        raise NotComparableError("it changed between training and evaluation within the block")
    return _first(replace(layer, fused=seen.always(*_FUSED_DROPOUT)), seen, call)


def _rms_norm(layer: theory.RMSNorm, seen: Observed, call: CallFacts) -> Fitted:
    return _first(replace(layer, fused=seen.always(*_FUSED_RMS_NORM)), seen, call)


def _transpose(layer: Any, seen: Observed, call: CallFacts) -> Fitted:
    """`output_size`, an argument of the call, stands in for `output_padding`."""
    spatial = call.outputs[0].shape[-layer.dimensions :]
    plain = replace(layer, output_padding=0).output(call.inputs[0]).shape[-layer.dimensions :]
    return _first(replace(layer, output_padding=tuple(map(int.__sub__, spatial, plain))), seen, call)


# Attention --------------------------------------------------------------------------------------------------------


def _attention(layer: theory.MultiheadAttention, seen: Observed, call: CallFacts) -> Fitted:
    """Weights where a second tensor came out; a kernel or separate operators by their names; a mask where one was
    added to the scores."""
    needed = len(call.outputs) > 1
    whole = seen.always(*_WHOLE_ATTENTION)
    fused = not needed and (whole or seen.always(*_ATTENTION))
    layer = replace(
        layer,
        need_weights=needed,
        average_attn_weights=needed and len(call.outputs[1].shape) == len(call.inputs[0].shape),
        weights_gradient=_comes_for_weights(seen),
        fused=fused,
    )
    positions = _queries_keys_values(layer, call.inputs)
    if len(set(positions)) == 2:
        _know_the_key(layer, seen, call, positions)
    layer = replace(layer, two_masks=len(call.inputs) - len(positions) == 2)
    if fused or needed:
        return Fitted(layer, positions)
    return Fitted(replace(layer, mask=_masked(layer, seen, Fitted(layer, positions).inputs(call))), positions)


def _comes_for_weights(seen: Observed) -> bool:
    """Whether a gradient comes for the weights, besides that for the output."""
    times = [sum(g.times for g in seen.arrivals if g.of == "output" and g.name == name) for name in "01"]
    if times[1] not in (0, times[0]):
        raise NotComparableError(f"a gradient came {times[0]} times for the output, {times[1]} times for the weights")
    return times[1] > 0


def _queries_keys_values(layer: theory.MultiheadAttention, inputs: Sequence[TensorSpec]) -> tuple[int, ...]:
    """The leading tensors that can be queries, keys and values; masks, if any, come behind them."""
    found = []
    for count in range(1, min(len(inputs), 3) + 1):
        try:
            scores = layer.scores(*inputs[:count])
        except ShapeError:
            continue
        if all(_is_mask(layer, mask, scores) for mask in inputs[count:]):
            found.append(tuple(range(count)))
    if len(found) != 1:
        shapes = ", ".join(str(spec.shape) for spec in inputs)
        raise NotComparableError(f"it is not clear which of the inputs {shapes} are queries, keys, values and masks")
    return found[0]


def _is_mask(layer: theory.MultiheadAttention, spec: TensorSpec, scores: TensorSpec) -> bool:
    """(L, S), (N * heads, L, S), or of padded keys (N, S) or (S,)."""
    batch, heads, queries, keys = scores.shape
    keys -= layer.add_bias_kv + layer.add_zero_attn
    return spec.shape in ((queries, keys), (batch * heads, queries, keys), (batch, keys), (keys,))


def _know_the_key(layer: Any, seen: Observed, call: CallFacts, positions: tuple[int, ...]) -> None:
    """Of two inputs the second is keys and values. If it were the values alone, or the keys, one projection would not
    make both: then the gradients tell them apart where only one of the two needs one."""
    flags = {call.inputs_need_grad[position] for position in positions}
    both = 2 * layer.embed_dim
    joint = any(out.shape[-1:] == (both,) for facts in seen.operators for out in facts.signature.outputs)
    if len(flags) > 1 and not joint:
        raise NotComparableError("it is not clear which of two inputs is the keys")


def _masked(layer: theory.MultiheadAttention, seen: Observed, inputs: tuple[TensorSpec, ...]) -> bool:
    """Whether something was added to the scores, as an operator of its own."""
    elements = layer.scores(*inputs).elements
    sums = sum(
        facts.times
        for facts in seen.operators
        if facts.phase == "forward"
        and facts.signature.operator.startswith(("aten.add.", "aten.add_."))
        and facts.signature.outputs[0].elements == elements
        and len(getattr(facts.signature.arguments[1], "shape", ())) > 1
    )
    return sums > layer.two_masks * sum(call.times for call in seen.calls)


def _encoder_layer(layer: theory.TransformerEncoderLayer, seen: Observed, call: CallFacts) -> Fitted:
    """All in one operator; otherwise its children are called, and it does the rest itself."""
    return _first(replace(layer, fused=seen.always(*_WHOLE_ENCODER_LAYER)), seen, call)


# Attention between projections ---------------------------------------------------------------------------------------


def _projected(layer: theory.ProjectedAttention, seen: Observed, call: CallFacts) -> Fitted:
    """How many queries there are shows in the output; of keys, and what is trained, in the calls of the projections."""
    keys = _keys(layer, seen)
    query, key, value = (_learns(seen, names) for names in layer.projections)
    layer = replace(
        layer,
        queries=call.outputs[0].shape[-2],
        keys=keys[-2],
        fused=seen.always(*_ATTENTION),
        learns=(query, key, value),
        bias_learns=_bias_learns(layer, seen, call),
    )
    if not isinstance(layer, theory.MultiscaleAttention):
        _know_the_length(layer, seen)
    elif layer.tables:
        layer = replace(layer, grid=_grid(layer, seen))
    return _first(layer, seen, call)


def _keys(layer: theory.ProjectedAttention, seen: Observed) -> tuple[int, ...]:
    """The shape of the keys, as the last of their projections gives them."""
    names = [name for name in layer.projections[1] if name in seen.inside]
    made = [call for call in seen.inside[names[-1]] if call.phase == "forward"] if names else []
    if sum(call.times for call in made) != sum(call.times for call in seen.calls):
        raise NotComparableError("its keys were not made at each of its calls: they come from a cache")
    shapes = {call.outputs[0].shape for call in made}
    if len(shapes) > 1:
        raise NotComparableError("its keys were of several shapes: which call had which does not show")
    return shapes.pop()


def _learns(seen: Observed, names: Sequence[str]) -> bool:
    """Whether what these children make of an input needs a gradient: for the input does, or a parameter is trained."""
    called = [call for name in names for call in seen.inside.get(name, ())]
    parameters = [p for path, p in seen.parameters.items() if path.startswith(tuple(f"{name}." for name in names))]
    return any(any(call.inputs_need_grad) for call in called) or any(p.trainable for p in parameters)


def _bias_learns(layer: theory.ProjectedAttention, seen: Observed, call: CallFacts) -> bool:
    """Whether a tensor given as large as the scores needs a gradient, or a table that it is made of."""
    given = [flag for spec, flag in zip(call.inputs, call.inputs_need_grad, strict=True) if len(spec.shape) == 4]
    made = [p for path, p in seen.parameters.items() if path.startswith("relative_attention_bias.")]
    return any(given) or any(p.trainable for p in made)


def _know_the_length(layer: theory.ProjectedAttention, seen: Observed) -> None:
    """A cache adds keys of earlier calls: (N, heads, length, width) of another length are put together."""
    for facts in seen.operators:
        for spec in facts.signature.outputs if facts.signature.operator.startswith(_CACHING) else ():
            *lead, length, width = spec.shape if len(spec.shape) == 4 else (0, 0, 0)
            if width == layer.width and lead[-1] <= layer.heads and length not in (layer.queries, layer.keys):
                raise NotComparableError(f"its keys were {length}, and not those of its input: they come from a cache")


def _grid(layer: theory.MultiscaleAttention, seen: Observed) -> tuple[int, ...]:
    """Time, height and width of the keys, as pooling gave them."""
    shapes = {call.outputs[0].shape[2:] for call in seen.inside.get(f"{layer.projections[1][-1]}.pool", ())}
    if len(shapes) != 1:
        raise NotComparableError("the grid of its keys does not show")
    return shapes.pop()


_FITS: tuple[tuple[Any, Fit], ...] = (
    (theory.ProjectedAttention, _projected),
    (theory.GatedExperts, _all),
    (theory.Dropout, _dropout),
    (theory.RMSNorm, _rms_norm),
    ((ConvTranspose1d, ConvTranspose2d, ConvTranspose3d), _transpose),
    (theory.MultiheadAttention, _attention),
    (theory.TransformerEncoderLayer, _encoder_layer),
    (Recurrence, _recurrent),
    (theory.EmbeddingBag, _all),
    (theory.Bilinear, _two),
    (theory.loss._Loss, _two),
)
