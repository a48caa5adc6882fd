"""Where the hot path has a short way, it says what the long way says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.profiler.running import Calling, seeded, step
from torch import Tensor, nn

import torchtally
from torchtally.profiler.capture.attribution import BEFORE, SequenceTable
from torchtally.profiler.capture.expected import INPUT, OUTPUT, PASSED, ExpectedGradients, of_recipient
from torchtally.profiler.capture.modules import CallRecorder
from torchtally.profiler.capture.signatures import Operator

KINDS: list[Callable[[], nn.Module]] = [
    lambda: seeded(nn.Linear, 6, 6),
    nn.ReLU,
    lambda: nn.LayerNorm(6),
    lambda: nn.Softmax(dim=1),
    lambda: nn.Sequential(seeded(nn.Linear, 6, 6), nn.ReLU()),
]


def by_position(self: nn.Module, x: Tensor) -> Tensor:
    return self.last(self.watched(self.first(x)))


def by_keyword(self: nn.Module, x: Tensor) -> Tensor:
    """A tensor given by keyword goes the long way."""
    return self.last(self.watched(input=self.first(x)))


def as_a_tuple(self: nn.Module, x: Tensor) -> Tensor:
    return self.last(self.watched(self.first(x))[0])


class Wrapped(nn.Module):
    """Gives what the module gives in a tuple, which goes the long way."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.module.forward(x),)


