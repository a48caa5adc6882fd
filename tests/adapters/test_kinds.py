"""Every kind that has a closed form, run forward and backward: theory and count say the same of all of it."""

from __future__ import annotations

import inspect

import pytest
from torch import nn

from torchtally.profiler.adapters import KINDS
from torchtally.profiler.compare import compare_layers
from torchtally.theory.cost import Cost

from .kinds import Case, cases
from .running import Calling, agreed, differences, step

CASES = cases()
each = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides"),
    pytest.mark.filterwarnings("ignore:dropout2d"),
]

FORWARD = {"flops", "matmul_flops", "activation_bytes", "parameters", "parameter_bytes", "output_shape"}
BACKWARD = {"flops", "matmul_flops", "bias_flops", "parameter_gradient_bytes"}

# Public classes of torch.nn that nothing here speaks of. What they do is counted, and named as not compared.
WITHOUT_FORM = """
    AdaptiveLogSoftmaxWithLoss AlphaDropout ChannelShuffle CircularPad1d CircularPad2d CircularPad3d ConstantPad1d
    ConstantPad2d ConstantPad3d CosineEmbeddingLoss CosineSimilarity CrossMapLRN2d CTCLoss FeatureAlphaDropout Fold
    FractionalMaxPool2d FractionalMaxPool3d GaussianNLLLoss GRUCell HingeEmbeddingLoss LinearCrossEntropyLoss LPPool1d
    LPPool2d LPPool3d LSTMCell MarginRankingLoss MaxUnpool1d MaxUnpool2d MaxUnpool3d MultiLabelMarginLoss
    MultiLabelSoftMarginLoss MultiMarginLoss PairwiseDistance PixelShuffle PixelUnshuffle ReflectionPad1d
    ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d RNNCell TripletMarginLoss
    TripletMarginWithDistanceLoss TransformerDecoderLayer Unflatten Unfold Upsample UpsamplingBilinear2d
    UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d
""".split()

# Bases, containers, and models of other modules: they have no work of their own, or only that of what they hold.
NO_KINDS = """
    Container DataParallel Module ModuleDict ModuleList ParameterDict ParameterList RNNBase RNNCellBase Sequential
    Transformer TransformerDecoder TransformerEncoder
""".split()


def wrapped(case: Case) -> Calling:
    return Calling(lambda self, *inputs: self.it(*inputs), it=case.module)


@each
def test_theory_and_count_agree(case: Case) -> None:
    run = step(wrapped(case), *case.inputs)
    comparison = run.compare()
    assert differences(comparison) == []
    assert comparison.not_compared == {}
    assert agreed(comparison, "it", "forward").keys() >= FORWARD
    if any(row.path == "it" and row.phase == "backward" for row in run.ledger.rows):
        assert agreed(comparison, "it", "backward").keys() >= BACKWARD


@each
def test_a_frozen_kind_agrees_too(case: Case) -> None:
    held = [(parameter, parameter.requires_grad) for parameter in case.module.parameters()]
    try:
        case.module.requires_grad_(False)
        assert differences(step(wrapped(case), *case.inputs).compare()) == []
    finally:
        for parameter, flag in held:
            parameter.requires_grad_(flag)


def test_every_kind_has_a_case() -> None:
    assert KINDS - {type(case.module) for case in CASES} == set()


def test_public_kinds_of_torch_without_a_closed_form() -> None:
    public = {name: kind for name, kind in vars(nn).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}
    lazy = {name for name in public if name.startswith("Lazy")}  # which become others at their first call
    deprecated = {"NLLLoss2d"}  # a subclass of NLLLoss
    covered = {kind.__name__ for kind in KINDS}
    assert sorted(public.keys() - covered - lazy - deprecated - set(NO_KINDS)) == sorted(WITHOUT_FORM)
    assert not covered & {*WITHOUT_FORM, *NO_KINDS}


# An error in any closed form is seen -------------------------------------------------------------------------------


@each
def test_a_wrong_closed_form_is_seen(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """One FLOP more, forward or backward, is a row that nobody explains."""
    run = step(wrapped(case), *case.inputs)
    kind = type(run.layers["it"])
    if isinstance(case.module, nn.TransformerEncoderLayer):
        pytest.skip("its work is its children's")
    backward = any(row.path == "it" and row.phase == "backward" for row in run.ledger.rows)
    right = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, *inputs: right(self, *inputs) + Cost(flops=1))
    comparison = compare_layers(run.ledger, run.trace, run.layers)
    assert not comparison.ok
    wrong = {(row.path, row.phase, row.quantity) for row in comparison.failures}
    assert ("it", "forward", "flops") in wrong
    assert wrong <= {("it", phase, "flops") for phase in ("forward", "backward")}
    assert {row.verdict for row in comparison.failures} == {"unexplained"}
    assert backward or wrong == {("it", "forward", "flops")}
