"""Modules as people write them: shared, renamed, recursive, never called, with inputs and outputs of every kind."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import torchtally

from .running import Calling, flops, places, step

N, I, H, O = 4, 6, 10, 3  # noqa: E741
FLOAT = 4


def mlp() -> nn.Sequential:
    return nn.Sequential(OrderedDict(up=nn.Linear(I, H), act=nn.ReLU(), down=nn.Linear(H, O)))


def test_a_small_network_by_hand() -> None:
    run = step(mlp(), torch.ones(N, I))
    assert flops(run, "forward") == {"up": 2 * N * I * H, "act": N * H, "down": 2 * N * H * O}
    assert flops(run, "backward") == {
        "up": 2 * N * I * H + N * H,  # weight and bias; the input needs no gradient
        "act": N * H,
        "down": 2 * (2 * N * H * O) + N * O,  # weight, input and bias
    }
    assert run.totals["parameters"] == I * H + H + H * O + O
    assert run.totals["activation_bytes"] == FLOAT * N * (H + H + O)
    assert run.totals["gradient_bytes"] == FLOAT * N * (H + H)
    assert run.totals["parameter_gradient_bytes"] == FLOAT * run.totals["parameters"]


def test_an_input_that_needs_a_gradient() -> None:
    run = step(mlp(), torch.ones(N, I, requires_grad=True))
    assert run.ledger.row("up", "backward").matmul_flops == 2 * (2 * N * I * H)
    assert run.ledger.row("up", "backward").input_shape == (N, I)
    assert run.ledger.row("up", "backward").gradient_bytes == FLOAT * N * I


# One module, several calls --------------------------------------------------------------------------------------------


def test_a_module_called_twice_has_one_row() -> None:
    model = Calling(lambda m, x: m.layer(m.layer(x)), layer=nn.Linear(I, I))
    run = step(model, torch.ones(N, I))
    forward, backward = run.ledger.row("layer"), run.ledger.row("layer", "backward")
    once = 2 * N * I * I
    assert (forward.calls, forward.flops) == (2, 2 * once)
    assert (forward.parameters, run.totals["parameters"]) == (I * I + I, I * I + I)
    assert forward.activation_bytes == 2 * FLOAT * N * I
    assert backward.matmul_flops == 3 * once, "the first call's input needs no gradient"
    assert backward.flops == 3 * once + 2 * N * I
    assert backward.gradient_bytes == FLOAT * N * I
    assert backward.parameter_gradient_bytes == FLOAT * (I * I + I)
    assert run.totals["accumulation_flops"] == I * I + I, "the two calls' gradients of weight and bias are added"


def test_a_shared_module_on_two_shapes() -> None:
    model = Calling(lambda m, x, y: (m.layer(x), m.layer(y)), layer=nn.Linear(I, O))
    run = step(model, torch.ones(N, I), torch.ones(7, 2, I))
    assert run.ledger.row("layer").flops == 2 * (N + 14) * I * O
    assert run.ledger.row("layer").calls == 2
    assert run.ledger.row("layer").input_shape == (N, I), "of the first kind of call"
    assert run.ledger.row("layer", "backward").flops == 2 * (N + 14) * I * O + (N + 14) * O
    assert run.ledger.row("layer", "backward").output_shape == (N, O), "of the same call as forward"


def test_a_module_under_two_names_has_the_first() -> None:
    layer = nn.Linear(I, I)
    model = Calling(lambda m, x: m.second(m.first(x)), first=layer, second=layer)
    run = step(model, torch.ones(N, I))
    assert [row.path for row in run.ledger.rows if row.phase == "forward"] == ["", "first"]
    assert run.ledger.row("first").calls == 2
    assert run.totals["parameters"] == I * I + I


def test_a_module_that_calls_itself() -> None:
    def forward(model: nn.Module, x: Tensor, depth: int) -> Tensor:
        return x if depth == 0 else model(model.layer(x), depth - 1) * 2.0

    run = step(Calling(forward, layer=nn.Linear(I, I)), torch.ones(N, I), 3)
    assert run.ledger.row("").calls == 4
    assert run.ledger.row("layer").calls == 3
    assert run.ledger.row("").flops == 3 * N * I
    assert run.ledger.row("layer").flops == 3 * 2 * N * I * I
    assert run.ledger.row("", "backward").flops == 3 * N * I


def test_a_module_that_is_never_called() -> None:
    model = Calling(lambda m, x: m.used(x), used=nn.Linear(I, O), idle=nn.Linear(I, H))
    run = step(model, torch.ones(N, I))
    row = run.ledger.row("idle")
    assert (row.calls, row.parameters) == (0, I * H + H)
    assert row.flops is row.matmul_flops is row.activation_bytes is row.output_shape is None
    assert "idle" not in places(run, "backward")
    assert run.totals["parameters"] == I * H + H + I * O + O


def test_a_module_called_through_forward_works_for_its_caller() -> None:
    model = Calling(lambda m, x: m.layer.forward(x), layer=nn.Linear(I, O))
    run = step(model, torch.ones(N, I))
    assert flops(run, "forward") == {"": 2 * N * I * O}
    assert flops(run, "backward") == {"": 2 * N * I * O + N * O}
    assert run.ledger.row("layer").calls == 0
    assert run.ledger.row("layer").parameters == I * O + O


def test_a_part_of_the_model_called_on_its_own() -> None:
    model = mlp()
    with torchtally.profile(model) as run:
        model.down(torch.ones(N, H))
    assert flops(run, "forward") == {"down": 2 * N * H * O}
    assert run.ledger.row("").calls == 0


def test_lists_and_dicts_of_modules() -> None:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        for layer in model.layers:
            x = layer(x)
        return model.heads["b"](x)

    layers = nn.ModuleList(nn.Linear(I, I) for _ in range(3))
    heads = nn.ModuleDict({"a": nn.Linear(I, O), "b": nn.Linear(I, H)})
    run = step(Calling(forward, layers=layers, heads=heads), torch.ones(N, I))
    assert flops(run, "forward") == {f"layers.{k}": 2 * N * I * I for k in range(3)} | {"heads.b": 2 * N * I * H}
    assert run.ledger.row("heads.a").calls == 0


def test_a_list_of_parameters() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.ParameterList(torch.ones(I, O) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weights[0] + x @ self.weights[1]

    run = step(Sums(), torch.ones(N, I))
    assert flops(run, "forward") == {"": 2 * (2 * N * I * O) + N * O}
    assert flops(run, "backward") == {"": 2 * (2 * N * I * O)}
    assert run.ledger.row("weights").parameters == run.totals["parameters"] == 2 * I * O
    assert run.ledger.row("weights", "backward").parameter_gradient_bytes == 2 * FLOAT * I * O


def test_subclasses_and_parametrizations_are_watched_like_any_module() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2.0

    run = step(Calling(lambda m, x: m.layer(x), layer=Scaled(I, O)), torch.ones(N, I))
    assert run.ledger.row("layer").type == "Scaled"
    assert run.ledger.row("layer").flops == 2 * N * I * O + N * O
    assert "layer" not in run.layers, "its forward is its own, so nn.Linear's closed form is not its"


# Work that no submodule does ------------------------------------------------------------------------------------------


def test_functional_operations_belong_to_the_module_that_runs_them() -> None:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        h = functional.relu(functional.linear(x, model.layer.weight))
        return torch.einsum("nh,mh->nm", h, h) @ torch.ones(N, O)

    run = step(Calling(forward, layer=nn.Linear(I, H, bias=False)), torch.ones(N, I))
    products = 2 * N * I * H + 2 * N * H * N + 2 * N * N * O
    assert run.ledger.row("").matmul_flops == products
    assert run.ledger.row("").flops == products + N * H
    assert run.ledger.row("layer").calls == 0
    assert run.totals["backward_matmul_flops"] == 2 * N * I * H + 2 * (2 * N * H * N) + 2 * N * N * O


def test_a_residual_addition_belongs_to_the_module_running() -> None:
    block = Calling(lambda m, x: x + m.inner(x), inner=nn.Linear(I, I))
    model = Calling(lambda m, x: m.block(m.stem(x)), stem=nn.Linear(I, I), block=block)
    run = step(model, torch.ones(N, I))
    assert run.ledger.row("block").flops == N * I
    assert run.ledger.row("block.inner").flops == 2 * N * I * I
    assert run.ledger.row("block", "backward").flops == 0, "an addition passes its gradient on"
    assert run.ledger.row("block", "backward").input_shape is None, "`inner` was given the input, and has its gradient"


def test_gradients_that_meet_are_sums_of_their_own() -> None:
    """Three uses of one activation: two additions of its gradients, in no module's backward FLOPs."""
    model = Calling(
        lambda m, x: [m.a(h := m.stem(x)), m.b(h), m.c(h)],
        stem=nn.Linear(I, H),
        a=nn.Linear(H, O),
        b=nn.Linear(H, O),
        c=nn.Linear(H, O),
    )
    run = step(model, torch.ones(N, I))
    each = 2 * (2 * N * H * O) + N * O
    assert run.totals["accumulation_flops"] == 2 * N * H
    assert flops(run, "backward") == {"stem": 2 * N * I * H + N * H, "a": each, "b": each, "c": each}