def calling(forward: Callable[[nn.Module, Tensor], Tensor], watched: nn.Module) -> nn.Module:
    return Calling(forward, first=seeded(nn.Linear, 4, 6), watched=watched, last=seeded(nn.Linear, 6, 2))


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The long ways that are taken, in order."""
    taken: list[str] = []
    for name in ("_note_inputs", "_finish"):
        monkeypatch.setattr(CallRecorder, name, noting(name, taken))
    return taken


def noting(name: str, taken: list[str]) -> Callable[..., None]:
    way = getattr(CallRecorder, name)

    def noted(self: CallRecorder, *args: object) -> None:
        taken.append(name)
        way(self, *args)

    return noted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grad", [True, False])
def test_one_tensor_given(kind: Callable[[], nn.Module], grad: bool, long_ways: list[str]) -> None:
    x = torch.ones(3, 4)
    with torch.set_grad_enabled(grad):
        short = step(calling(by_position, kind()), x, backward=grad).trace
        taken = len(long_ways)
        long = step(calling(by_keyword, kind()), x, backward=grad).trace
    assert short.calls == long.calls
    assert sorted(map(repr, short.gradients)) == sorted(map(repr, long.gradients))
    assert bool(short.gradients) == grad
    assert len(long_ways) - taken > taken if grad else taken


def test_one_tensor_returned() -> None:
    x = torch.ones(3, 4)
    linear = seeded(nn.Linear, 6, 6)
    short = step(calling(by_position, linear), x).trace
    long = step(calling(as_a_tuple, Wrapped(linear)), x).trace
    assert [call for call in short.calls if call.path == "watched"] == [
        call for call in long.calls if call.path == "watched"
    ]
    of = [fact for fact in short.gradients if fact.path == "watched" and fact.of != "parameter"]
    assert {fact.of for fact in of} == {"input", "output"}
    assert of == [fact for fact in long.gradients if fact.path == "watched" and fact.of != "parameter"]


def test_both_ways_are_one_call() -> None:
    def both(self: nn.Module, x: Tensor) -> Tensor:
        return self.last(self.watched(input=self.watched(self.first(x))))

    calls = step(calling(both, seeded(nn.Linear, 6, 6)), torch.ones(3, 4)).trace.calls
    assert [call.times for call in calls if call.path == "watched"] == [2]


def test_one_tensor_of_a_module_that_calls_none_goes_no_long_way(long_ways: list[str]) -> None:
    step(nn.Sequential(seeded(nn.Linear, 4, 6), nn.ReLU()), torch.ones(3, 4))
    assert long_ways == ["_finish"]  # what the model gives is its last layer's


def test_calls_that_are_summed_up_on_the_way_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    def often(self: nn.Module, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(7):
            x = self.watched(x)
        return self.last(x)

    whole = step(calling(often, seeded(nn.Linear, 6, 6)), torch.ones(3, 4)).trace
    for module in ("calls", "modules"):
        monkeypatch.setattr(f"torchtally.profiler.capture.{module}.LIMIT", 2)
    assert step(calling(often, seeded(nn.Linear, 6, 6)), torch.ones(3, 4)).trace.calls == whole.calls
    assert [call.times for call in whole.calls if call.path == "watched"] == [7]


@pytest.mark.parametrize("entries", [[], [(0, 7)], [(3, 0), (3, 1), (5, 2), (9, 0), (10, 1)]])
def test_owners_of_many_numbers(entries: list[tuple[int, int]]) -> None:
    table = SequenceTable()
    for number, owner in entries:
        table.push(number, owner)
    for numbers in (range(14), range(4, 14, 3), [2], [20]):
        assert table.owners(numbers) == {number: table.owner(number) for number in numbers}
    assert table.owners([0]) == {0: 7 if entries[:1] == [(0, 7)] else BEFORE}


def test_several_wait_at_one_place() -> None:
    expected = ExpectedGradients()
    waiting = [(0, OUTPUT, 0), (2**40, INPUT, 3), (1, PASSED, 4095), (5, INPUT, 0)]
    for call, kind, position in waiting:
        expected.add(17, call, position, kind)
    assert sorted(map(of_recipient, expected.expected_at(17))) == sorted(waiting)
    assert list(expected.expected_at(18)) == []


def test_who_is_listed_and_not_served_waits_for_a_later_pass() -> None:
    expected = ExpectedGradients()
    expected.add_call(0, {}, [(0, 17)])
    expected.add_call(1, {17: 2}, [(0, 18)])
    for places in ([18], [17], [17, 18]):
        expected.arrive(dict.fromkeys(places, 9), {9: 5}, lambda call: 5, kept=False)
    assert {of_recipient(each): times for each, times in expected.arrived.items()} == {
        (1, OUTPUT, 0): 1,
        (0, OUTPUT, 0): 1,
        (1, INPUT, 2): 1,
    }


def test_an_input_handed_on_is_no_gradient_of_its_own() -> None:
    expected = ExpectedGradients()
    expected.add_call(0, {17: 1, 18: 2}, [(3, 17)])
    assert sorted(map(of_recipient, expected.expected_at(17))) == [(0, OUTPUT, 3), (0, PASSED, 1)]
    assert list(map(of_recipient, expected.expected_at(18))) == [(0, INPUT, 2)]


def test_tallies_that_are_summed_up_on_the_way_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self: nn.Module, x: Tensor) -> Tensor:
        return self.last(self.watched(self.watched(self.first(x))))

    whole = step(calling(twice, seeded(nn.Linear, 6, 6)), torch.ones(3, 4)).trace
    monkeypatch.setattr("torchtally.profiler.capture.operators.LIMIT", 1)
    assert step(calling(twice, seeded(nn.Linear, 6, 6)), torch.ones(3, 4)).trace.operators == whole.operators
    assert {fact.times for fact in whole.operators if fact.path == "watched"} > {1}


def test_an_operator_runs_without_its_python_part_only_where_that_does_nothing() -> None:
    with torch.library._scoped_library("torchtally_test_short", "FRAGMENT"):
        custom = torch.library.custom_op(
            "torchtally_test_short::double", lambda x: x * 2, mutates_args=(), schema="(Tensor x) -> Tensor"
        )
        own = Operator(torch.ops.torchtally_test_short.double.default, "double", free=False, sums=False)
        assert own.run is torch.ops.torchtally_test_short.double.default
        assert custom(torch.ones(2)).tolist() == [2, 2]
    product = Operator(torch.ops.aten.mm.default, "aten.mm.default", free=False, sums=False)
    assert product.run is not torch.ops.aten.mm.default
    assert product.run(torch.eye(2), torch.ones(2, 1)).tolist() == [[1], [1]]


def test_composite_operators_are_known() -> None:
    def composite(operator: object) -> bool:
        return Operator(operator, str(operator), free=False, sums=False).composite

    assert composite(torch.ops.aten.linear.default)
    assert not composite(torch.ops.aten.mm.default)
    assert not composite(torch.ops.prim.device.default)  # which the dispatcher does not have


@pytest.mark.parametrize("model", [nn.Linear(4, 6), Wrapped(nn.Linear(4, 6))])
def test_graphs_that_never_run_backward_leave_little_behind(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither way of listing what is expected grows with the number of steps."""
    monkeypatch.setattr("torchtally.profiler.capture.expected.LIMIT", 64)
    with torchtally.profile(model) as run:
        sizes = []
        for _ in range(200):
            model(torch.ones(3, 4))
            expected = run._expected
            sizes.append(len(expected._listed) + len(expected._waiting))
    assert max(sizes) <= 4 * 64


def test_a_graph_met_late_has_its_gradients_though_many_came_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchtally.profiler.capture.expected.LIMIT", 64)
    model = nn.Sequential(seeded(nn.Linear, 4, 6), nn.ReLU())
    with torchtally.profile(model) as run:
        first = model(torch.ones(3, 4))
        for _ in range(10):
            model(torch.ones(3, 4))
        first.sum().backward()
    assert {(fact.path, fact.of) for fact in run.trace.gradients if fact.of != "parameter"} == {
        ("", "output"),
        ("0", "output"),
        ("1", "input"),
        ("1", "output"),
    }
