"""Reading the account of one call, and laying it into a replayed step."""

from __future__ import annotations

from typing import Any

import pytest

from torchtally.profiler.capture.entries import Entry, Moment, Request, Span
from torchtally.profiler.capture.followed import Call, Closed, Followed
from torchtally.profiler.prediction.inside import Inside
from torchtally.profiler.prediction.isolated import read_account
from torchtally.profiler.prediction.merging import Merged

WORK: Any = (0, "forward")
FORM: Any = ("call", "aten.some.default", (), (), True)


def account(*entries: Entry) -> list[Entry]:
    """The entries, inside the range around the call."""
    around = Span("torchtally.call", -1, None)
    return [Moment("begins", around), *entries, Moment("ends", around)]


def test_blocks_numbers_and_results() -> None:
    operator = Span("aten::some", -1, None)
    entries = account(
        Request(10, 8, None),
        Moment("begins", operator),
        Request(20, 100, operator),
        Request(30, 64, operator),
        Request(20, -100, operator),
        Moment("ends", operator),
        Request(10, -8, None),
    )
    inside = read_account([Request(1, 5, None), *entries, Request(30, -64, None)], [30, 99])
    assert inside == Inside(sizes=(8, 100, 64), events=(1, 2, 3, -2, -1), results=(2, None), numbers=(0,))


def test_an_address_is_used_again() -> None:
    operator = Span("aten::some", -1, None)
    entries = account(
        Moment("begins", operator), Request(20, 100, operator), Request(20, -100, operator), Request(20, 64, operator)
    )
    assert read_account(entries, [20]) == Inside((100, 64), (1, -1, 2), (1,))


@pytest.mark.parametrize(
    "content",
    [
        {"sizes": [8], "events": [], "results": [], "numbers": [], "layouts": []},
        {"sizes": [8], "events": [1, -1, -1], "results": [], "numbers": [], "layouts": []},
        {"sizes": [8], "events": [1], "results": [1], "numbers": [], "layouts": []},
        {"sizes": [8], "events": [1, -2], "results": [0], "numbers": [], "layouts": []},
        {"sizes": [], "events": []},
    ],
)
def test_what_cannot_have_happened_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError)):
        Inside.read(content)


# Merged ---------------------------------------------------------------------------------------------------------------


def merged(log: list[Any], inside: Inside) -> list[tuple[int, str]]:
    stream = Merged([], log, {FORM: inside}).stream({}, ("layer",))
    return [(stream.signed(event), stream.blocks[event.block].category) for event in stream.events]


def test_workspace_goes_around_the_result_which_lives_on() -> None:
    result = Followed(64, WORK, "aten.some")
    call = Call(FORM, WORK, results=(result,))
    log = [call, Closed(result, WORK)]
    inside = Inside((100, 64), (1, 2, -1), (1,))
    assert merged(log, inside) == [(100, "workspace"), (64, "activations"), (-100, "workspace"), (-64, "activations")]


def test_the_real_size_of_a_result_counts() -> None:
    result = Followed(0, WORK, "aten.some")
    log = [Call(FORM, WORK, results=(result,)), Closed(result, WORK, node=5)]
    assert merged(log, Inside((512,), (1,), (0,))) == [(512, "saved"), (-512, "saved")]


def test_a_number_that_autograd_keeps_is_closed_when_it_lets_go() -> None:
    number, result = Followed(8, WORK), Followed(64, WORK, "aten.some")
    call = Call(FORM, WORK, results=(result,), kept_numbers=[number])
    inside = Inside((8, 4, 64), (1, 2, 3, -2, -1), (2,), numbers=(0,))
    log = [call, Closed(result, WORK), Closed(number, (0, "backward"), node=3)]
    assert [size for size, _ in merged(log, inside)] == [8, 4, 64, -4, -64, -8]


def test_a_number_that_was_kept_before_is_not_made_again() -> None:
    result = Followed(64, WORK, "aten.some")
    call = Call(FORM, WORK, results=(result,), makes_numbers=False)
    inside = Inside((8, 4, 64), (1, 2, 3, -2, -1), (2,), numbers=(0,))
    assert [size for size, _ in merged([call], inside)] == [4, 64, -4]


@pytest.mark.parametrize("inside", [Inside((64,), (1,), (None, 0)), Inside((64,), (1, -1), (None,))])
def test_results_elsewhere_leave_the_inside_out(inside: Inside) -> None:
    result = Followed(64, WORK, "aten.some")
    call = Call(FORM, WORK, results=(result,))
    found = Merged([], [call], {FORM: inside})
    assert found.strange == [call]
    assert found.stream({}, ("layer",)).live_bytes == (0, 64)


def test_what_a_library_keeps_is_no_result_of_later_calls() -> None:
    result = Followed(64, WORK, "aten.some")
    call = Call(FORM, WORK, results=(result,))
    assert [size for size, _ in merged([call], Inside((100, 64), (1, 2), (1,)))] == [100, 64, -100]