def test_operations_between_modules_of_a_sequential_are_nobodys_but_the_roots() -> None:
    model = Calling(lambda m, x: m.b(m.a(x).tanh()), a=nn.Linear(I, H), b=nn.Linear(H, O))
    run = step(model, torch.ones(N, I))
    assert run.ledger.row("").flops == N * H
    assert run.ledger.row("", "backward").flops == N * H
    assert run.ledger.row("").activation_bytes == 0, "what it returns, `b` had made"


# Inputs and outputs of every kind -------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "left right")


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor | None = None


@pytest.mark.parametrize(
    ("call", "shapes_in"),
    [
        (lambda layer, x: layer(x), (N, I)),
        (lambda layer, x: layer(input=x), (N, I)),
    ],
)
def test_keyword_inputs(call: Any, shapes_in: tuple[int, ...]) -> None:
    model = Calling(lambda m, x: call(m.layer, m.stem(x)), stem=nn.Linear(I, I), layer=nn.Linear(I, O))
    run = step(model, torch.ones(N, I))
    assert run.ledger.row("layer").input_shape == shapes_in
    assert run.ledger.row("layer", "backward").input_shape == shapes_in
    assert run.ledger.row("layer", "backward").gradient_bytes == FLOAT * N * I


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: ((x,), {}),
        lambda x: ((), {"x": x}),
        lambda x: (([x],), {}),
        lambda x: (({"a": {"b": (x,)}},), {}),
        lambda x: ((Output(x),), {}),
        lambda x: ((None, x), {"flag": None}),
        lambda x: ((Pair("left", x), 3), {"name": "x"}),
    ],
    ids=["positional", "keyword", "list", "nested dict", "dataclass", "beside None", "namedtuple"],
)
def test_the_input_is_found_wherever_it_is(wrap: Any) -> None:
    def find(value: Any) -> Tensor | None:
        if isinstance(value, Tensor):
            return value
        items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        items = vars(value).values() if isinstance(value, Output) else items
        return next((found for item in items if (found := find(item)) is not None), None)

    inner = Calling(lambda m, *args, **kwargs: find([args, kwargs]) * 2.0)
    args, kwargs = wrap(torch.ones(N, I, requires_grad=True))
    run = step(Calling(lambda m, *a, **k: m.inner(*a, **k), inner=inner), *args, **kwargs)
    assert run.ledger.row("inner").input_shape == (N, I)
    assert run.ledger.row("inner", "backward").input_shape == (N, I)
    assert run.ledger.row("inner", "backward").gradient_bytes == FLOAT * N * I
    assert run.totals["gradient_bytes"] == FLOAT * N * I, "the outer module passes it on, and has none of its own"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a, b: (a, b),
        lambda a, b: [a, [b]],
        lambda a, b: {"a": a, "b": {"c": b}},
        lambda a, b: Output(a, b),
        lambda a, b: Pair(a, b),
        lambda a, b: (None, a, "word", b, 3),
    ],
    ids=["tuple", "nested list", "nested dict", "dataclass", "namedtuple", "beside others"],
)
def test_outputs_of_every_kind(wrap: Any) -> None:
    model = Calling(lambda m, x: wrap(m.a(x) * 2.0, m.b(x) * 2.0), a=nn.Linear(I, O), b=nn.Linear(I, H))
    run = step(model, torch.ones(N, I))
    row = run.ledger.row("")
    assert row.output_shape == (N, O)
    assert row.activation_bytes == FLOAT * N * (O + H)
    assert run.ledger.row("", "backward").output_shape == (N, O)
    assert run.totals["activation_bytes"] == 2 * FLOAT * N * (O + H)


