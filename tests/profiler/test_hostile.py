"""Models that go their own ways: parametrized, hooked, rebuilt, recomputed, transformed. Counts are held to arithmetic.

Each case is a model and a step; figures are FLOPs of products, forward and backward. Closed forms agree in all of them,
or do not speak: no comparison may take a right count for a wrong one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import torchtally
from torchtally import Profile
from torchtally.profiler.errors import UsageError

from .running import Calling

N, C, H, WORDS = 3, 8, 6, 20
ONCE = 2 * N * C * C  # FLOPs of `square()` on N rows: forward, and for each of its two gradients

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True"),
]


@dataclass(frozen=True)
class Hostile:
    """A model, its step, and how many FLOPs of products are forward, backward and recomputed; None is not said."""

    name: str
    model: nn.Module
    step: Callable[[], Any]
    forward: int
    backward: int | None = None
    recomputed: int = 0


def square() -> nn.Linear:
    return nn.Linear(C, C, bias=False)


def two() -> nn.Sequential:
    return nn.Sequential(square(), square())


def x(*, grad: bool = False) -> Tensor:
    return torch.rand(N, C).requires_grad_(grad)


def trained(model: nn.Module, *args: Any) -> Callable[[], Any]:
    return lambda: model(*(args or (x(),))).sum().backward()


# Weights that are made anew at each call ------------------------------------------------------------------------------


class Symmetric(nn.Module):
    """The upper triangle, mirrored."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).T


def parametrized() -> Iterator[Hostile]:
    for name, norm in (("weight_norm", parametrizations.weight_norm), ("old weight_norm", nn.utils.weight_norm)):
        model = norm(square())
        yield Hostile(name, model, trained(model), ONCE, ONCE)
    # One step of the power iteration, W^T u and W v, then sigma = u . (W v); for backward, the outer product u v^T.
    for name, norm in (
        ("spectral_norm", parametrizations.spectral_norm),
        ("old spectral_norm", nn.utils.spectral_norm),
    ):
        model = norm(square())
        yield Hostile(name, model, trained(model), ONCE + 2 * (2 * C * C) + 2 * C * C + 2 * C)
    model = square()
    parametrize.register_parametrization(model, "weight", Symmetric())
    yield Hostile("own parametrization", model, trained(model), ONCE, ONCE)

    def cached() -> None:
        with parametrize.cached():
            (model(x()) + model(x())).sum().backward()

    yield Hostile("cached parametrization", model, cached, 2 * ONCE, 2 * ONCE)
    table, out = nn.Embedding(WORDS, C), nn.Linear(C, WORDS, bias=False)
    out.weight = table.weight
    tied, pair = nn.Sequential(table, out), 2 * N * C * WORDS
    yield Hostile("tied embedding", tied, trained(tied, torch.arange(N)), pair, 2 * pair)
    # Weights that another layer makes: a 3 x 3 convolution of 2 channels to 4, of 6 x 6 positions.
    made = nn.Linear(C, 4 * 2 * 9, bias=False)
    hyper = Calling(lambda self, x: F.conv2d(x, self.made(torch.rand(C)).view(4, 2, 3, 3)), made=made)
    work = 2 * C * 4 * 2 * 9 + 2 * N * 4 * 36 * 2 * 9
    yield Hostile("weights made by a layer", hyper, trained(hyper, torch.rand(N, 2, 8, 8)), work, work)


# Work done again ------------------------------------------------------------------------------------------------------


def recomputed() -> Iterator[Hostile]:
    for reentrant, again in ((True, 4), (False, 2)):
        # The older kind runs all three again, and the inner one once more. The newer stops when it has what it needs:
        # the input of the last one, before that has run; and for the inner one the same.
        def forward(self: Any, x: Tensor, reentrant: bool = reentrant) -> Tensor:
            def inner(y: Tensor) -> Tensor:
                return self.c(checkpoint(self.b, self.a(y), use_reentrant=reentrant))

            return checkpoint(inner, x, use_reentrant=reentrant)

        model = Calling(forward, a=square(), b=square(), c=square())
        step = trained(model, x(grad=True))
        yield Hostile(f"nested checkpoint, {reentrant=}", model, step, 3 * ONCE, 6 * ONCE, again * ONCE)
    chain = nn.Sequential(*(square() for _ in range(4)))
    yield Hostile(
        "checkpoint_sequential",
        chain,
        lambda: checkpoint_sequential(chain, 2, x(grad=True), use_reentrant=False).sum().backward(),
        4 * ONCE,
        8 * ONCE,
        ONCE,
    )
    model = two()

    def penalty() -> None:
        """Forward and the input's gradient; then, of that gradient's square, what made it."""
        given = x(grad=True)
        (gradient,) = torch.autograd.grad(model(given).sum(), given, create_graph=True)
        gradient.pow(2).sum().backward()

    # The inner backward is 2 products. Of g = (1 W2) W1 the outer one has: d(1 W2) and dW1, then dW2.
    yield Hostile("gradient penalty", model, penalty, 2 * ONCE, 2 * ONCE + 3 * ONCE)
    offloaded = two()

    def on_cpu() -> None:
        with torch.autograd.graph.save_on_cpu():
            loss = offloaded(x()).sum()
        loss.backward()

    yield Hostile("saved tensors moved away", offloaded, on_cpu, 2 * ONCE, 3 * ONCE)


