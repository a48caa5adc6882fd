"""The comparator at work: errors planted one by one in one witness, each found where it is, and nobody else blamed.

A case names every layer row that must fail, exactly, and for each who errs; "unexplained" where only two witnesses
speak of the quantity, one of them wrong: two are too few to blame one. Where the walkthrough speaks of it, its claims
are a third witness, and the case names some of those that must blame the culprit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest

from torchtally.models.cnn import CNNConfig
from torchtally.profiler.audit.walkthrough import claim_rows
from torchtally.profiler.capture.storage import Held
from torchtally.profiler.compare import (
    compare_statements,
    from_dispatcher,
    from_ledger,
    from_prediction,
    from_storages,
    is_failure,
)
from torchtally.profiler.records import CallFacts, GradientFacts, ModuleFacts, OperatorFacts, SavedFacts
from torchtally.theory.claims.records import Claim, Range
from torchtally.theory.network import Named, Network
from torchtally.theory.pointwise import Identity
from torchtally.theory.prediction import Prediction
from torchtally.theory.tensor import TensorSpec

from . import wrong_forms as wrong
from .evidence import (
    IN_PLACE,
    OBLONG,
    SEPARABLE,
    WALKTHROUGH,
    Evidence,
    Judged,
    Plant,
    booked,
    claimed,
    dispatched,
    evidence,
    formula,
    held,
    images,
    judge_all,
    judged_unchanged,
    predicted,
    priced,
    settings,
    traced,
    unpriced,
)

UNEXPLAINED = "unexplained"
FCM = "FlopCounterMode"
EXCUSED = "FlopCounterMode (known defect)"


@dataclass(frozen=True, kw_only=True)
class Case:
    """An error in `culprit`. `fails`: "path phase: quantity quantity" -> the verdict there, or who errs there."""

    culprit: str
    plant: Plant
    fails: dict[str, str]
    claims: tuple[str, ...] = ()
    config: CNNConfig = WALKTHROUGH
    batch_size: int = 32

    def failing(self) -> dict[str, str]:
        """ "path phase quantity" -> who errs, or "unexplained"."""
        found = {}
        for place, answer in self.fails.items():
            where, _, quantities = place.partition(": ")
            for quantity in quantities.split():
                found[f"{where} {quantity}"] = answer
        return found

    def places(self) -> set[str]:
        return {place.split()[0] for place in self.fails}


# Theory ---------------------------------------------------------------------------------------------------------------


def first_input_gradient(found: Evidence) -> Evidence:
    """As the walkthrough counts it; no real run computes a gradient of the images."""
    return replace(found, prediction=found.network.predict(images(WALKTHROUGH, 32), input_requires_grad=True))


def without_backward(path: str) -> Plant:
    return predicted(path, lambda row: replace(row, backward=None))


def wider(path: str) -> Plant:
    """float64 in, and so float64 out."""

    def widen(row: Any) -> Any:
        (wide,) = Network((Named(path, row.layer),)).predict(row.input.with_dtype("float64"), input_requires_grad=True)
        return wide

    return predicted(path, widen)


def loss_included(row: Any) -> Any:
    """Softmax, 5 per element, and one per label: (32, 10)."""
    return replace(row, forward=replace(row.forward, flops=row.forward.flops + 5 * 320 + 32))


def with_a_layer_more(found: Evidence) -> Evidence:
    (row,) = Network((Named("dropout", Identity()),)).predict(TensorSpec((32, 10)), input_requires_grad=True)
    return replace(found, prediction=Prediction(rows=(*found.prediction.rows, row)))


THEORY = {
    "dropped factor 2: MAC for FLOP": Case(
        culprit="theory",
        plant=formula("block2.conv", wrong.MultiplyAdds),
        fails={"block2.conv forward: flops": UNEXPLAINED, "block2.conv forward: matmul_flops": "theory"},
        claims=(
            "L260.block2.conv.forward.flops",
            "L260.block2.conv.forward.flops_per_output_element",
            "L327.block2.conv.forward.flops",
            "L785.block2.conv.forward.flops",
        ),
    ),
    "missing bias": Case(
        culprit="theory",
        plant=settings("block2.conv", bias=False),
        fails={
            "block2.conv forward: parameters": UNEXPLAINED,
            "block2.conv forward: parameter_bytes": "theory",
            "block2.conv backward: parameter_gradient_bytes": "theory",
            "block2.conv backward: bias_flops": UNEXPLAINED,
        },
        claims=(
            "L255.block2.conv.biases",
            "L256.block2.conv.parameters",
            "L256.block2.conv.parameter_bytes",
            "L724.block2.conv.backward.bias_gradient_bytes",
            "L734.block2.conv.backward.parameter_gradient_bytes",
            "L795.network.parameters",
        ),
    ),
    "first layer's input gradient counted": Case(
        culprit="theory",
        plant=first_input_gradient,
        fails={
            "block1.conv backward: gradient_shape gradient_bytes matmul_flops": "theory",
            "block1.conv backward: flops": UNEXPLAINED,
        },
    ),
    "BatchNorm 4 per element instead of 5": Case(
        culprit="theory",
        plant=formula("block1.batchnorm", wrong.FourPerElement),
        fails={"block1.batchnorm forward: flops": UNEXPLAINED},
        claims=(
            "L170.block1.batchnorm.forward.flops_per_channel",
            "L172.block1.batchnorm.forward.flops",
            "L172.block1.batchnorm.forward.flops.2",
            "L227.block1.batchnorm.forward.flops",
        ),
    ),
    "pooling window k instead of k*k": Case(
        culprit="theory",
        plant=formula("block1.pool", wrong.SideNotArea),
        # one formula serves both ways
        fails={"block1.pool forward: flops": UNEXPLAINED, "block1.pool backward: flops": UNEXPLAINED},
        claims=(
            "L217.block1.pool.forward.window_elements",
            "L218.block1.pool.forward.flops",
            "L742.block1.pool.backward.flops",
        ),
    ),
    "padding forgotten": Case(
        culprit="theory",
        plant=settings("block3.conv", padding=0),
        fails={
            "block3.conv forward: output_shape activation_bytes matmul_flops": "theory",
            "block3.conv forward: flops": UNEXPLAINED,
            "block3.conv backward: output_gradient_shape matmul_flops": "theory",
            "block3.conv backward: flops bias_flops": UNEXPLAINED,
        },
        claims=(
            "L360.block3.conv.forward.flops",
            "L686.block3.conv.backward.flops",
            "L697.block3.conv.backward.flops",
            "L789.block3.conv.forward.output_shape",
        ),
    ),
    "stride ignored": Case(
        culprit="theory",
        plant=settings("block1.pool", stride=1),
        fails={
            "block1.pool forward: output_shape activation_bytes saved_bytes": "theory",
            "block1.pool forward: flops": UNEXPLAINED,
            "block1.pool backward: output_gradient_shape": "theory",
            "block1.pool backward: flops": UNEXPLAINED,
        },
        claims=(
            "L204.block1.pool.forward.output_height",
            "L208.block1.pool.forward.output_shape",
            "L211.block1.pool.forward.activation_bytes",
            "L218.block1.pool.forward.flops",
        ),
    ),
    "buffers counted as parameters": Case(
        culprit="theory",
        plant=formula("block1.batchnorm", wrong.BuffersAreParameters),
        fails={
            "block1.batchnorm forward: parameters": UNEXPLAINED,
            "block1.batchnorm forward: parameter_bytes": "theory",
            "block1.batchnorm backward: parameter_gradient_bytes": "theory",
        },
        claims=(
            "L161.block1.batchnorm.parameters",
            "L161.block1.batchnorm.parameter_bytes",
            "L752.block1.batchnorm.backward.parameter_gradient_bytes",
            "L824.kind:normalization.parameters",
        ),
    ),
    "bias gradient of the linear layer dropped": Case(
        culprit="theory",
        plant=formula("fc", wrong.BiasGradientDropped),
        fails={"fc backward: flops": UNEXPLAINED},
        claims=("L551.fc.backward.bias_gradient_flops", "L556.fc.backward.flops"),
    ),
    "bias addition of the linear layer counted": Case(
        culprit="theory",
        plant=formula("fc", wrong.BiasAdded),
        fails={"fc forward: flops": UNEXPLAINED},
        claims=("L491.fc.forward.flops", "L491.fc.forward.flops_per_output_element"),
    ),
    "convolution's bias gradient among its flops": Case(
        culprit="theory",
        plant=formula("block1.conv", wrong.BiasGradientAmongFlops),
        fails={"block1.conv backward: flops bias_flops": UNEXPLAINED},
    ),
    "weight gradient forgotten": Case(
        culprit="theory",
        plant=formula("block2.conv", wrong.WeightGradientForgotten),
        fails={"block2.conv backward: flops": UNEXPLAINED, "block2.conv backward: matmul_flops": "theory"},
        claims=("L725.block2.conv.backward.flops", "L734.block2.conv.backward.flops"),
    ),
    "global pooling kept as (N, C, 1, 1)": Case(
        culprit="theory",
        plant=formula("gap", wrong.KeptAsMap),
        fails={"gap forward: output_shape": "theory", "gap backward: output_gradient_shape": "theory"},
        claims=(
            "L445.gap.forward.output_shape",
            "L566.gap.forward.output_shape",
            "L567.gap.backward.output_gradient_shape",
        ),
    ),
    "channels last": Case(
        culprit="theory",
        plant=formula("block3.pool", wrong.ChannelsLast),
        fails={"block3.pool forward: output_shape": "theory", "block3.pool backward: output_gradient_shape": "theory"},
        claims=("L410.block3.pool.forward.output_shape", "L594.block3.pool.backward.output_gradient_shape"),
    ),
    "parameters half as wide": Case(
        culprit="theory",
        plant=settings("fc", dtype="float16"),
        fails={
            "fc forward: parameter_bytes": "theory",
            "fc backward: parameter_gradient_bytes": "theory",
        },
        claims=(
            "L483.fc.parameter_bytes",
            "L527.fc.backward.weight_gradient_bytes",
            "L536.fc.backward.bias_gradient_bytes",
        ),
    ),
    "activations twice as wide": Case(
        culprit="theory",
        plant=wider("block3.relu"),
        fails={
            "block3.relu forward: activation_bytes saved_bytes": "theory",
            "block3.relu backward: gradient_bytes": "theory",
        },
        claims=("L389.block3.relu.forward.activation_bytes", "L623.block3.relu.backward.gradient_bytes"),
    ),
    "the loss counted into the model": Case(
        culprit="theory",
        plant=predicted("fc", loss_included),
        fails={"fc forward: flops": UNEXPLAINED},
        claims=("L491.fc.forward.flops",),
    ),
    "a layer has no backward": Case(
        culprit="theory",
        plant=without_backward("block2.relu"),
        fails={
            "block2.relu backward: gradient_bytes": "theory",
            "block2.relu backward: flops": UNEXPLAINED,
        },
        claims=("L710.block2.relu.backward.gradient_shape", "L711.block2.relu.backward.gradient_bytes"),
    ),
    "a layer left out": Case(
        culprit="theory",
        plant=predicted("block3.pool", lambda row: None),
        fails={
            "block3.pool forward: activation_bytes saved_bytes": "theory",
            "block3.pool forward: flops": UNEXPLAINED,
            "block3.pool backward: gradient_bytes": "theory",
            "block3.pool backward: flops": UNEXPLAINED,
        },
        claims=("L410.block3.pool.forward.output_shape", "L419.block3.pool.forward.flops"),
    ),
    "a convolution left out": Case(
        culprit="theory",
        plant=predicted("block3.conv", lambda row: None),
        fails={
            "block3.conv forward: activation_bytes saved_bytes parameter_bytes matmul_flops": "theory",
            "block3.conv forward: flops parameters": UNEXPLAINED,
            "block3.conv backward: gradient_bytes parameter_gradient_bytes matmul_flops": "theory",
            "block3.conv backward: flops bias_flops": UNEXPLAINED,
        },
        claims=("L360.block3.conv.forward.flops", "L686.block3.conv.backward.flops"),
    ),
    "a layer that did not run": Case(
        culprit="theory",
        plant=with_a_layer_more,
        fails={
            "dropout forward: output_shape activation_bytes saved_bytes parameter_bytes matmul_flops": "theory",
            "dropout forward: input_shape flops parameters": UNEXPLAINED,
            "dropout backward: gradient_shape output_gradient_shape gradient_bytes parameter_gradient_bytes": "theory",
            "dropout backward: matmul_flops": "theory",
            "dropout backward: flops bias_flops": UNEXPLAINED,
        },
    ),
    "height and width swapped": Case(
        culprit="theory",
        plant=formula("block1.conv", wrong.HeightAndWidthSwapped),
        fails={
            "block1.conv forward: output_shape": "theory",
            "block1.conv backward: output_gradient_shape": "theory",
        },
        config=OBLONG,
        batch_size=2,
    ),
    "in-place ReLU counted twice": Case(
        culprit="theory",
        plant=formula("block2.relu", wrong.CountedTwice),
        fails={"block2.relu forward: flops": UNEXPLAINED, "block2.relu backward: flops": UNEXPLAINED},
        config=IN_PLACE,
        batch_size=2,
    ),
    "groups ignored": Case(
        culprit="theory",
        plant=settings("block2.depthwise", groups=1),
        fails={
            "block2.depthwise forward: parameters flops": UNEXPLAINED,
            "block2.depthwise forward: parameter_bytes matmul_flops": "theory",
            "block2.depthwise backward: parameter_gradient_bytes": "theory",
            # here FlopCounterMode errs as well, in its own way
            "block2.depthwise backward: flops matmul_flops": UNEXPLAINED,
        },
        config=SEPARABLE,
    ),
    "groups ignored in the first layer, where FlopCounterMode errs just so": Case(
        culprit="theory",
        plant=settings("block1.depthwise", groups=1),
        fails={
            "block1.depthwise forward: parameters flops": UNEXPLAINED,
            "block1.depthwise forward: parameter_bytes matmul_flops": "theory",
            "block1.depthwise backward: parameter_gradient_bytes": "theory",
            "block1.depthwise backward: flops matmul_flops": UNEXPLAINED,
        },
        config=SEPARABLE,
    ),
    "indices of the maxima not kept": Case(
        culprit="theory",
        plant=formula("block1.pool", wrong.IndicesForgotten),
        fails={"block1.pool forward: saved_bytes": "theory"},
    ),
    "indices half as wide": Case(
        culprit="theory",
        plant=formula("block2.pool", wrong.NarrowIndices),
        fails={"block2.pool forward: saved_bytes": "theory"},
    ),
    "ReLU keeps its input: as many bytes, and the next layer must keep the output": Case(
        culprit="theory",
        plant=formula("block1.relu", wrong.KeepsInput),
        fails={"block1.pool forward: saved_bytes": "theory"},
    ),
    "a tensor that two layers keep counted twice": Case(
        culprit="theory",
        plant=formula("block3.pool", wrong.SharesNothing),
        fails={"block3.pool forward: saved_bytes": "theory"},
    ),
    "BatchNorm's statistics not kept": Case(
        culprit="theory",
        plant=formula("block2.batchnorm", wrong.StatisticsForgotten),
        fails={"block2.batchnorm forward: saved_bytes": "theory"},
    ),
    "BatchNorm keeps its output, which the in-place ReLU after it then need not": Case(
        culprit="theory",
        plant=formula("block2.batchnorm", wrong.KeepsOutputToo),
        fails={"block2.batchnorm forward: saved_bytes": "theory", "block2.relu forward: saved_bytes": "theory"},
        config=IN_PLACE,
        batch_size=2,
    ),
    "the mean keeps its input, which it needs only the shape of": Case(
        culprit="theory",
        plant=formula("gap", wrong.KeepsWhatItNeedsNot),
        fails={"gap forward: saved_bytes": "theory"},
    ),
    "the linear layer's weight counted among what is kept": Case(
        culprit="theory",
        plant=formula("fc", wrong.KeepsWeight),
        fails={"fc forward: saved_bytes": "theory"},
    ),
    "the images not counted among what is kept": Case(
        culprit="theory",
        plant=predicted("block1.conv", lambda row: replace(row, saved=())),
        fails={"block1.conv forward: saved_bytes": "theory"},
    ),
}


# Count ----------------------------------------------------------------------------------------------------------------


def blocks(fails: dict[str, str], numbers: tuple[int, ...] = (1, 2, 3)) -> dict[str, str]:
    """The same in several blocks: one operator's formula serves them all."""
    return {f"block{n}.{place}": answer for n in numbers for place, answer in fails.items()}