def test_outputs_passed_on_are_counted_where_they_were_made() -> None:
    model = Calling(lambda m, x: (m.a(x), m.a.weight, x), a=nn.Linear(I, O))
    run = step(model, torch.ones(N, I))
    assert run.ledger.row("a").activation_bytes == FLOAT * N * O


def test_no_inputs_and_no_outputs() -> None:
    model = Calling(lambda m: m.quiet(), quiet=Calling(lambda m: None))
    with torchtally.profile(model) as run:
        assert model() is None
    row = run.ledger.row("quiet")
    assert (row.calls, row.input_shape, row.output_shape, row.activation_bytes) == (1, None, None, 0)


def test_an_unused_output_gets_no_gradient() -> None:
    model = Calling(lambda m, x: (m.used(x), m.spare(x)), used=nn.Linear(I, O), spare=nn.Linear(I, H))
    with torchtally.profile(model) as run:
        model(torch.ones(N, I))[0].sum().backward()
    assert places(run, "backward") == ["", "used"]
    assert run.totals["backward_flops"] == 2 * N * I * O + N * O


def test_an_in_place_module_on_an_input_that_is_used_again() -> None:
    model = Calling(lambda m, x: m.act(m.up(x)), up=nn.Linear(I, H), act=nn.ReLU(inplace=True))
    run = step(model, torch.ones(N, I))
    row = run.ledger.row("act", "backward")
    assert (row.input_shape, row.output_shape, row.gradient_bytes) == ((N, H), (N, H), FLOAT * N * H)
    assert row.flops == N * H
    assert run.ledger.row("act").activation_bytes == FLOAT * N * H, "aliased outputs count, as the convention has it"


