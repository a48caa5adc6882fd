"""A stream by hand: 100 B of weights; 40 B of input; a result of 60 B with 30 B of scratch; a gradient of 100 B."""

from __future__ import annotations

import pytest

from torchtally.theory.stream import Block, Event, Stream

WEIGHT = Block(100, "parameters", "fc", "outside")
IMAGE = Block(40, "input", "", "outside")
RESULT = Block(60, "saved", "fc", "forward", "aten.addmm")
SCRATCH = Block(30, "workspace", "fc", "forward", "aten.addmm")
GRADIENT = Block(100, "parameter gradients", "fc", "backward", "aten.mm")
BLOCKS = (WEIGHT, IMAGE, RESULT, SCRATCH, GRADIENT)


def opened(block: int, phase: str = "forward") -> Event:
    return Event(block, True, "fc", phase)  # type: ignore[arg-type]


def closed(block: int, phase: str = "forward") -> Event:
    return Event(block, False, "fc", phase)  # type: ignore[arg-type]


STREAM = Stream(
    blocks=BLOCKS,
    before=(0, 1),
    events=(opened(2), opened(3), closed(3), opened(4, "backward"), closed(2, "backward")),
)


def test_live_bytes_run_from_what_was_there_before() -> None:
    assert STREAM.live_bytes == (140, 200, 230, 200, 300, 240)
    assert (STREAM.peak_bytes, STREAM.peak_index) == (300, 4)


def test_the_bill_adds_up_at_every_moment() -> None:
    assert STREAM.bill() == {
        ("fc", "parameters"): 100,
        ("", "input"): 40,
        ("fc", "saved"): 60,
        ("fc", "parameter gradients"): 100,
    }
    for index, live in enumerate(STREAM.live_bytes):
        assert sum(STREAM.bill(index).values()) == live


def test_without_workspace_is_the_frameworks_part() -> None:
    framework = STREAM.without("workspace")
    assert framework.live_bytes == (140, 200, 300, 240)
    assert framework.without("workspace") == framework


def test_an_empty_stream_peaks_at_what_was_there() -> None:
    assert Stream(BLOCKS, (0,), ()).peak_bytes == 100
    assert Stream((), (), ()).peak_bytes == 0


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ((opened(2), opened(2)), "opens a block for the second time"),
        ((opened(0),), "second time"),
        ((closed(2),), "not open"),
        ((opened(2), closed(2), closed(2)), "not open"),
        ((opened(2), closed(2), opened(2)), "second time"),
        ((opened(5),), "of block 5, and there are 5"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(events: tuple[Event, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Stream(BLOCKS, (0, 1), events)
