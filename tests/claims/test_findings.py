"""Where the walkthrough does not follow from its own rules: the whole list, pinned."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from torchtally.theory.claims.arithmetic import arithmetic_of
from torchtally.theory.claims.reader import load_claims
from torchtally.theory.claims.reasons import REASONS
from torchtally.theory.claims.records import Number
from torchtally.theory.variations import depthwise_separable_convolutions

CLAIMS = {claim.id: claim for claim in load_claims()}
FOUND = arithmetic_of(CLAIMS.values())

# id: (printed, the right figure in the claim's unit)
DRIFT = {
    "L230.block1.forward.flops": ("63.8 M", 63_963_136),
    "L331.block2.forward.flops": ("305.6 M", 305_659_904),
    "L431.block3.forward.flops": ("303.9 M", 303_824_896),
    "L698.block3.backward.flops": ("605.9 M", 605_814_784),
    "L769.block1.conv.backward.flops": ("113.0 M", 113_246_208),
    "L770.block1.backward.flops": ("120.2 M", 120_586_240),
    "L795.network.forward.flops": ("673.4 M", 673_595_392),
    "L814.block1.conv.backward.flops": ("113.0 M", 113_246_208),
    "L835.network.backward.memory_bytes": ("23.8 MB", 25_024_592),
    "L841.network.forward.flops": ("673.4 MFLOPs", 673_595_392),
    "L854.kind:normalization.forward.flops": ("9.1 M", 9_175_040),
    "L870.network.backward.memory_bytes": ("23.8 MB", 25_024_592),
}
WRONG = {
    "L139.block1.conv.forward.multiply_adds_per_output": ("54", 27),
    "L170.block1.batchnorm.forward.flops_per_element": ("5", 7),
    "L795.network.forward.activation_bytes": ("22.2 MB", 23_872_768),
    "L815.network.backward.flops": ("1,334.0 M", 1_334_280_512),
    "L823.kind:convolution.parameters": ("93,184", 93_248),
    "L823.kind:convolution.parameter_bytes": ("372,736", 372_992),
    "L856.kind:pooling.forward.flops": ("1.8 M", 1_900_544),
    "L882.gap.gap_parameters_saved": ("millions of parameters", 19_200),
    "L892.network.extra_block_parameters": ("+~74K parameters", 296_960),
}
# Wrong because they add up, or repeat, one that is.
INHERITED = {
    "L832.network.forward.activation_bytes": ("22.2 MB", 23_872_768),
    "L832.network.training.activation_and_gradient_bytes": ("45.3 MB", 48_137_472),
    "L835.network.forward.memory_bytes": ("22.6 MB", 24_252_712),
    "L835.network.training.memory_bytes": ("46.4 MB", 49_277_304),
    "L842.network.backward.flops": ("1,334.0 MFLOPs", 1_334_280_512),
    "L843.network.training.flops": ("2,007.4 MFLOPs", 2_007_875_904),
    "L869.network.forward.memory_bytes": ("22.6 MB", 24_252_712),
}
# Rules at odds with what the document says elsewhere: no figure is right or wrong.
AT_ODDS = {
    "L515.fc.forward.rule.linear.weight_times_input": ("y = Wx + b", None),
    "L847.network.rule.backward.weight_updates": ("weight updates", None),
}


def found(result: str) -> dict[str, tuple[str, object]]:
    return {name: (CLAIMS[name].printed, judged.right) for name, judged in FOUND.items() if judged.result == result}


def test_the_count_of_each_result() -> None:
    counts = Counter(judged.result for judged in FOUND.values())
    assert counts == {"exact": 470 + 43, "rounded": 110, "drift": 12, "wrong": 16 + 2}


def test_what_drifts() -> None:
    assert found("drift") == DRIFT


def test_what_is_wrong() -> None:
    assert found("wrong") == WRONG | INHERITED | AT_ODDS


def test_only_rules_have_no_right_figure() -> None:
    assert {name for name, judged in FOUND.items() if judged.right is None} == {
        name for name, claim in CLAIMS.items() if claim.unit == "rule"
    }
    assert all(FOUND[name].reason for name in AT_ODDS)


def test_whatever_is_wrong_has_a_reason() -> None:
    assert set(WRONG) <= set(REASONS) <= set(CLAIMS)
    for name in WRONG:
        assert REASONS[name] in FOUND[name].reason
    for name in INHERITED:
        assert "which is wrong" in FOUND[name].reason


def test_figures_that_reasons_quote() -> None:
    assert printed_sum("L795.network.forward.flops") == Fraction("673.45") * 10**6
    assert printed_sum("L815.network.backward.flops") == Fraction("1333.93") * 10**6
    assert printed_sum("L823.kind:convolution.parameters") == 896 + 18_496 + 73_856
    assert printed_sum("L826.network.parameters") == 94_922
    assert printed_sum("L826.network.parameter_bytes") == 379_688
    activations = printed_sum("L795.network.forward.activation_bytes")
    assert round(activations / 1024**2, 2) == Fraction("22.77")
    assert round((activations + 384 * 1024) / 1024**2, 2) == Fraction("23.14")
    separable = depthwise_separable_convolutions()
    factors = [round(separable[block].reduction, 2) for block in ("block1", "block2", "block3")]
    assert factors == [Fraction("7.02"), Fraction("7.89"), Fraction("8.41")]


def printed_sum(name: str) -> Fraction:
    """The sum of the parts of a claim, as they are printed."""
    values: list[Number] = []
    for part in CLAIMS[name].parts:
        value = CLAIMS[part].value
        assert isinstance(value, int | Fraction)
        values.append(value)
    return sum(values, start=Fraction(0))