def test_a_scalar_and_an_empty_tensor() -> None:
    run = step(Calling(lambda m, x: m.layer(x).sum(), layer=nn.Linear(I, O)), torch.ones(0, I))
    assert run.ledger.row("").output_shape == ()
    assert run.ledger.row("layer").flops == 0
    assert run.ledger.row("layer").input_shape == (0, I)


class AddsInPlace(nn.Module):
    """Gives what its layer gave, with something written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        y += x
        return y


class AddsAnew(AddsInPlace):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(("kind", "own"), [(AddsInPlace, 0), (AddsAnew, 1)])
def test_what_is_written_in_place_is_no_tensor_of_its_own(
    kind: type[nn.Module], own: int, mode: Callable[[], AbstractContextManager[None]]
) -> None:
    """A sum in place makes no tensor: the layer's is the only one, in whatever mode."""
    model = kind()
    with torchtally.profile(model) as run, mode():
        for _ in range(3):  # an identity is used again as soon as its tensor has died
            model(torch.ones(2, 3))
    assert {call.path: len(call.own_outputs) for call in run.trace.calls} == {"layer": 1, "": own}
    assert run.totals["activation_bytes"] == 3 * (1 + own) * 2 * 3 * 4


class KeepsSome(nn.Module):
    """Calls its layer often; gives the first result, one of the others, and a tensor of its own. Most results die."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        kept = [self.layer(x)]
        for number in range(300):
            result = self.layer(kept[-1] if number % 3 else x)
            if number % 100 == 50:
                kept.append(result)
        kept[1] += 1
        return [kept[0], kept[2] * 2, kept[1]]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_of_many_results_those_that_live_are_known(mode: Callable[[], AbstractContextManager[None]]) -> None:
    model = KeepsSome()
    with torchtally.profile(model) as run, mode():
        for _ in range(3):
            model(torch.ones(2, 3))
    assert {call.path: len(call.own_outputs) for call in run.trace.calls} == {"layer": 1, "": 1}


def test_results_are_not_kept_alive() -> None:
    """Nor is much kept of those that died."""
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(400)))
    alive, sizes = [], []

    def note(*_: object) -> None:
        given = run._calls.stack[0].given
        if given is not None:
            alive.append(sum(reference() is not None for reference in given._recent))
            sizes.append(len(given._recent) + len(given._older))

    handle = model[-1].register_forward_pre_hook(note)
    with torchtally.profile(model) as run, torch.no_grad():
        model(torch.ones(2, 3))
    handle.remove()
    assert alive == [1]
    assert max(sizes) <= 3 * 64
