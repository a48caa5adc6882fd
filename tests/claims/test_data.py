"""The claims as they are committed: what a clone without the walkthrough can check of them."""

from __future__ import annotations

import re
from fractions import Fraction
from importlib.resources import files

from torchtally.theory.claims import reader
from torchtally.theory.claims.quantities import RULES, UNITS
from torchtally.theory.claims.reader import load_claims
from torchtally.theory.claims.records import Claim

SCALES = {"K": 10**3, "M": 10**6, "MFLOPs": 10**6, "KB": 1024, "MB": 1024**2}
WORDS = {
    "no parameters": 0,
    "computations to perform": 0,
    "One comparison": 1,
    "millions of parameters": 10**6,
}
# "About 300 M" has one significant digit, and "millions" count in millions.
COARSER = {"+~300M FLOPs": 10**8, "millions of parameters": 10**6}


def numeric(claim: Claim) -> bool:
    return claim.unit not in ("shape", "rule") and claim.relation != "range"


def test_how_many_there_are() -> None:
    claims = load_claims()
    assert len(claims) == 653
    assert sum(claim.cell is not None for claim in claims) == 285
    assert sum(claim.unit == "rule" for claim in claims) == 45


def test_values_and_precisions_are_what_is_printed() -> None:
    """Read a second time, by other code than wrote them down."""
    for claim in filter(numeric, load_claims()):
        match = re.match(r"\D*?([\d,]+)(?:\.(\d+))? ?([A-Za-z]*)", claim.printed)
        if match is None:
            value, place = Fraction(WORDS[claim.printed]), Fraction(1)
        else:
            scale = SCALES.get(match[3], 1)
            place = Fraction(scale, 10 ** len(match[2] or ""))
            value = int(match[1].replace(",", "") + (match[2] or "")) * place
        assert (claim.value, claim.precision) == (value, COARSER.get(claim.printed, place)), claim.id


def test_shapes_are_what_is_printed() -> None:
    for claim in load_claims():
        if claim.unit == "shape":
            assert claim.value == tuple(map(int, re.findall(r"\d+", claim.printed))), claim.id


def test_the_range_is_what_is_printed() -> None:
    (claim,) = (claim for claim in load_claims() if claim.relation == "range")
    assert (claim.printed, claim.value) == ("8-9×", reader.Range(8, 9))


def test_what_is_printed_as_about_is_about() -> None:
    for claim in load_claims():
        if re.match(r"[≈~+]", claim.printed):
            assert claim.relation == "about", claim.id


def test_the_vocabulary_is_used_in_full() -> None:
    assert {claim.quantity for claim in load_claims()} == set(UNITS)
    assert {claim.value for claim in load_claims() if claim.unit == "rule"} == set(RULES)


def test_layers_are_module_paths_blocks_or_kinds() -> None:
    layer = r"|input|gap|fc|block[123](\.(conv|batchnorm|relu|pool))?"
    kind = r"kind:(convolution|normalization|activation|pooling|linear)"
    for claim in load_claims():
        assert re.fullmatch(f"{layer}|{kind}", claim.layer), claim.id


def test_totals_name_their_parts() -> None:
    """Table totals add up the rows above them: two for the step, more for blocks and the network."""
    totals = [claim for claim in load_claims() if claim.cell and len(claim.parts) > 1]
    assert len(totals) == 41
    by_id = {claim.id: claim for claim in load_claims()}
    for total in totals:
        assert all(by_id[part].quantity in total.quantity or total.quantity in PARTLY for part in total.parts)


# Sums of different quantities.
PARTLY = {"memory_bytes", "activation_and_gradient_bytes"}


def test_the_table_is_plain_text_with_one_claim_a_line() -> None:
    text = files("torchtally.theory.claims").joinpath(reader.WALKTHROUGH).read_text(encoding="utf-8")
    assert text.endswith("\n") and "\r" not in text and '"' not in text
    assert len(text.splitlines()) == len(load_claims()) + 1