# Custom functions and hooks -------------------------------------------------------------------------------------------


class Several(torch.autograd.Function):
    """Several outputs, of which some are no tensors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, flag: bool) -> tuple[Tensor, str, Tensor, None]:
        ctx.save_for_backward(x, weight)
        return x @ weight, "a note", x.sum(), None

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, None]:
        (x, weight), (first, _, total, _) = ctx.saved_tensors, gradients
        return first @ weight.T + total, x.T @ first, None


class Once(torch.autograd.Function):
    """The newer way to write one."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        x, weight = ctx.saved_tensors
        return (gradient @ weight.T if ctx.needs_input_grad[0] else None), x.T @ gradient


def weight() -> nn.Parameter:
    return nn.Parameter(torch.rand(C, C))


def custom() -> Iterator[Hostile]:
    several = Calling(lambda self, x: Several.apply(self.a(x), self.w, True)[0], a=square())
    several.w = weight()
    yield Hostile("function with several outputs", several, trained(several), 2 * ONCE, 3 * ONCE)
    once = Calling(lambda self, x: Once.apply(x, self.w))
    once.w = weight()
    yield Hostile("function differentiable once", once, trained(once), ONCE, ONCE)
    scaled = two()
    scaled[0].register_forward_hook(lambda module, args, output: 2 * output)
    yield Hostile("hook that changes the output", scaled, trained(scaled), 2 * ONCE, 3 * ONCE)
    fed = two()
    fed[0].register_forward_pre_hook(lambda module, args: (args[0] @ torch.eye(C),))
    yield Hostile("hook that changes the input", fed, trained(fed), 3 * ONCE, 3 * ONCE)
    passed = two()
    passed[0].register_full_backward_hook(lambda module, given, got: (2 * given[0],))
    yield Hostile("hook that changes the gradient", passed, trained(passed, x(grad=True)), 2 * ONCE, 4 * ONCE)
    patched = nn.Sequential(square())
    patched[0].forward = lambda y: y @ patched[0].weight @ patched[0].weight
    yield Hostile("forward set on the instance", patched, trained(patched), 2 * ONCE, 3 * ONCE)

    def within(self: Any, x: Tensor) -> Tensor:
        try:
            self.a(torch.rand(2, C + 1))
        except RuntimeError:
            return self.b(x)
        raise AssertionError

    caught = Calling(within, a=square(), b=square())
    yield Hostile("an error caught inside", caught, trained(caught), ONCE, ONCE)


# Modules that change, and that are chosen -----------------------------------------------------------------------------