def on(path: str, change: Callable[[Any], Any], **where: Any) -> Callable[[Any], tuple[Any, ...]]:
    """`change` applied to the facts of that module that have these fields; all others stay."""

    def instead(fact: Any) -> tuple[Any, ...]:
        chosen = fact.path == path and all(getattr(fact, name) == value for name, value in where.items())
        if not chosen:
            return (fact,)
        new = change(fact)
        return () if new is None else (new,)

    return instead


def without_bias(facts: ModuleFacts) -> ModuleFacts:
    return replace(facts, parameters=tuple(each for each in facts.parameters if each.name != "bias"))


def buffers_too(facts: ModuleFacts) -> ModuleFacts:
    floating = tuple(each for each in facts.buffers if each.tensor.dtype == "float32")
    return replace(facts, parameters=(*facts.parameters, *floating))


def outputs_as(dtype: str) -> Callable[[CallFacts], CallFacts]:
    def change(call: CallFacts) -> CallFacts:
        return replace(call, own_outputs=tuple(spec.with_dtype(dtype) for spec in call.own_outputs))

    return change


def swapped(spec: TensorSpec) -> TensorSpec:
    n, c, h, w = spec.shape
    return spec.with_shape(n, c, w, h)


def image_gradient(fact: GradientFacts) -> tuple[GradientFacts, ...]:
    if (fact.path, fact.of) != ("block1.conv", "output"):
        return (fact,)
    return fact, replace(fact, of="input", tensor=TensorSpec((32, 3, 32, 32)))


