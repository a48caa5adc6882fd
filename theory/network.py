"""A chain of layers, and what one training step of it costs, layer by layer."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from .layer import Backward, Layer, Parameter, ShapeError, is_bias
from .prediction import LayerPrediction, Prediction
from .tensor import TensorSpec


@dataclass(frozen=True, slots=True)
class Named:
    """A layer and its module path, as `named_modules()` would give it: `block1.conv`."""

    path: str
    layer: Layer


def within(path: str, block: str) -> bool:
    """Whether a path is the block's own or lies in it; every path lies in ""."""
    return not block or path == block or path.startswith(block + ".")


@dataclass(frozen=True)
class Network:
    """Layers in order, each fed by the one before. Raises ValueError for no layers, or a path given twice.

    Two things matter for memory alone. `keeps` names modules whose input a variable of the surrounding module holds on
    to until that returns, as x is in `return fc(gap(x))`; otherwise it is `x = part(x)`. `checkpoints` names modules
    that keep nothing for backward, and run again in it.
    """

    layers: tuple[Named, ...]
    keeps: frozenset[str] = frozenset()
    checkpoints: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ValueError("a network needs at least one layer")
        paths = [named.path for named in self.layers]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise ValueError(f"each path may be given once; repeated: {', '.join(twice)}")

    def __iter__(self) -> Iterator[Named]:
        return iter(self.layers)

    def __getitem__(self, path: str) -> Layer:
        """The layer of that path. Raises KeyError."""
        for named in self.layers:
            if named.path == path:
                return named.layer
        raise KeyError(path)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All learnable tensors by their full path: `block1.conv.weight`."""
        return tuple(
            Parameter(f"{named.path}.{parameter.name}" if named.path else parameter.name, *_shape(parameter))
            for named in self.layers
            for parameter in named.layer.parameters
        )

    def predict(self, x: TensorSpec, *, input_requires_grad: bool = False, frozen: Collection[str] = ()) -> Prediction:
        """What a step on that input costs, forward and backward.

        A layer computes its input's gradient only where something before it needs one: an earlier trained
        parameter, or the input itself (`input_requires_grad`; the images of a real run need none). `frozen`
        names blocks, layers or parameters that are not trained, by path. A layer with nothing to compute has
        no backward at all.

        Raises ShapeError, naming the path, where a layer cannot take its input; ValueError for a frozen path
        that names nothing or freezes some weights of one layer and not others, or for integers that should need one.
        """
        for block in frozen:
            if not any(within(parameter.name, block) for parameter in self.parameters):
                raise ValueError(f"nothing to freeze at {block!r}: no parameter has that path")
        if input_requires_grad and not x.is_floating:
            raise ValueError(f"an input of {x.dtype} has no gradient")
        rows = []
        flows = input_requires_grad
        for named in self.layers:
            weight, bias = (_trains(named, frozen, biases=biases) for biases in (False, True))
            row = _row(named, x, flows=flows, weight=weight, bias=bias)
            rows.append(row)
            x = row.output
            flows = flows or weight or bias
        return Prediction(rows=tuple(rows))


def _shape(parameter: Parameter) -> tuple[tuple[int, ...], str]:
    return parameter.shape, parameter.dtype


def _trains(named: Named, frozen: Collection[str], *, biases: bool) -> bool:
    """Whether the layer's biases, or else its other parameters, are trained. Raises ValueError for some."""
    answers = {
        not any(within(f"{named.path}.{parameter.name}".lstrip("."), block) for block in frozen)
        for parameter in named.layer.parameters
        if is_bias(parameter) is biases
    }
    if len(answers) > 1:
        raise ValueError(f"{named.path}: freeze all {'biases' if biases else 'weights'} of the layer together, or none")
    return answers == {True}


def _row(named: Named, x: TensorSpec, *, flows: bool, weight: bool, bias: bool) -> LayerPrediction:
    layer = named.layer
    try:
        output = layer.output(x)
        forward = layer.forward(x)
        backward: Backward | None = None
        if flows or weight or bias:
            backward = layer.backward(x, needs_input_grad=flows, needs_weight_grad=weight, needs_bias_grad=bias)
        saved = layer.saved(x) if backward is not None else ()
    except ShapeError as error:
        raise ShapeError(f"{named.path}: {error}") from error
    return LayerPrediction(
        path=named.path,
        layer=layer,
        input=x,
        output=output,
        forward=forward,
        backward=backward,
        saved=saved,
    )
