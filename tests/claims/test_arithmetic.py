"""Exact, rounded, drift, wrong: by hand-written figures, so that nothing of the walkthrough is needed."""

from __future__ import annotations

from fractions import Fraction

import pytest

from torchtally.theory.claims.arithmetic import Arithmetic, arithmetic, in_words
from torchtally.theory.claims.records import Claim, Number, Own, Range, Shape, roundings
from torchtally.theory.claims.rules import by_own_rules, rows

from .making import claim, exact


def judged(subject: Claim, own: Own, *others: tuple[Claim, Own]) -> Arithmetic:
    """The arithmetic of a claim whose own figure is given, as are those of the claims it adds up."""
    by_id = {each.id: each for each, _ in others}
    owns = {each.id: figure for each, figure in others}
    return arithmetic(subject, own, by_id, lambda part: owns[part.id])


@pytest.mark.parametrize(
    ("printed", "own", "result"),
    [
        ("98,304", "98304", "exact"),
        ("98,304", "98305", "wrong"),
        ("22.5", "22.5", "exact"),
        ("22.8", "22.77", "rounded"),
        ("22.7", "22.77", "wrong"),
        ("22.2", "22.25", "rounded"),  # half to even
        ("22.3", "22.25", "rounded"),  # half up
        ("22.4", "22.35", "rounded"),  # both
        ("22.3", "22.35", "wrong"),  # down, to odd: neither
        ("22.3", "22.2500001", "rounded"),
        ("22.2", "22.2500001", "wrong"),
        ("2", "1.981", "rounded"),
        ("0", "0.5", "rounded"),
        ("1", "0.5", "rounded"),
        ("0.07", "0.065536", "rounded"),
        ("1.0", "1.048576", "rounded"),
    ],
)
def test_one_figure(printed: str, own: str, result: str) -> None:
    found = judged(claim(printed), exact(own))
    assert (found.result, found.right) == (result, exact(own))


def test_a_fraction_that_no_decimal_reaches_is_compared_exactly() -> None:
    third = Fraction(100, 3)
    assert judged(claim("33.3"), third).result == "rounded"
    assert judged(claim("33.4"), third).result == "wrong"


@pytest.mark.parametrize(
    ("number", "precision", "answers"),
    [
        (exact("673.45"), exact("0.1"), {"673.4", "673.5"}),
        (exact("673.55"), exact("0.1"), {"673.6"}),
        (exact("12.375"), exact("0.1"), {"12.4"}),
        (250, 100, {"200", "300"}),
        (7, 1, {"7"}),
    ],
)
def test_roundings(number: Number, precision: Number, answers: set[str]) -> None:
    assert roundings(number, precision) == {exact(answer) for answer in answers}


def test_mebibytes_are_rounded_in_mebibytes() -> None:
    """22.77 MiB print as 22.8 of 1,048,576 bytes, whatever they are in millions."""
    mib = 1024**2
    printed = claim("22.8 MB", value=exact("22.8") * mib, precision=exact("0.1") * mib, unit="bytes")
    assert judged(printed, 23_872_768).result == "rounded"
    assert judged(printed, 23_972_768).result == "wrong"


@pytest.mark.parametrize(
    ("shape", "result"), [((32, 10), "exact"), ((10, 32), "wrong"), ((32,), "wrong"), ((32, 10, 1), "wrong")]
)
def test_a_shape_is_exact_or_wrong(shape: Shape, result: str) -> None:
    assert judged(claim("(32, 10)", value=(32, 10), precision=None, unit="shape"), shape).result == result


@pytest.mark.parametrize(
    ("own", "result"),
    [
        ("8", "exact"),
        ("8.03", "exact"),
        ("9", "exact"),
        ("7.5", "rounded"),
        ("9.5", "wrong"),
        ("7.07", "wrong"),
    ],
)
def test_a_range_holds_what_lies_in_it_or_rounds_into_it(own: str, result: str) -> None:
    """9.5 rounds to 10 either way; 7.5 to 8 either way."""
    between = claim("8-9×", value=Range(8, 9), precision=1, relation="range", unit="ratio")
    assert judged(between, exact(own)).result == result


@pytest.mark.parametrize(
    ("own", "result"), [("1000000", "exact"), ("7000000", "exact"), ("999999", "rounded"), ("19200", "wrong")]
)
def test_at_least(own: str, result: str) -> None:
    millions = claim("millions", value=10**6, precision=10**6, relation="at least", unit="parameters")
    assert judged(millions, exact(own)).result == result


@pytest.mark.parametrize(("own", "result"), [("302956544", "rounded"), ("300000000", "exact"), ("350000001", "wrong")])
def test_about_is_as_wide_as_the_printed_digits(own: str, result: str) -> None:
    assert judged(claim("~300M", value=3 * 10**8, precision=10**8, relation="about"), exact(own)).result == result


@pytest.mark.parametrize(
    ("rule", "result"), [("linear.weight_gradient", "exact"), ("linear.weight_times_input", "wrong")]
)
def test_a_rule_is_held_to_what_else_the_document_says(rule: str, result: str) -> None:
    found = judged(claim("dW", value=rule, precision=None, unit="rule"), None)
    assert (found.result, found.right) == (result, None)
    assert bool(found.reason) is (result == "wrong")


# What a claim adds up. 1.04 + 2.04 = 3.08 prints as 3.1, its rounded parts as 1.0 + 2.0 = 3.0.
ONE, TWO = claim("1.0", id="one"), claim("2.0", id="two", line=2)
SUM = claim("3.0", id="sum", parts=("one", "two"))