def kept(path: str, change: Callable[[Any], Any], **where: Any) -> Plant:
    return traced("saved", on(path, change, **where))


def weight_kept(fact: SavedFacts) -> tuple[SavedFacts, ...]:
    if fact.path != "block2.conv":
        return (fact,)
    return fact, replace(fact, tensor=TensorSpec((64, 32, 3, 3)), bytes=73_728)


def loss_kept_by_fc(fact: SavedFacts) -> tuple[SavedFacts, ...]:
    return (replace(fact, path="fc", phase="forward") if fact.phase == "loss" else fact,)


def loss_in_fc(fact: OperatorFacts) -> tuple[OperatorFacts, ...]:
    loss_forward = fact.signature.operator.startswith(("aten._log_softmax.", "aten.nll_loss_forward."))
    return (replace(fact, path="fc", phase="forward"),) if loss_forward else (fact,)


COUNT = {
    "dropped factor 2: MAC for FLOP": Case(
        culprit="count",
        plant=priced("aten.convolution", wrong.convolution_multiply_adds),
        fails=blocks({"conv forward: flops": UNEXPLAINED, "conv forward: matmul_flops": "count"}),
        claims=(
            "L142.block1.conv.forward.flops",
            "L327.block2.conv.forward.flops",
            "L853.kind:convolution.forward.flops",
        ),
    ),
    "factor 2 taken twice, which one wrong claim would bear out": Case(
        culprit="count",
        plant=priced("aten.convolution", wrong.convolution_four_per_multiply_add),
        fails=blocks({"conv forward: flops": UNEXPLAINED, "conv forward: matmul_flops": "count"}),
        claims=("L142.block1.conv.forward.flops", "L142.block1.conv.forward.flops_per_output_element"),
    ),
    "first layer's input gradient counted, as the claims have it": Case(
        culprit="count",
        plant=priced("aten.convolution_backward", wrong.both_gradients),
        fails={"block1.conv backward: flops": UNEXPLAINED, "block1.conv backward: matmul_flops": "count"},
    ),
    "convolution's bias addition counted": Case(
        culprit="count",
        plant=priced("aten.convolution", wrong.convolution_with_bias),
        fails=blocks({"conv forward: flops": UNEXPLAINED}),
        claims=("L142.block1.conv.forward.flops", "L260.block2.conv.forward.flops_per_output_element"),
    ),
    "convolution's bias gradient among its flops": Case(
        culprit="count",
        plant=priced("aten.convolution_backward", wrong.bias_gradient_among_flops),
        fails=blocks({"conv backward: flops bias_flops": UNEXPLAINED}),
        claims=("L734.block2.conv.backward.flops",),
    ),
    "BatchNorm backward 4 per element instead of 5": Case(
        culprit="count",
        plant=priced("aten.native_batch_norm_backward", wrong.each_input(4)),
        fails=blocks({"batchnorm backward: flops": UNEXPLAINED}),
        claims=("L753.block1.batchnorm.backward.flops", "L718.block2.batchnorm.backward.flops"),
    ),
    "pooling window k instead of k*k": Case(
        culprit="count",
        plant=priced("aten.max_pool2d_with_indices", wrong.each_output(2)),
        fails=blocks({"pool forward: flops": UNEXPLAINED}),
        claims=("L218.block1.pool.forward.flops", "L419.block3.pool.forward.flops"),
    ),
    "ReLU backward 2 per element": Case(
        culprit="count",
        plant=priced("aten.threshold_backward", wrong.each_input(2)),
        fails=blocks({"relu backward: flops": UNEXPLAINED}),
        claims=("L624.block3.relu.backward.flops", "L747.block1.relu.backward.flops"),
    ),
    "mean per output instead of per input": Case(
        culprit="count",
        plant=priced("aten.mean", wrong.each_output(1)),
        fails={"gap forward: flops": UNEXPLAINED},
        claims=("L458.gap.forward.flops",),
    ),
    "bias addition of the linear layer counted": Case(
        culprit="count",
        plant=priced("aten.addmm", wrong.linear_with_bias),
        fails={"fc forward: flops": UNEXPLAINED},
        claims=("L491.fc.forward.flops", "L491.fc.forward.flops_per_output_element"),
    ),
    "bias gradient of the linear layer free": Case(
        culprit="count",
        plant=priced("aten.sum", wrong.free),
        fails={"fc backward: flops": UNEXPLAINED},
        claims=("L551.fc.backward.bias_gradient_flops", "L556.fc.backward.flops"),
    ),
    "convolution free, which one claim of a rule would not survive": Case(
        culprit="count",
        plant=priced("aten.convolution", wrong.free),
        fails=blocks({"conv forward: flops": UNEXPLAINED, "conv forward: matmul_flops": "count"}),
        claims=(
            "L859.kind:convolution.rule.convolution.dominates",
            "L876.kind:convolution.rule.convolution.bottlenecks",
            "L853.kind:convolution.forward.flops",
        ),
    ),
    "an operator without a price": Case(
        culprit="count",
        plant=unpriced("aten.native_batch_norm"),
        fails=blocks({"batchnorm forward: flops": UNEXPLAINED}),
        claims=("L172.block1.batchnorm.forward.flops",),
    ),
    "an operator free that is not": Case(
        culprit="count",
        plant=priced("aten.mm", wrong.free),
        fails={"fc backward: flops": UNEXPLAINED, "fc backward: matmul_flops": "count"},
        claims=("L556.fc.backward.flops",),
    ),
    "missing bias": Case(
        culprit="count",
        plant=traced("modules", on("block2.conv", without_bias)),
        fails={"block2.conv forward: parameters": UNEXPLAINED, "block2.conv forward: parameter_bytes": "count"},
        claims=(
            "L255.block2.conv.biases",
            "L256.block2.conv.parameters",
            "L256.block2.conv.parameter_bytes",
            "L795.network.parameters",
        ),
    ),
    "buffers counted as parameters": Case(
        culprit="count",
        plant=traced("modules", on("block1.batchnorm", buffers_too)),
        fails={
            "block1.batchnorm forward: parameters": UNEXPLAINED,
            "block1.batchnorm forward: parameter_bytes": "count",
        },
        claims=(
            "L161.block1.batchnorm.parameters",
            "L227.block1.batchnorm.parameters",
            "L824.kind:normalization.parameters",
        ),
    ),
    "a module's calls doubled": Case(
        culprit="count",
        plant=traced("calls", on("block2.relu", lambda call: replace(call, times=2))),
        fails={"block2.relu forward: activation_bytes": "count"},
        claims=("L289.block2.relu.forward.activation_bytes", "L331.block2.forward.activation_bytes"),
    ),
    "a module's operators doubled": Case(
        culprit="count",
        plant=traced("operators", on("block2.relu", lambda fact: replace(fact, times=2), phase="forward")),
        fails={"block2.relu forward: flops": UNEXPLAINED},
        claims=("L295.block2.relu.forward.flops",),
    ),
    "int64 for float32": Case(
        culprit="count",
        plant=traced("calls", on("block1.pool", outputs_as("int64"))),
        fails={"block1.pool forward: activation_bytes": "count"},
        claims=("L211.block1.pool.forward.activation_bytes",),
    ),
    "gradients half as wide": Case(
        culprit="count",
        plant=traced(
            "gradients",
            on("block3.conv", lambda fact: replace(fact, tensor=fact.tensor.with_dtype("float16")), of="input"),
        ),
        fails={"block3.conv backward: gradient_bytes": "count"},
        claims=("L697.block3.conv.backward.gradient_bytes", "L698.block3.backward.gradient_bytes"),
    ),
    "a gradient of the images": Case(
        culprit="count",
        plant=traced("gradients", image_gradient),
        fails={"block1.conv backward: gradient_shape gradient_bytes": "count"},
    ),
    "a gradient not seen": Case(
        culprit="count",
        plant=traced("gradients", on("block2.relu", lambda fact: None, of="input")),
        fails={"block2.relu backward: gradient_shape gradient_bytes": "count"},
        claims=("L710.block2.relu.backward.gradient_shape", "L711.block2.relu.backward.gradient_bytes"),
    ),
    "a parameter's gradient not seen": Case(
        culprit="count",
        plant=traced("gradients", on("fc", lambda fact: None, of="parameter", name="bias")),
        fails={"fc backward: parameter_gradient_bytes": "count"},
        claims=("L801.fc.backward.parameter_gradient_bytes", "L815.network.backward.parameter_gradient_bytes"),
    ),
    "the loss counted into the model": Case(
        culprit="count",
        plant=traced("operators", loss_in_fc),
        fails={"fc forward: flops": UNEXPLAINED},
        claims=("L491.fc.forward.flops",),
    ),
    "work given to the block instead of its layer": Case(
        culprit="count",
        plant=traced("operators", on("block1.relu", lambda fact: replace(fact, path="block1"), phase="forward")),
        fails={"block1.relu forward: flops": UNEXPLAINED, "block1 forward: flops": UNEXPLAINED},
        claims=("L191.block1.relu.forward.flops",),
    ),
    "work that no layer did": Case(
        culprit="count",
        plant=booked(lambda row: replace(row, flops=7) if (row.path, row.phase) == ("block2", "backward") else row),
        fails={"block2 backward: flops": UNEXPLAINED},
    ),
    "parameters that no layer has": Case(
        culprit="count",
        plant=booked(lambda row: replace(row, parameters=7) if (row.path, row.phase) == ("", "forward") else row),
        fails={"(model) forward: parameters": UNEXPLAINED},
    ),
    "a backward row missing": Case(
        culprit="count",
        plant=booked(lambda row: None if (row.path, row.phase) == ("block2.relu", "backward") else row),
        fails={
            "block2.relu backward: gradient_shape output_gradient_shape gradient_bytes": "count",
            "block2.relu backward: parameter_gradient_bytes matmul_flops": "count",
            "block2.relu backward: flops bias_flops": UNEXPLAINED,
        },
        claims=("L711.block2.relu.backward.gradient_bytes", "L712.block2.relu.backward.flops"),
    ),
    "a forward row missing": Case(
        culprit="count",
        plant=booked(lambda row: None if (row.path, row.phase) == ("block1.pool", "forward") else row),
        fails={
            "block1.pool forward: output_shape activation_bytes saved_bytes parameter_bytes matmul_flops": "count",
            "block1.pool forward: input_shape flops parameters": UNEXPLAINED,
        },
        claims=("L211.block1.pool.forward.activation_bytes", "L218.block1.pool.forward.flops"),
    ),
    "a layer's type mistaken": Case(
        culprit="count",
        plant=booked(lambda row: replace(row, type="Linear") if row.path == "block2.conv" else row),
        fails={},
        claims=(
            "L853.kind:convolution.forward.flops",
            "L857.kind:linear.forward.flops",
            "L825.kind:linear.parameter_bytes",
        ),
    ),
    "height and width of an output swapped": Case(
        culprit="count",
        plant=traced(
            "calls",
            on("block1.conv", lambda call: replace(call, outputs=tuple(map(swapped, call.outputs)))),
        ),
        fails={"block1.conv forward: output_shape": "count"},
        config=OBLONG,
        batch_size=2,
    ),
    "height and width of an input swapped": Case(
        culprit="count",
        plant=traced(
            "calls",
            on("block2.conv", lambda call: replace(call, inputs=tuple(map(swapped, call.inputs)))),
        ),
        fails={"block2.conv forward: input_shape": UNEXPLAINED},
        config=OBLONG,
        batch_size=2,
    ),
    "in-place ReLU counted twice": Case(
        culprit="count",
        plant=traced("calls", on("block2.relu", lambda call: replace(call, own_outputs=2 * call.own_outputs))),
        fails={"block2.relu forward: activation_bytes": "count"},
        config=IN_PLACE,
        batch_size=2,
    ),
    "groups ignored": Case(
        culprit="count",
        plant=priced("aten.convolution", wrong.convolution_without_groups),
        fails=blocks({"depthwise forward: flops": UNEXPLAINED, "depthwise forward: matmul_flops": "count"}),
        config=SEPARABLE,
    ),
    "groups ignored in backward, just as FlopCounterMode does": Case(
        culprit="count",
        plant=priced("aten.convolution_backward", wrong.backward_as_the_dispatcher_does),
        fails=blocks({"depthwise backward: flops matmul_flops": UNEXPLAINED}),
        config=SEPARABLE,
    ),
    "indices of the maxima not seen": Case(
        culprit="count",
        plant=kept("block1.pool", lambda fact: None, role="index"),
        fails={"block1.pool forward: saved_bytes": "count"},
    ),
    "a storage kept once counted twice": Case(
        culprit="count",
        plant=kept("block2.relu", lambda fact: replace(fact, times=2)),
        fails={"block2.relu forward: saved_bytes": "count"},
    ),
    "what two layers keep given to the second": Case(
        culprit="count",
        plant=kept("block1.relu", lambda fact: replace(fact, path="block1.pool")),
        fails={"block1.relu forward: saved_bytes": "count", "block1.pool forward: saved_bytes": "count"},
    ),
    "what a layer keeps given to its block": Case(
        culprit="count",
        plant=kept("block3.batchnorm", lambda fact: replace(fact, path="block3"), role="statistics"),
        fails={"block3.batchnorm forward: saved_bytes": "count", "block3 forward: saved_bytes": UNEXPLAINED},
    ),
    "a weight counted among what is kept": Case(
        culprit="count",
        plant=traced("saved", weight_kept),
        fails={"block2.conv forward: saved_bytes": "count"},
    ),
    "what the loss keeps counted into the model": Case(
        culprit="count",
        plant=traced("saved", loss_kept_by_fc),
        fails={"fc forward: saved_bytes": "count"},
    ),
    "nothing that is kept was seen": Case(
        culprit="count",
        plant=traced("saved", lambda fact: ()),
        fails={
            **blocks({f"{layer} forward: saved_bytes": "count" for layer in ("conv", "batchnorm", "relu", "pool")}),
            "fc forward: saved_bytes": "count",
        },
    ),
    "what is kept missing for a layer that keeps nothing": Case(
        culprit="count",
        plant=booked(
            lambda row: replace(row, saved_bytes=None) if (row.path, row.phase) == ("gap", "forward") else row
        ),
        fails={"gap forward: saved_bytes": "count"},
    ),
}


