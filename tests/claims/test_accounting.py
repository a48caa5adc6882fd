"""Every number of the walkthrough is in a claim, or is known to be none; and the accounting can fail."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from torchtally.theory.claims.reader import load_claims

from .accounting import NUMBER, NoClaim, account, account_line, digest, equations, place, places
from .document import VARIABLE, cells, is_row, lines, rendered, sections, walkthrough
from .making import claim
from .not_claims import NOT_CLAIMS

CELLS_WITH_FIGURES = 285
EQUATIONS = 57
BOLD_FIGURES = 116

# Of all the numbers of the document that was transcribed. Where it differs, go through the claims again.
TRANSCRIBED = "7cbb20187e2a337ecb24d3d693dc208adbb0306cff1f814fcff0d4d30c6bdfdb"

# The walkthrough is not part of the repository; a clone without it can only check what it holds itself.
FOUND = walkthrough()
at_hand = pytest.mark.skipif(
    FOUND is None, reason=f"the walkthrough is not at hand: name its file in {VARIABLE} to account for it"
)


@pytest.fixture(scope="module")
def text() -> str:
    assert FOUND is not None
    return FOUND.read_text(encoding="utf-8")


@at_hand
def test_every_number_is_accounted_for(text: str) -> None:
    assert account(text, load_claims(), NOT_CLAIMS) == []


@at_hand
def test_it_is_the_document_that_was_transcribed(text: str) -> None:
    assert digest(text) == TRANSCRIBED


@at_hand
def test_no_claim_with_a_number_can_be_left_out(text: str) -> None:
    document, claims = lines(text), load_claims()
    numbered = [each for each in claims if NUMBER.search(each.printed)]
    assert len(numbered) > 600
    for left_out in numbered:
        others = [each for each in claims if each.line == left_out.line and each is not left_out]
        problems = list(account_line(left_out.line, document[left_out.line], others, NOT_CLAIMS))
        assert any("belongs to nothing" in problem for problem in problems), left_out.id


@at_hand
def test_no_number_of_a_claim_can_be_changed(text: str) -> None:
    document = lines(text)
    for each in load_claims():
        line = document[each.line]
        span = place(each, line)
        assert span is not None
        for match in NUMBER.finditer(line, span.start, span.stop):
            doctored = line[: match.start()] + changed(match[0]) + line[match.end() :]
            assert list(account_line(each.line, doctored, [each], NOT_CLAIMS)), (each.id, doctored)


def changed(number: str) -> str:
    """The number with another last digit."""
    return number[:-1] + str((int(number[-1]) + 1) % 10)


@at_hand
def test_no_number_at_all_can_be_changed(text: str) -> None:
    for match in list(NUMBER.finditer(text))[::50]:
        assert digest(text[: match.start()] + changed(match[0]) + text[match.end() :]) != TRANSCRIBED


@at_hand
def test_every_table_cell_with_a_figure_is_a_claim(text: str) -> None:
    claimed = {(each.line, each.cell) for each in load_claims() if each.cell is not None}
    with_figures = {
        (number, column)
        for number, line in lines(text).items()
        if is_row(line) and number > 100  # above, a table of symbols
        for column, (start, end) in enumerate(cells(line), start=1)
        if column > 1 and NUMBER.search(line, start, end)
    }
    assert with_figures == claimed
    assert len(with_figures) == CELLS_WITH_FIGURES


@at_hand
def test_every_bold_figure_is_a_claim(text: str) -> None:
    bold = [
        (number, rendered(match[1] or match[2]))
        for number, line in enumerate(text.splitlines(), start=1)
        for match in re.finditer(r"\*\*([^*]+)\*\*|\\textbf\{([^{}]*)\}", line)
        if re.match(r"[\d~+]", match[1] or match[2]) and not line.startswith("#")
    ]
    assert len(bold) == BOLD_FIGURES
    for number, figure in bold:
        printed = [each.printed.lstrip("≈ ") for each in load_claims() if each.line == number]
        assert any(figure.startswith(each) for each in printed), (number, figure)


@at_hand
def test_equations_between_integers_hold(text: str) -> None:
    """Factors are no claims, so nothing else looks at them."""
    found = [(number, *both) for number, line in lines(text).items() for both in equations(line)]
    assert [each for each in found if each[1] != each[2]] == []
    assert len(found) == EQUATIONS


@at_hand
def test_sections_are_the_headings_that_claims_stand_under(text: str) -> None:
    found = sections(lines(text))
    assert [each.id for each in load_claims() if each.section != found[each.line]] == []


@at_hand
def test_claims_are_in_the_order_of_the_document(text: str) -> None:
    document = lines(text)
    spans = [(each.line, place(each, document[each.line])) for each in load_claims()]
    starts = [(line, span.start) for line, span in spans if span]
    assert starts == sorted(starts)


# Without the document: the accounting itself.


def test_a_number_that_nobody_claims_is_reported() -> None:
    assert account("30 eggs", [], []) == ["line 1: 30 at column 1 belongs to nothing"]
    assert account("30 eggs", [claim("30 eggs", value=30, precision=1)], []) == []
    assert account("30 eggs", [], [NoClaim(reason="a joke")]) == []


def test_a_number_may_not_be_claimed_twice_nor_claimed_and_excused() -> None:
    eggs = claim("30")
    assert account("30 eggs", [eggs, replace(eggs, id="again")], []) != []
    assert account("30 eggs", [eggs], [NoClaim(reason="a joke")]) != []
    assert account("30 eggs", [], [NoClaim(reason="a joke"), NoClaim(reason="another")]) == []


def test_a_claim_that_is_not_printed_is_reported() -> None:
    assert account("30 eggs", [claim("31")], [NoClaim(reason="a joke")]) == [
        "line 1: L001.network.forward.flops is not printed there"
    ]
    assert account("30 eggs", [claim("30", line=2)], [NoClaim(reason="a joke")]) != []


@pytest.mark.parametrize(
    ("printed", "line", "found"),
    [
        ("0", "1.0 MB and 10 or 0,5 or (0, 0)", [25, 28]),
        ("4 MB", "0.4 MB, 4 MBit, 4 MB.", [16]),
        ("32", "32 of 32,768 in C32", [0]),
        ("98.1%", "98.1%", [0]),
        ("(10,)", "(10,) and (10, 2)", [0]),
    ],
)
def test_figures_are_found_whole(printed: str, line: str, found: list[int]) -> None:
    assert places(printed, line) == found


def test_a_cell_is_found_in_its_column_only() -> None:
    row = "| a2 | 7 | 7 |"
    assert place(claim("7", cell=2), row) == range(7, 8)
    assert place(claim("7", cell=3, occurrence=2), row) == range(11, 12)
    assert place(claim("7", cell=3), row) is None
    assert place(claim("7", cell=9), row) is None
    assert place(claim("7"), row) is None
    assert place(claim("7", cell=2), "7 of 7") is None


@pytest.mark.parametrize(
    ("latex", "plain"),
    [
        (r"$(\textcolor{red}{32}, \textcolor{blue}{3})$", "(32, 3)"),
        (r"$2 \times 3 \approx \textbf{6.0 MFLOPs}$", "2 × 3 ≈ 6.0 MFLOPs"),
        (r"$\approx 0.3$ MFLOPs", "≈ 0.3 MFLOPs"),
        (r"\frac{1}{H \times W}", "1/(H × W)"),
        (r"\left\lfloor \frac{31}{1} \right\rfloor", "⌊ 31/1 ⌋"),
        (r"\frac{\partial \mathcal{L}}{\partial y}", "∂L/∂y"),
        ("**12 bytes** (1 KB)", "12 bytes (1 KB)"),
    ],
)
def test_lines_are_rendered_as_a_reader_sees_them(latex: str, plain: str) -> None:
    assert rendered(latex) == plain


@pytest.mark.parametrize(
    ("line", "sides"),
    [
        ("FLOPs = 2 × 3 × (2 × 5) = 60 ≈ 0.1 K", [(60, 60)]),
        ("1,000 + 24 = 1,024 bytes = 1 KB", [(1024, 1024)]),
        ("2 × 3 = 7", [(6, 7)]),
        ("N × 3 = 12 and ⌊ 31/2 ⌋ + 1 = 16", []),
        ("(64, 3) = 192", []),
    ],
)
def test_equations_are_read(line: str, sides: list[tuple[int, int]]) -> None:
    assert list(equations(line)) == sides
