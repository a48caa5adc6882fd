"""Scripts of operators, the heap they are played on, and who is refused."""

from __future__ import annotations

import pytest

from torchtally.theory.liveness.heap import Heap
from torchtally.theory.liveness.play import play
from torchtally.theory.liveness.script import Script, in_order, script
from torchtally.theory.stream import Category
from torchtally.theory.tensor import TensorSpec

TEN = TensorSpec((10,), "uint8")
TWENTY = TensorSpec((20,), "uint8")


def as_activations(_: str) -> Category:
    return "activations"


def played(line: Script | None, results: dict[str, TensorSpec]) -> list[tuple[int, str]]:
    heap = Heap()
    given = play(heap, "aten.op", results, line, as_activations)
    assert list(given) == list(results)
    stream = heap.stream()
    return [(stream.signed(event), stream.blocks[event.block].category) for event in stream.events]


def test_a_script_is_played_word_by_word() -> None:
    line = script("<number +source -source =output +more =also -more >number", number=8, source=3, more=4)
    assert played(line, {"output": TEN, "also": TWENTY}) == [
        (8, "temporaries"),
        (3, "workspace"),
        (-3, "workspace"),
        (10, "activations"),
        (4, "workspace"),
        (20, "activations"),
        (-4, "workspace"),
        (-8, "temporaries"),
    ]


def test_results_that_are_not_wanted_and_memory_of_no_bytes_are_left_out() -> None:
    assert played(script("+none =input =weight -none", none=0), {"weight": TEN}) == [(10, "activations")]


def test_the_order_is_the_scripts_and_without_one_the_results() -> None:
    results = {"input": TEN, "weight": TWENTY}
    assert played(script("=weight =input"), results) == [(20, "activations"), (10, "activations")]
    assert played(None, results) == played(in_order(results), results) == [(10, "activations"), (20, "activations")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("+a +a", "'a' is opened twice"),
        ("-a", "'a' is closed before it is open"),
        ("+a -a -a", "'a' is closed before it is open"),
        ("+a =output", "a left open"),
    ],
)
def test_scripts_that_cannot_be(line: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        script(line, a=1)


def test_memory_without_a_size_and_results_that_never_come() -> None:
    with pytest.raises(KeyError, match="a"):
        script("+a -a")
    with pytest.raises(ValueError, match=r"aten.op: =output does not give also"):
        played(script("=output"), {"output": TEN, "also": TEN})


def test_a_storage_lives_as_long_as_somebody_holds_it() -> None:
    heap = Heap()
    heap.find(5, "parameters", "fc")
    with heap.at("fc", "forward"):
        storage = heap.open(7, "activations", "aten.linear")
        heap.hold(storage)
        heap.drop(storage)
        assert heap.stream().live_bytes == (5, 12)
    heap.drop(storage)
    stream = heap.stream()
    assert stream.live_bytes == (5, 12, 5)
    assert [(event.path, event.phase) for event in stream.events] == [("fc", "forward"), ("", "outside")]