# The other two observers ----------------------------------------------------------------------------------------------


def twice(entry: Any) -> Any:
    return replace(entry, bytes=2 * entry.bytes)


OTHERS = {
    "FlopCounterMode: MAC for FLOP": Case(
        culprit=FCM,
        plant=dispatched("fc", "forward", lambda flops: flops // 2),
        fails={"fc forward: matmul_flops": FCM},
        claims=("L491.fc.forward.flops", "L794.fc.forward.flops"),
    ),
    "FlopCounterMode: a layer not counted": Case(
        culprit=FCM,
        plant=dispatched("block2.conv", "backward", lambda flops: None),
        fails={"block2.conv backward: matmul_flops": FCM},
        claims=("L734.block2.conv.backward.flops",),
    ),
    "FlopCounterMode: products in a layer that has none": Case(
        culprit=FCM,
        plant=dispatched("block2.pool", "forward", lambda flops: 7),
        fails={"block2.pool forward: matmul_flops": FCM},
    ),
    "FlopCounterMode: a layer that nobody knows": Case(
        culprit=FCM,
        plant=dispatched("block2.shortcut", "forward", lambda flops: 7),
        fails={"block2.shortcut forward: matmul_flops": UNEXPLAINED},
    ),
    "FlopCounterMode: groups ignored forward, which is no known defect": Case(
        culprit=FCM,
        plant=dispatched("block2.depthwise", "forward", lambda flops: 32 * flops),
        fails={"block2.depthwise forward: matmul_flops": FCM},
        config=SEPARABLE,
    ),
    "FlopCounterMode: another figure than its known defect explains": Case(
        culprit=FCM,
        plant=dispatched("block2.depthwise", "backward", lambda flops: flops + 2),
        fails={"block2.depthwise backward: matmul_flops": FCM},
        config=SEPARABLE,
    ),
    "FlopCounterMode: groups ignored where there are none": Case(
        culprit=FCM,
        plant=dispatched("block2.pointwise", "backward", lambda flops: 32 * flops),
        fails={"block2.pointwise backward: matmul_flops": FCM},
        config=SEPARABLE,
    ),
    "measured: an output twice as large": Case(
        culprit="measured",
        plant=held("outputs", "block3.relu", twice),
        fails={"block3.relu forward: activation_bytes": "measured"},
        claims=("L389.block3.relu.forward.activation_bytes", "L431.block3.forward.activation_bytes"),
    ),
    "measured: height and width swapped": Case(
        culprit="measured",
        plant=held("outputs", "block1.conv", lambda entry: replace(entry, shape=(2, 32, 47, 33))),
        fails={"block1.conv forward: output_shape": "measured"},
        config=OBLONG,
        batch_size=2,
    ),
    "measured: a gradient did not arrive": Case(
        culprit="measured",
        plant=held("input_gradients", "block2.conv", lambda entry: None),
        fails={"block2.conv backward: gradient_shape gradient_bytes": "measured"},
        claims=("L721.block2.conv.backward.gradient_shape", "L735.block2.backward.gradient_bytes"),
    ),
    "measured: a gradient of the images": Case(
        culprit="measured",
        plant=held("input_gradients", "block1.conv", lambda entry: Held((32, 3, 32, 32), 393_216)),
        fails={"block1.conv backward: gradient_shape gradient_bytes": "measured"},
    ),
    "measured: a parameter's gradient missing": Case(
        culprit="measured",
        plant=held("parameter_gradient_bytes", "fc", lambda size: size - 40),
        fails={"fc backward: parameter_gradient_bytes": "measured"},
        claims=("L801.fc.backward.parameter_gradient_bytes",),
    ),
    "measured: parameters twice as wide": Case(
        culprit="measured",
        plant=held("parameter_bytes", "block2.batchnorm", lambda size: 2 * size),
        fails={"block2.batchnorm forward: parameter_bytes": "measured"},
        claims=("L824.kind:normalization.parameter_bytes", "L826.network.parameter_bytes"),
    ),
    "measured: what the ReLU kept given to the pooling after it": Case(
        culprit="measured",
        plant=lambda found: held("saved_bytes", "block2.pool", lambda size: size + 2_097_152)(
            held("saved_bytes", "block2.relu", lambda size: 0)(found)
        ),
        fails={"block2.relu forward: saved_bytes": "measured", "block2.pool forward: saved_bytes": "measured"},
    ),
    "measured: something kept where nothing is": Case(
        culprit="measured",
        plant=held("saved_bytes", "gap", lambda size: size + 4),
        fails={"gap forward: saved_bytes": "measured"},
    ),
    "measured: a layer not seen": Case(
        culprit="measured",
        plant=held("outputs", "block1.batchnorm", lambda entry: None),
        fails={
            "block1.batchnorm forward: output_shape activation_bytes saved_bytes parameter_bytes": "measured",
            "block1.batchnorm backward: gradient_shape output_gradient_shape gradient_bytes": "measured",
            "block1.batchnorm backward: parameter_gradient_bytes": "measured",
        },
    ),
}


# What is found --------------------------------------------------------------------------------------------------------

CASES = {
    **{f"theory: {name}": case for name, case in THEORY.items()},
    **{f"count: {name}": case for name, case in COUNT.items()},
    **OTHERS,
}


@pytest.fixture(scope="module")
def judged() -> Callable[[Case], Judged]:
    """Each case judged once, for several tests."""
    known: dict[int, Judged] = {}

    def find(case: Case) -> Judged:
        if id(case) not in known:
            known[id(case)] = judge_all(case.plant(evidence(case.config, case.batch_size)))
        return known[id(case)]

    return find


each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each_case
def test_the_error_is_found_where_it_is_and_nowhere_else(case: Case, judged: Callable[[Case], Judged]) -> None:
    assert judged(case).failing() == case.failing()
    assert set(case.failing().values()) <= {case.culprit, UNEXPLAINED}


@each_case
def test_claims_blame_the_culprit(case: Case, judged: Callable[[Case], Judged]) -> None:
    answers = judged(case).answers()
    assert {name: answers[name] for name in case.claims} == dict.fromkeys(case.claims, ("contradicted", case.culprit))


@each_case
def test_no_claim_of_another_layer_is_touched(case: Case, judged: Callable[[Case], Judged]) -> None:
    before, after = judged_unchanged(case.config, case.batch_size).claims, judged(case).claims
    for name, entry in after.items():
        if _answer(entry) != _answer(before[name]):
            assert _may_follow(entry.claim, case), name


@each_case
def test_no_claim_blames_another_witness(case: Case, judged: Callable[[Case], Judged]) -> None:
    """A claim that erred before may be blamed beside the culprit."""
    before, after = judged_unchanged(case.config, case.batch_size).claims, judged(case).claims
    for name, entry in after.items():
        if _answer(entry) != _answer(before[name]):
            blamed = set((entry.row.wrong or "").split(", ")) - {""}
            excused = {"claim"} if before[name].row.wrong == "claim" else set()
            assert blamed - excused <= {case.culprit}, name
            assert entry.row.verdict in ("contradicted", "unexplained"), name


@each_case
def test_the_audit_fails(case: Case, judged: Callable[[Case], Judged]) -> None:
    found = judged(case)
    rows = [*found.layers.values(), *(entry.row for entry in found.claims.values())]
    failing = [row for row in rows if row.verdict == "unexplained" or case.culprit in (row.wrong or "").split(", ")]
    assert failing
    assert all(row.reason for row in failing)


@each_case
def test_the_error_is_really_planted(case: Case) -> None:
    found = evidence(case.config, case.batch_size)
    assert case.plant(found) != found


def _answer(entry: Any) -> tuple[str, str | None]:
    return entry.row.verdict, entry.row.wrong


def _may_follow(claim: Claim, case: Case) -> bool:
    """Whether a claim is of a mutated layer, of a sum or a share that has it in it, or compares layers."""
    if not claim.layer or claim.layer.startswith("kind:") or claim.quantity == "rule":
        return True
    return any(place == claim.layer or place.startswith(f"{claim.layer}.") for place in case.places())


def test_there_are_enough_of_them() -> None:
    assert len(THEORY) >= 8 and len(COUNT) >= 8 and len(OTHERS) >= 8
    assert len(CASES) + len(CLAIMS) >= 30


@pytest.mark.parametrize(
    "config, batch_size",
    [(WALKTHROUGH, 32), (SEPARABLE, 32), (OBLONG, 2), (IN_PLACE, 2)],
    ids=["walkthrough", "separable", "oblong", "in place"],
)
def test_control_without_an_error_nothing_fails(config: CNNConfig, batch_size: int) -> None:
    found = judged_unchanged(config, batch_size)
    assert found.failing() == {}
    assert {row.verdict for row in found.layers.values()} <= {"agrees", "contradicted"}
    assert {row.wrong for row in found.layers.values()} <= {None, EXCUSED}
    assert {entry.row.wrong for entry in found.claims.values()} <= {None, "claim"}
    assert all(entry.row.verdict != "unexplained" for entry in found.claims.values())


# Claims ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ClaimCase:
    """An error in one claim. `arithmetic` is what its own rules then say of it."""

    id: str
    changed: dict[str, Any]
    arithmetic: str | None = "wrong"


CLAIMS = {
    "one unit up in the last printed place": ClaimCase(
        id="L226.block1.conv.forward.flops", changed={"printed": "56.7 M", "value": 56_700_000}
    ),
    "one unit down in the last printed place": ClaimCase(
        id="L142.block1.conv.forward.flops.2", changed={"printed": "≈ 56.5 MFLOPs", "value": 56_500_000}
    ),
    "one element too many": ClaimCase(
        id="L126.block1.conv.forward.elements", changed={"printed": "1,048,577 elements", "value": 1_048_577}
    ),
    "dropped factor 2": ClaimCase(
        id="L142.block1.conv.forward.flops", changed={"printed": "28,311,552", "value": 28_311_552}
    ),
    "MAC for FLOP in backward": ClaimCase(
        id="L725.block2.conv.backward.flops", changed={"printed": "≈ 302 MFLOPs", "value": 302_000_000}
    ),
    "missing bias": ClaimCase(id="L131.block1.conv.parameters", changed={"printed": "864 parameters", "value": 864}),
    "channels and height swapped": ClaimCase(
        id="L248.block2.conv.forward.output_shape",
        changed={"printed": "(32, 16, 64, 16)", "value": (32, 16, 64, 16)},
    ),
    "batch and features swapped": ClaimCase(
        id="L469.fc.forward.input_shape", changed={"printed": "(128, 32)", "value": (128, 32)}
    ),
    "a megabyte of a million bytes": ClaimCase(
        id="L126.block1.conv.forward.activation_bytes.2",
        changed={"printed": "4 MB", "value": 4_000_000, "precision": 1},
    ),
    "float64 for float32": ClaimCase(
        id="L126.block1.conv.forward.activation_bytes", changed={"printed": "8,388,608 bytes", "value": 8_388_608}
    ),
    "global pooling kept as (N, C, 1, 1)": ClaimCase(
        id="L445.gap.forward.output_shape", changed={"printed": "(32, 128, 1, 1)", "value": (32, 128, 1, 1)}
    ),
    "buffers counted as parameters": ClaimCase(
        id="L161.block1.batchnorm.parameters", changed={"printed": "128 parameters", "value": 128}
    ),
    "BatchNorm 4 per element": ClaimCase(
        id="L172.block1.batchnorm.forward.flops", changed={"printed": "4,194,304", "value": 4_194_304}
    ),
    "pooling window k": ClaimCase(
        id="L217.block1.pool.forward.window_elements", changed={"printed": "2 values", "value": 2}
    ),
    "padding forgotten": ClaimCase(id="L119.block1.conv.forward.output_height", changed={"printed": "30", "value": 30}),
    "no gradient claimed where there is one": ClaimCase(
        id="L722.block2.conv.backward.gradient_bytes", changed={"printed": "0 bytes", "value": 0}
    ),
    "bias gradient of the linear layer dropped": ClaimCase(
        id="L556.fc.backward.flops", changed={"printed": "163,840", "value": 163_840}
    ),
    "a share one unit off": ClaimCase(
        id="L853.kind:convolution.forward.flops_share", changed={"printed": "98.2%", "value": Fraction("98.2")}
    ),
    "a ratio off": ClaimCase(
        id="L682.block3.conv.backward.backward_to_forward_flops", changed={"printed": "3×", "value": 3}
    ),
    "a range beside it": ClaimCase(
        id="L885.kind:convolution.forward.depthwise_separable_flops_reduction",
        changed={"printed": "9-10×", "value": Range(9, 10)},
    ),
    "at least too much": ClaimCase(
        id="L864.network.parameters", changed={"printed": "94,987", "value": 94_987, "relation": "at least"}
    ),
    "a sum of one layer too few": ClaimCase(
        id="L431.block3.parameters", changed={"printed": "73,856", "value": 73_856}
    ),
    "a rule for its opposite": ClaimCase(
        id="L515.fc.forward.rule.linear.weight_times_input",
        changed={"value": "linear.input_times_weight"},
        arithmetic="exact",
    ),
}


@pytest.fixture(scope="module")
def changed() -> Callable[[ClaimCase], Judged]:
    return lambda case: judge_all(claimed(case.id, **case.changed)(evidence()))


@pytest.mark.parametrize("case", CLAIMS.values(), ids=CLAIMS)
def test_a_wrong_claim_is_contradicted_and_no_other(case: ClaimCase, changed: Callable[[ClaimCase], Judged]) -> None:
    before, after = judged_unchanged(WALKTHROUGH, 32), changed(case)
    assert before.answers()[case.id] == ("agrees", None)
    assert after.answers() == before.answers() | {case.id: ("contradicted", "claim")}
    assert after.claims[case.id].row.arithmetic == case.arithmetic
    assert after.claims[case.id].row.reason
    assert after.failing() == {}


REPAIRED = {
    "multiply-adds": ("L139.block1.conv.forward.multiply_adds_per_output", {"value": 27}),
    "a sum of rounded parts": ("L230.block1.forward.flops", {"value": 64_000_000}),
    "Conv1 without the images' gradient": ("L760.block1.conv.backward.flops", {"value": 57_000_000}),
    "64 parameters found again": ("L823.kind:convolution.parameters", {"value": 93_248}),
    "the weight's layout": ("L526.fc.backward.weight_gradient_shape", {"value": (10, 128)}),
}


@pytest.mark.parametrize("name, repair", REPAIRED.values(), ids=REPAIRED)
def test_a_wrong_claim_repaired_agrees(name: str, repair: dict[str, Any]) -> None:
    assert judged_unchanged(WALKTHROUGH, 32).answers()[name] == ("contradicted", "claim")
    assert judge_all(claimed(name, **repair)(evidence())).answers()[name] == ("agrees", None)


def test_what_no_run_measures_is_left_to_arithmetic() -> None:
    name = "L487.fc.forward.additions_per_output"
    row = judge_all(claimed(name, value=127)(evidence())).claims[name].row
    assert (row.verdict, row.arithmetic) == ("not measured", "wrong")


# Every figure, one by one ---------------------------------------------------------------------------------------------


def _numbered(claim: Claim) -> bool:
    return claim.relation in ("equal", "about") and claim.unit not in ("shape", "rule")


@pytest.mark.parametrize("step", [1, -1], ids=["up", "down"])
def test_every_number_one_unit_off_is_contradicted(step: int) -> None:
    """All claims at once: a claim is judged by itself, and its arithmetic alone looks at others."""
    before = judged_unchanged(WALKTHROUGH, 32)
    found = evidence()
    off = tuple(
        replace(claim, value=claim.value + step * claim.precision) if _numbered(claim) else claim  # type: ignore[operator]
        for claim in found.claims
    )
    after = judge_all(replace(found, claims=off)).answers()
    agreed = {name for name, (verdict, _) in before.answers().items() if verdict == "agrees"}
    moved = {claim.id for claim in found.claims if _numbered(claim)} & agreed
    assert len(moved) > 400
    missed = {name for name in moved if after[name] != ("contradicted", "claim")}
    assert missed == set()


def test_every_shape_reversed_is_contradicted() -> None:
    before, found = judged_unchanged(WALKTHROUGH, 32), evidence()
    turned = tuple(
        replace(claim, value=claim.value[::-1]) if isinstance(claim.value, tuple) else claim for claim in found.claims
    )
    after = judge_all(replace(found, claims=turned)).answers()
    names = {
        claim.id
        for claim in found.claims
        if isinstance(claim.value, tuple)
        and claim.value != claim.value[::-1]
        and before.answers()[claim.id][0] == "agrees"
    }
    assert len(names) > 100
    assert {name for name in names if after[name] != ("contradicted", "claim")} == set()


Statement = dict[tuple[str, str], dict[str, Any]]


def statements(config: CNNConfig, batch_size: int) -> dict[str, Statement]:
    """What each witness says, as dictionaries that can be changed."""
    found = evidence(config, batch_size)
    said: dict[str, Any] = {
        "theory": from_prediction(found.prediction),
        "count": from_ledger(found.observed.ledger),
        "measured": from_storages(found.observed.storages),
        "dispatcher": from_dispatcher(found.observed.dispatcher, found.observed.leaves),
    }
    return {witness: {place: dict(figures) for place, figures in said[witness].items()} for witness in said}


def changed_everywhere(
    said: dict[str, Statement], witness: str, change: Callable[[Any], Any]
) -> tuple[int, list[tuple[str, str, str]]]:
    """Changes one figure after another; how many, and those after which another row, or none, fails."""
    tried, missed = 0, []
    theory = said["theory"]
    for place in theory:
        figures = said[witness].get(place, {})
        for quantity, figure in tuple(figures.items()):
            if quantity not in theory[place] or figure is None:
                continue
            figures[quantity] = change(figure)
            rows = compare_statements(**said, layers={})  # type: ignore[arg-type]
            failing = [(row.path, row.phase, row.quantity) for row in rows if is_failure(row)]
            figures[quantity] = figure
            tried += 1
            if failing != [(*place, quantity)]:
                missed.append((*place, quantity))
    return tried, missed


def off_by_one(figure: Any) -> Any:
    if isinstance(figure, int):
        return figure + 1
    return (*figure[:-1], figure[-1] + 1) if isinstance(figure, tuple) else (1,)


@pytest.mark.parametrize("witness, figures", [("theory", 210), ("count", 210), ("measured", 112), ("dispatcher", 28)])
def test_every_layer_figure_one_off_fails_at_its_row_alone(witness: str, figures: int) -> None:
    tried, missed = changed_everywhere(statements(WALKTHROUGH, 32), witness, off_by_one)
    assert (tried, missed) == (figures, [])


@pytest.mark.parametrize("witness, figures", [("count", 210), ("measured", 112), ("dispatcher", 28)])
def test_every_layer_figure_that_an_observer_lacks_fails_at_its_row_alone(witness: str, figures: int) -> None:
    """But where it says "none" and no layer has one: there, silence says the same."""
    tried, missed = changed_everywhere(statements(WALKTHROUGH, 32), witness, lambda figure: None)
    assert tried == figures
    assert set(missed) <= {("block1.conv", "backward", "gradient_shape")}


def test_every_agreement_has_two_witnesses() -> None:
    for config, batch_size in ((WALKTHROUGH, 32), (SEPARABLE, 32)):
        found = judged_unchanged(config, batch_size)
        for row in found.layers.values():
            assert sum(figure is not None for figure in (row.theory, row.count, row.measured)) >= 2
        for entry in found.claims.values():
            if entry.row.verdict == "agrees":  # beside the claim: a count, or what is measured
                assert entry.row.count is not None or entry.row.measured is not None


LIVE_TOGETHER = {
    "activation_and_gradient_bytes",
    "memory_bytes",
    "half_precision_memory_reduction",
    "resolution_doubled_memory_ratio",
}


def test_every_claimed_figure_that_is_judged_has_theory_and_an_observer() -> None:
    """A count; of memory that is live together, which no count tells, the allocator."""
    for entry in judged_unchanged(WALKTHROUGH, 32).claims.values():
        row = entry.row
        if row.quantity != "rule" and row.verdict in ("agrees", "contradicted"):
            observed = row.measured if row.quantity in LIVE_TOGETHER else row.count
            assert row.theory is not None and observed is not None, entry.claim.id


def test_claims_can_be_judged_without_the_layers() -> None:
    found = evidence()
    alone = claim_rows(found.claims, found.observed, found.prediction, "cpu")
    assert {entry.claim.id: _answer(entry) for entry in alone} == judged_unchanged(WALKTHROUGH, 32).answers()