def test_the_sum_of_rounded_parts_is_drift() -> None:
    found = judged(SUM, exact("3.08"), (ONE, exact("1.04")), (TWO, exact("2.04")))
    assert found.result == "drift"
    assert found.reason == "3.08 FLOPs; adds up 1.0 of line 1 and 2.0 of line 2"


def test_a_sum_that_is_right_is_no_drift() -> None:
    assert judged(SUM, exact("3.04"), (ONE, exact("1.02")), (TWO, exact("2.02"))).result == "rounded"
    assert judged(SUM, 3, (ONE, 1), (TWO, 2)).result == "exact"


def test_a_sum_that_is_neither_is_wrong() -> None:
    off = claim("2.9", id="sum", parts=("one", "two"))
    assert judged(off, exact("3.08"), (ONE, exact("1.04")), (TWO, exact("2.04"))).result == "wrong"


def test_a_sum_of_a_wrong_part_is_wrong_and_says_which() -> None:
    found = judged(SUM, 8, (ONE, 6), (TWO, 2))
    assert found.result == "wrong"
    assert found.reason == "8 FLOPs; takes over 1.0 of line 1, which is wrong"


def test_drift_goes_on_through_further_sums() -> None:
    again = claim("3.0", id="again", parts=("sum",))
    parts = ((SUM, exact("3.08")), (ONE, exact("1.04")), (TWO, exact("2.04")))
    assert judged(again, exact("3.08"), *parts).result == "drift"


def test_more_digits_than_there_were_are_drift() -> None:
    """113 for 113.25 is rounded; 113.0 is the same figure, with a digit that it never had."""
    rough = claim("113", id="rough")
    assert judged(rough, exact("113.25")).result == "rounded"
    found = judged(claim("113.0", id="fine", parts=("rough",)), exact("113.25"), (rough, exact("113.25")))
    assert (found.result, found.reason) == ("drift", "113.2 FLOPs; takes over 113 of line 1")


def test_the_sum_of_parts_is_rounded_in_both_ways() -> None:
    """0.25 + 0.20 = 0.45 prints as 0.4 or 0.5."""
    quarter, fifth = claim("0.25", id="one"), claim("0.20", id="two")
    parts = ((quarter, exact("0.254")), (fifth, exact("0.204")))
    total = exact("0.5604")
    for printed, result in {"0.4": "drift", "0.5": "drift", "0.3": "wrong", "0.6": "rounded"}.items():
        assert judged(claim(printed, id="sum", parts=("one", "two")), total, *parts).result == result


def test_a_part_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError, match="two"):
        judged(SUM, exact("3.08"), (ONE, exact("1.04")))


@pytest.mark.parametrize(
    ("figure", "unit", "words"),
    [
        (23_872_768, "bytes", "23,872,768 bytes (22.77 MiB)"),
        (1_280, "bytes", "1,280 bytes"),
        (Fraction(1981, 1000), "ratio", "1.981x"),
        (Fraction(200, 3), "percent", "66.67 %"),
        ((128, 10), "shape", "(128, 10)"),
        (Range(8, 9), "ratio", "8 to 9"),
    ],
)
def test_figures_in_words(figure: Own | Range, unit: str, words: str) -> None:
    assert in_words(figure, unit) == words


# The document's own rules, beside the figures they must give.


def test_own_rules_count_the_gradient_of_the_images() -> None:
    n, c_in, c_out, k, size = 32, 3, 32, 3, 32
    product = 2 * n * c_out * size * size * c_in * k * k
    assert own("flops", "block1.conv", "backward") == 2 * product
    assert own("gradient_bytes", "block1.conv", "backward") == 4 * n * c_in * size * size


def test_own_rules_leave_the_input_out_of_the_activations() -> None:
    maps = 32 * (3 * 32 * 32**2 + 32 * 16**2 + 3 * 64 * 16**2 + 64 * 8**2 + 3 * 128 * 8**2 + 128 * 4**2)
    assert own("activation_bytes", "", "forward") == 4 * (maps + 32 * 128 + 32 * 10)
    assert own("activation_bytes", "input", "forward") == 4 * 32 * 3 * 32 * 32


def test_own_rules_have_weights_of_in_by_out() -> None:
    assert own("weight_gradient_shape", "fc", "backward") == (128, 10)
    assert own("weight_gradient_shape", "block3.conv", "backward") == (128, 64, 3, 3)


def test_own_rules_hold_parameters_once_for_each_phase() -> None:
    parameters = 4 * 94_986
    assert own("parameter_bytes", "", "forward") == parameters
    assert own("parameter_bytes", "", "training") == 2 * parameters
    both = own("memory_bytes", "", "forward"), own("memory_bytes", "", "backward")
    assert own("memory_bytes", "", "training") == sum(each for each in both if isinstance(each, int))


def test_shares_are_of_the_phase_and_phases_are_of_the_step() -> None:
    kinds = ("convolution", "normalization", "activation", "pooling", "linear")
    shares = [own("flops_share", f"kind:{kind}", "forward") for kind in kinds]
    assert sum(share for share in shares if isinstance(share, int | Fraction)) == 100
    assert own("flops_share", "", "training") == 100


@pytest.mark.parametrize("layer", ["block4", "kind:attention", "conv1"])
def test_a_layer_that_is_not_there_is_an_error(layer: str) -> None:
    with pytest.raises(KeyError, match=layer):
        rows(layer)


def own(quantity: str, layer: str, phase: str) -> Own:
    return by_own_rules(claim("0", quantity=quantity, layer=layer, phase=phase))
