"""Memory as moments to draw: no peak is lost, and categories add up to what is live."""

from __future__ import annotations

import random

import pytest

from torchtally.profiler.memory import Memory
from torchtally.profiler.report.html.alignment import positions, visits
from torchtally.profiler.report.html.moments import memory_view, thinned
from torchtally.theory.phase import Phase
from torchtally.theory.stream import Block, Category, Event, Stream


def stream(*events: tuple[int, str, Phase, Category]) -> Stream:
    """Blocks of those bytes, opened; a negative number closes the block of as many bytes that was opened last."""
    blocks, found = list[Block](), list[Event]()
    open_now: dict[int, int] = {}
    for size, path, phase, category in events:
        if size > 0:
            open_now[size] = len(blocks)
            blocks.append(Block(size, category, path, phase, "aten.op"))
        found.append(Event(open_now[abs(size)], size > 0, path, phase))
    return Stream(blocks=tuple(blocks), before=(), events=tuple(found))


STEP = stream(
    (100, "a", "forward", "saved"),
    (20, "a", "forward", "workspace"),
    (-20, "a", "forward", "workspace"),
    (7, "b", "forward", "activations"),
    (-100, "a", "backward", "saved"),
)


def test_each_moment_has_its_event_and_its_bytes() -> None:
    view = memory_view(Memory(stream=STEP))
    assert view["moments"] == [0, 1, 2, 3, 4, 5]
    assert view["live"] == {
        "activations": [0, 0, 0, 0, 7, 7],
        "saved": [0, 100, 100, 100, 100, 0],
        "workspace": [0, 0, 20, 0, 0, 0],
    }
    assert view["changes"] == [0, 100, 20, -20, 7, -100]
    paths = [None if cell is None else view["paths"]["words"][cell] for cell in view["paths"]["cells"]]
    assert paths == [None, "a", "a", "a", "b", "a"]


def test_the_peak_and_its_bill() -> None:
    view = memory_view(Memory(stream=STEP))
    assert (view["peak"]["bytes"], view["peak"]["moment"]) == (120, 2)
    assert (view["peak"]["path"], view["peak"]["phase"], view["peak"]["operator"]) == ("a", "forward", "aten.op")
    assert view["peak"]["categories"] == {"saved": 100, "workspace": 20}
    assert view["bill"]["columns"][2]["cells"] == [100, 20]


def test_the_most_without_workspaces_is_a_moment_of_its_own() -> None:
    # With its 20 bytes of workspace the second moment has the most, 120; without, the fourth: 100 + 7.
    assert memory_view(Memory(stream=STEP))["peak"]["framework_bytes"] == 100 + 7


def test_what_was_there_before_is_in_the_first_moment() -> None:
    blocks = (Block(50, "parameters", "a", "outside"),)
    view = memory_view(Memory(stream=Stream(blocks=blocks, before=(0,), events=())))
    assert view["moments"] == [0]
    assert view["live"] == {"parameters": [50]}
    assert view["peak"]["moment"] == 0


def test_a_short_curve_is_not_thinned() -> None:
    assert thinned([3, 1, 2], most=3) == [0, 1, 2]


@pytest.mark.parametrize("length", [11, 100, 9_999])
def test_thinning_keeps_ends_peak_and_each_stretch(length: int) -> None:
    draw = random.Random(length)
    live = [draw.randrange(10**6) for _ in range(length)]
    kept = thinned(live, most=10)
    assert kept == sorted(set(kept))
    assert len(kept) <= 10 + 3
    assert {0, length - 1, max(range(length), key=live.__getitem__)} <= set(kept)
    for stretch in range(5):
        places = range(stretch * length // 5, (stretch + 1) * length // 5)
        highest, lowest = max(live[place] for place in places), min(live[place] for place in places)
        assert {highest, lowest} <= {live[place] for place in kept if place in places}


def test_thinned_moments_have_the_bytes_of_the_timeline() -> None:
    draw = random.Random(5)
    sizes = [draw.randrange(1, 1000) * 7919 + number for number in range(4_000)]
    memory = Memory(stream=stream(*((size, f"m{size % 9}", "forward", "saved") for size in sizes)))
    view = memory_view(memory)
    live = [0, *memory.timeline["live_bytes"]]
    assert len(view["moments"]) < 4_000
    assert view["live"]["saved"] == [live[moment] for moment in view["moments"]]


# One step along another -----------------------------------------------------------------------------------------------


def test_a_step_along_itself_stays_where_it_is() -> None:
    assert positions(STEP.events, STEP.events) == [0, 1, 2, 3, 4, 5]


def test_visits_are_where_a_layer_is_come_to() -> None:
    assert visits(STEP.events) == {("a", "forward", 0): 0, ("b", "forward", 0): 3, ("a", "backward", 0): 4}


def test_layers_stand_together_where_one_step_has_more_events() -> None:
    without = stream(
        (100, "a", "forward", "saved"),
        (7, "b", "forward", "activations"),
        (-100, "a", "backward", "saved"),
    )
    # `a` takes one event here and three there, so `b` begins after 1 here and after 3 there.
    assert positions(without.events, STEP.events) == [0, 3, 4, 5]


def test_layers_in_another_order_do_not_go_back() -> None:
    one = stream(*((size, path, "forward", "saved") for size, path in ((1, "a"), (2, "b"), (3, "c"), (4, "d"))))
    other = stream(*((size, path, "forward", "saved") for size, path in ((1, "a"), (2, "c"), (3, "b"), (4, "d"))))
    found = positions(one.events, other.events)
    assert found == sorted(found)
    assert (found[0], found[3], found[4]) == (0, 3, 4)


def test_steps_with_nothing_in_common_are_spread_evenly() -> None:
    one = stream((1, "a", "forward", "saved"), (2, "a", "forward", "saved"))
    other = stream(*((size, "b", "forward", "saved") for size in (1, 2, 3, 4)))
    assert positions(one.events, other.events) == [0, 2, 4]


def test_the_other_runs_outline_lies_along_this_one() -> None:
    less = stream((100, "a", "forward", "saved"), (7, "b", "forward", "activations"))
    outline = memory_view(Memory(stream=STEP), Memory(stream=less))["beside"]
    # Two visits in common: `a` at the start of both, and `b` after 1 event there and after 3 here.
    assert outline["moments"] == [0, 3, 5]
    assert outline["live"] == [0, 100, 107]
    assert (outline["peak"]["bytes"], outline["peak"]["moment"]) == (107, 5)
