"""Two accounts of a step are held to each other, and every kind of fault is found, in words."""

from __future__ import annotations

from dataclasses import replace

from torchtally.profiler.balance import balance
from torchtally.theory.cnn import cnn
from torchtally.theory.liveness import OneDNN, Step, step_stream
from torchtally.theory.optimizers import SGD
from torchtally.theory.stream import Block, Event, Stream
from torchtally.theory.tensor import TensorSpec

BLOCKS = (
    Block(100, "parameters", "fc", "outside"),
    Block(100, "parameter gradients", "fc", "outside"),
    Block(60, "saved", "fc", "forward", "aten.linear"),
    Block(30, "workspace", "fc", "forward", "aten.linear"),
    Block(60, "activations", "fc", "forward", "aten.linear"),
)


def opened(block: int, path: str = "fc") -> Event:
    return Event(block, True, path, "forward")


def closed(block: int, path: str = "fc") -> Event:
    return Event(block, False, path, "forward")


STREAM = Stream(
    BLOCKS, (0, 1), (closed(1), opened(3), opened(2), closed(3), opened(4), closed(2), closed(4))
)  # events: 0 a gradient dies; 1 and 3 workspace; 2 and 5 the saved block; 4 and 6 the other of its size


def events(*changed: Event) -> Stream:
    return replace(STREAM, events=changed)


def test_a_stream_balances_with_itself() -> None:
    result = balance(STREAM, STREAM)
    assert result.exact and result.framework_exact and result.labelled_alike
    assert (result.difference, result.framework_difference, result.label_difference) == ("", "", "")
    assert "!" not in result.table()


def test_blocks_are_known_by_their_story_and_not_by_their_place() -> None:
    order = (0, 1, 4, 2, 3)
    places = {old: new for new, old in enumerate(order)}
    other = Stream(
        tuple(BLOCKS[old] for old in order),
        (1, 0),
        tuple(replace(event, block=places[event.block]) for event in STREAM.events),
    )
    assert balance(STREAM, other).exact and balance(STREAM, other).labelled_alike


def test_one_byte() -> None:
    other = replace(STREAM, blocks=(*BLOCKS[:2], replace(BLOCKS[2], bytes=61), *BLOCKS[3:]))
    result = balance(STREAM, other)
    assert not result.exact and not result.framework_exact
    assert result.difference == (
        "event 2: theory +60 B saved (fc, forward, aten.linear); the run +61 B saved (fc, forward, aten.linear)"
    )
    assert "!     2" in result.table()


def test_two_events_the_other_way_round() -> None:
    result = balance(STREAM, events(closed(1), opened(2), opened(3), closed(3), opened(4), closed(2), closed(4)))
    assert result.difference.startswith("event 1: theory +30 B workspace")
    assert result.framework_exact, "which differ in when workspace was opened"


def test_another_block_of_the_same_size() -> None:
    """The bytes are the same all the way: only which block was closed differs."""
    result = balance(STREAM, events(*STREAM.events[:5], closed(4), closed(2)))
    assert result.theory.live_bytes == result.measured.live_bytes
    assert not result.exact and not result.framework_exact
    assert result.difference == (
        "event 5: theory -60 B saved of event 2 (fc, forward, aten.linear); "
        "the run -60 B activations of event 4 (fc, forward, aten.linear)"
    )


def test_a_free_that_is_missing() -> None:
    result = balance(STREAM, events(*STREAM.events[:-1]))
    assert result.difference == (
        "event 6: theory -60 B activations of event 4 (fc, forward, aten.linear); the run has ended"
    )
    assert not result.framework_exact
    assert balance(events(*STREAM.events[:-1]), STREAM).difference.startswith("event 6: theory has ended")


def test_what_was_there_before() -> None:
    result = balance(STREAM, replace(STREAM, blocks=(replace(BLOCKS[0], bytes=90), *BLOCKS[1:])))
    assert not result.exact and not result.framework_exact
    assert (
        result.difference
        == result.framework_difference
        == (
            "before the step: theory has 2 blocks of 200 B, the run 2 of 190 B; theory alone has 1 x 100 B, "
            "the run alone 1 x 90 B"
        )
    )


def test_other_workspace_leaves_the_framework_exact() -> None:
    other = replace(STREAM, blocks=(*BLOCKS[:3], replace(BLOCKS[3], bytes=999), *BLOCKS[4:]))
    result = balance(STREAM, other)
    assert not result.exact
    assert result.framework_exact and result.labelled_alike
    assert balance(STREAM, STREAM.without("workspace")).framework_exact


def test_workspace_that_outlives_its_operator() -> None:
    for other, says in (
        (events(closed(1), opened(3), opened(2), opened(4, "pool"), closed(3), closed(2), closed(4)), "event 3 (pool"),
        (events(closed(1), opened(3), opened(2), closed(3, "pool"), opened(4), closed(2), closed(4)), "event 3 (pool"),
        (events(closed(1), opened(3), opened(2), opened(4), closed(2), closed(4)), "the step ends with"),
    ):
        result = balance(STREAM, other)
        assert not result.framework_exact
        assert result.framework_difference.startswith("the run: ")
        assert says in result.framework_difference


def test_workspace_that_meets_another_operator() -> None:
    blocks = (*BLOCKS[:4], replace(BLOCKS[4], operator="aten.relu"))
    other = Stream(blocks, (0, 1), (closed(1), opened(3), opened(2), opened(4), closed(3), closed(2), closed(4)))
    assert "event 3 (fc, forward) finds" in balance(other, other).framework_difference


def test_labels_are_held_apart_from_facts() -> None:
    for changed in (
        replace(STREAM, blocks=(*BLOCKS[:2], replace(BLOCKS[2], category="activations"), *BLOCKS[3:])),
        replace(STREAM, events=(*STREAM.events[:-1], replace(STREAM.events[-1], path="pool"))),
        replace(STREAM, events=(*STREAM.events[:-1], replace(STREAM.events[-1], phase="loss"))),
    ):
        result = balance(STREAM, changed)
        assert result.exact and result.framework_exact
        assert not result.labelled_alike and result.label_difference.startswith("event ")
    before = balance(STREAM, replace(STREAM, blocks=(replace(BLOCKS[0], path="conv"), *BLOCKS[1:])))
    assert before.exact and not before.labelled_alike
    assert before.label_difference == (
        "before the step: theory has 1 x 100 B parameters of fc; the run 1 x 100 B parameters of conv"
    )


def test_every_event_of_a_real_sized_stream_counts() -> None:
    """A byte more in any block, and the streams are not the same."""
    theory = step_stream(cnn(), TensorSpec((2, 3, 32, 32)), Step(optimizer=SGD()), OneDNN())
    touched = sorted({event.block for event in theory.events})
    for block in touched:
        blocks = list(theory.blocks)
        blocks[block] = replace(blocks[block], bytes=blocks[block].bytes + 1)
        assert not balance(theory, replace(theory, blocks=tuple(blocks))).exact