class Yields(nn.Module):
    """A generator: each part runs when it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = square(), square()

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        yield self.a(x)
        yield self.b(x)


def replaced(self: Any, x: Tensor) -> Tensor:
    y = self.a(x)
    self.a = square()
    return self.a(y)


def recursive(self: Any, x: Tensor, depth: int = 3) -> Tensor:
    return self(self.a(x), depth - 1) if depth else x


def changing() -> Iterator[Hostile]:
    model = Calling(replaced, a=square())
    yield Hostile("replaced in forward", model, trained(model), 2 * ONCE, 3 * ONCE)
    grown = nn.Sequential(square())
    yield Hostile("grown in the block", grown, lambda: grown.append(square())(x()).sum().backward(), 2 * ONCE, 3 * ONCE)
    cast = two()

    def twice() -> None:
        cast(x())
        cast.double()(x().double()).sum().backward()

    yield Hostile("cast in the block", cast, twice, 4 * ONCE, 3 * ONCE)
    lazy = nn.Sequential(nn.LazyLinear(C, bias=False))
    lazy(x())
    yield Hostile("lazy, after its first call", lazy, trained(lazy), ONCE, ONCE)
    generator = Yields()
    yield Hostile(
        "generator", generator, lambda: sum(part.sum() for part in generator(x())).backward(), 2 * ONCE, 2 * ONCE
    )
    chosen = Calling(lambda self, x, key: self.by[key](x), by=nn.ModuleDict({"one": square(), "two": two()}))
    yield Hostile(
        "chosen by name",
        chosen,
        lambda: (chosen(x(), "one") + chosen(x(), key="two")).sum().backward(),
        3 * ONCE,
        4 * ONCE,
    )
    depth = Calling(recursive, a=square())
    yield Hostile("recursive", depth, trained(depth), 3 * ONCE, 5 * ONCE)
    hidden = [square()]
    holder = Calling(lambda self, x: self.a(hidden[0](x)), a=square())
    yield Hostile("a module it does not hold", holder, trained(holder), 2 * ONCE, 3 * ONCE)
    copied = two()
    yield Hostile(
        "copied in the block",
        copied,
        lambda: (copied(x()) + copy.deepcopy(copied)(x())).sum().backward(),
        2 * ONCE,
        3 * ONCE,
    )
    traced = torch.fx.symbolic_trace(two())
    yield Hostile("traced by fx", traced, trained(traced), 2 * ONCE, 3 * ONCE)


# Tensors of unusual kinds and sizes -----------------------------------------------------------------------------------


class OwnTensor(Tensor):
    """A subclass that changes nothing."""


def tensors() -> Iterator[Hostile]:
    one = square()
    yield Hostile("expanded", one, trained(one, torch.rand(1, C).expand(N, C)), ONCE, ONCE)
    yield Hostile("own tensors", one, trained(one, x().as_subclass(OwnTensor)), ONCE, ONCE)
    yield Hostile("no rows", one, trained(one, torch.rand(0, C)), 0, 0)
    convolution = nn.Conv2d(3, 4, 3)
    yield Hostile("no samples", convolution, trained(convolution, torch.rand(0, 3, 8, 8)), 0, 0)
    attention = nn.MultiheadAttention(C, 2, bias=False, batch_first=True)
    nothing = torch.rand(N, 0, C)
    # The queries' projection and the output's, of two queries for each of N samples.
    yield Hostile(
        "no keys", attention, lambda: attention(torch.rand(N, 2, C), nothing, nothing), 2 * (2 * N * 2 * C * C)
    )
    for kind, gates in ((nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)):
        layer = kind(C, H, bias=False)
        packed = pack_padded_sequence(torch.rand(3, 4, C), [4, 2, 1], batch_first=True)
        yield Hostile(
            f"packed {kind.__name__}",
            layer,
            lambda layer=layer, packed=packed: layer(packed)[0].data.sum().backward(),
            2 * (4 + 2 + 1) * gates * H * (C + H),
        )
    views = two()

    def in_place() -> None:
        y = views[0](x())
        y.mul_(2).add_(1)
        views[1](y).sum().backward()

    yield Hostile("changed in place by the caller", views, in_place, 2 * ONCE, 3 * ONCE)
    several = Calling(lambda self, x: {"a": [self.a(x)], "b": (self.a(x).detach(), None, 3)}, a=square())
    yield Hostile("nested outputs", several, lambda: several(x())["a"][0].sum().backward(), 2 * ONCE, ONCE)


# Transforms -----------------------------------------------------------------------------------------------------------


def transformed() -> Iterator[Hostile]:
    model = square()
    yield Hostile("vmap", model, lambda: vmap(model)(x()), ONCE)
    other = {"weight": torch.rand(C, C, requires_grad=True)}
    yield Hostile("functional_call", model, lambda: functional_call(model, other, (x(),)).sum().backward(), ONCE, ONCE)

    def loss(weights: dict[str, Tensor], given: Tensor) -> Tensor:
        return functional_call(model, weights, (given,)).sum()

    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    yield Hostile("gradient of a function", model, lambda: grad(loss)(weights, x()), ONCE)
    yield Hostile("gradients per sample", model, lambda: vmap(grad(loss), in_dims=(None, 0))(weights, x()), ONCE)


CASES = [
    case
    for family in (parametrized, recomputed, custom, changing, tensors, transformed)
    for case in family()
]  # fmt: skip


def profiled(case: Hostile) -> Profile:
    torch.manual_seed(0)
    with torchtally.profile(case.model) as run:
        case.step()
    return run


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_hostile_models_are_counted_by_hand(case: Hostile) -> None:
    run = profiled(case)
    assert run.coverage.unpriced == ()
    assert run.totals.get("forward_matmul_flops", 0) == case.forward
    assert run.totals.get("recompute_matmul_flops", 0) == case.recomputed
    if case.backward is not None:
        assert run.totals.get("backward_matmul_flops", 0) == case.backward
    comparison = run.compare()
    assert comparison.failures == ()
    assert comparison.rows or comparison.not_compared or not case.forward


# What is said instead of a comparison ---------------------------------------------------------------------------------


def test_a_module_with_hooks_that_may_work_is_not_compared() -> None:
    """What hooks before forward do, and in backward, is in its rows; hooks after forward are the caller's."""
    model = two()
    model[0].register_forward_pre_hook(lambda module, args: (args[0] @ torch.eye(C),))
    model[1].register_forward_hook(lambda module, args, output: 2 * output)
    with torchtally.profile(model) as run:
        model(x()).sum().backward()
    assert run.ledger.row("0").matmul_flops == 2 * ONCE
    assert set(run.compare().not_compared) == {"0", ""}


def test_parameters_changed_in_the_block_are_named() -> None:
    model = two()
    with torchtally.profile(model) as run:
        model.double()(x().double()).sum().backward()
    assert "its parameters were changed within the block" in run.compare().not_compared["0"]


def test_one_sample_seen_of_many_is_named() -> None:
    """Under vmap a module is given one sample, and its operators work on all."""
    model = square()
    with torchtally.profile(model) as run:
        vmap(model)(x())
    assert "a transform of torch.func" in run.compare().not_compared[""]


def test_a_lazy_model_before_its_first_call_is_refused() -> None:
    with pytest.raises(UsageError, match="run one forward, then profile"), torchtally.profile(nn.LazyLinear(C)):
        raise AssertionError
