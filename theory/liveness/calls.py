"""The operators that a layer is made of, and what they give: one rule per kind of layer. Which of a layer's results
autograd keeps is the layer's own to say (`saved`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from ..activations import LogSoftmax
from ..convolution import Conv2d
from ..dense import Linear
from ..layer import Layer, Role
from ..loss import NLLLoss
from ..normalization import BatchNorm
from ..parameterless import Parameterless
from ..pointwise import ReLU
from ..pooling import GlobalAveragePool, MaxPool2d
from ..tensor import TensorSpec
from .cast import TO_COPY, Cast

T = TypeVar("T")


class NoRuleError(ValueError):
    """No rule says what a layer's operators give. The message names the layer's kind and those that have one."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A kind of layer as PyTorch runs it.

    forward, backward   its operators, by name
    also                what forward gives besides the output, by the role in which it is saved: in the operator's order
    computes            in which order backward computes gradients: by the names of the operator's arguments
    sums                of which of them the engine makes a sum, once the node is done: of a gradient for every row
    hands_over          in which order autograd hands the parameters theirs
    """

    forward: str
    backward: str
    also: Mapping[Role, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    computes: tuple[str, ...] = ("input", "weight", "bias")
    sums: tuple[str, ...] = ()
    hands_over: tuple[str, ...] = ("weight", "bias")


RULES: dict[type[Layer], Rule] = {
    Cast: Rule(forward=TO_COPY, backward=TO_COPY),
    Conv2d: Rule(forward="aten.convolution", backward="aten.convolution_backward"),
    Linear: Rule(forward="aten.linear", backward="aten.mm", sums=("bias",), hands_over=("bias", "weight")),
    BatchNorm: Rule(
        forward="aten.native_batch_norm",
        backward="aten.native_batch_norm_backward",
        also={"statistics": ("mean", "inverse_std")},
    ),
    ReLU: Rule(forward="aten.relu", backward="aten.threshold_backward"),
    MaxPool2d: Rule(
        forward="aten.max_pool2d_with_indices",
        backward="aten.max_pool2d_with_indices_backward",
        also={"index": ("indices",)},
    ),
    GlobalAveragePool: Rule(forward="aten.mean", backward="aten.div"),
    LogSoftmax: Rule(forward="aten.log_softmax", backward="aten._log_softmax_backward_data"),
    NLLLoss: Rule(
        forward="aten.nll_loss_forward",
        backward="aten.nll_loss_backward",
        also={"statistics": ("total_weight",)},
    ),
}


# A product alone is mm(self, mat2), with a bias addmm(self, mat1, mat2): gradients come in the order of these names.
WITHOUT_BIAS = Rule(forward="aten.linear", backward="aten.mm", computes=("weight", "input"))


def _unknown(layer: Layer, *inputs: TensorSpec) -> str:
    """What cannot be said of a layer that has a rule, or has none; "" where the rule holds."""
    match layer:
        case Linear() if len(inputs[0].shape) != 2:
            return f"Linear on anything but rows (N, C), as here on {inputs[0].shape}"
        case Conv2d() if len(inputs[0].shape) != 4:
            return f"Conv2d on anything but a batch of images, as here on {inputs[0].shape}"
        case Conv2d() if [saved.role for saved in layer.saved(*inputs)] != ["input"]:
            return "Conv2d that copies its input to pad it"
        case BatchNorm() if not layer.affine:
            return "BatchNorm without weight and bias"
        case Parameterless() if layer.shares_storage:
            return ""
    return "" if type(layer) in RULES else f"{type(layer).__name__} (there is one for {', '.join(_names())}, and views)"


def _names() -> list[str]:
    return sorted(kind.__name__ for kind in RULES)


@dataclass(frozen=True)
class Call:
    """A layer on inputs of these shapes. With `copies` its parameters are narrow copies of the network's.

    Raises NoRuleError for a layer whose rule is not known. Views need none: they have no memory in either direction.
    """

    layer: Layer
    inputs: tuple[TensorSpec, ...]
    copies: bool = False

    def __post_init__(self) -> None:
        if unknown := _unknown(self.layer, *self.inputs):
            raise NoRuleError(f"no rule for the memory of {unknown}")

    @property
    def rule(self) -> Rule | None:
        """The rule of the layer's kind; None for a view."""
        if isinstance(self.layer, Linear) and not self.layer.bias:
            return WITHOUT_BIAS
        return RULES.get(type(self.layer))

    @property
    def shares_storage(self) -> bool:
        """Whether the output lies in the input's memory: in place, or a view."""
        return isinstance(self.layer, Parameterless) and self.layer.shares_storage

    @property
    def output(self) -> TensorSpec:
        return self.layer.output(*self.inputs)

    def results(self) -> dict[str, TensorSpec]:
        """What forward allocates: the "output", unless it shares memory, and what is `also` given."""
        results = {} if self.shares_storage else {"output": self.output}
        for role, names in self.rule.also.items() if self.rule else ():
            specs = (saved.tensor for saved in self.layer.saved(*self.inputs) if saved.role == role)
            results |= dict(zip(names, specs, strict=False))  # BatchNorm in evaluation gives no statistics
        return results

    def gradients(self, *, flows: bool) -> dict[str, TensorSpec]:
        """What backward allocates: the gradients of the "input", where one `flows` on, and of parameters by name."""
        backward = self.layer.backward(*self.inputs, needs_input_grad=flows)
        results = {each.name: TensorSpec(each.shape, each.dtype) for each in backward.parameter_gradients}
        if backward.input_gradients[0]:
            results["input"] = backward.input_gradients[0]
        return {name: results[name] for name in (self.rule.computes if self.rule else ()) if name in results}

    def saved(self, given: Sequence[T], output: T, also: Mapping[str, T]) -> Iterator[T]:
        """What is kept for backward, in the layer's order, of what went in, came out and came with it. Parameters and
        buffers live anyway."""
        names = {role: iter(names) for role, names in self.rule.also.items()} if self.rule else {}
        for saved in self.layer.saved(*self.inputs):
            if saved.role == "input":
                yield given[0]
            elif saved.role == "output":
                yield output
            elif saved.role in names:
                yield also[next(names[saved.role])]
            else:  # a loss's target
                yield given[1]
