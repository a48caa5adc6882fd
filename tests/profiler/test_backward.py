"""Backward, exactly as it was: frozen and low-rank layers, tied weights, several passes, second order, functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import torchtally

from .running import Calling, flops, matmul_flops, places, step, total

N, I, H, O, R, V = 4, 6, 10, 3, 2, 11  # noqa: E741
FLOAT = 4


def chain(**children: nn.Module) -> Calling:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        for child in model.children():
            x = child(x)
        return x

    return Calling(forward, **children)


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


# What needs no gradient costs nothing ---------------------------------------------------------------------------------


def test_frozen_first_layers_have_no_backward() -> None:
    run = step(chain(a=frozen(nn.Linear(I, H)), act=nn.ReLU(), b=nn.Linear(H, O)), torch.ones(N, I))
    assert flops(run, "backward") == {"b": 2 * N * H * O + N * O}
    assert places(run, "backward") == ["", "b"]
    row = run.ledger.row("b", "backward")
    assert (row.input_shape, row.gradient_bytes, row.parameter_gradient_bytes) == (None, 0, FLOAT * (H * O + O))


def test_a_frozen_last_layer_passes_gradients_on() -> None:
    run = step(chain(a=nn.Linear(I, H), b=frozen(nn.Linear(H, O))), torch.ones(N, I))
    assert flops(run, "backward") == {"a": 2 * N * I * H + N * H, "b": 2 * N * H * O}
    row = run.ledger.row("b", "backward")
    assert (row.gradient_bytes, row.parameter_gradient_bytes) == (FLOAT * N * H, 0)


def test_a_frozen_weight_beside_a_trained_bias() -> None:
    model = chain(a=nn.Linear(I, H), b=nn.Linear(H, O))
    model.a.weight.requires_grad_(False)
    run = step(model, torch.ones(N, I))
    assert run.ledger.row("a", "backward").flops == N * H
    assert run.ledger.row("a", "backward").matmul_flops == 0
    assert run.ledger.row("a", "backward").parameter_gradient_bytes == FLOAT * H


def test_a_frozen_batchnorm_in_a_trained_network() -> None:
    model = chain(a=nn.Conv2d(1, 2, 3), norm=frozen(nn.BatchNorm2d(2)), b=nn.Conv2d(2, 3, 1))
    run = step(model, torch.ones(N, 1, 5, 5))
    assert run.ledger.row("norm", "backward").flops == 5 * N * 2 * 3 * 3
    assert run.ledger.row("norm", "backward").parameter_gradient_bytes == 0


def lora(n_in: int, n_out: int) -> Calling:
    """y = W x + B A x, where W is frozen."""
    return Calling(
        lambda m, x: m.base(x) + m.b(m.a(x)),
        base=frozen(nn.Linear(n_in, n_out)),
        a=nn.Linear(n_in, R, bias=False),
        b=nn.Linear(R, n_out, bias=False),
    )


def test_low_rank_adapters_by_hand() -> None:
    run = step(chain(first=lora(I, H), second=lora(H, O)), torch.ones(N, I))
    assert matmul_flops(run, "forward") == {
        "first.base": 2 * N * I * H,
        "first.a": 2 * N * I * R,
        "first.b": 2 * N * R * H,
        "second.base": 2 * N * H * O,
        "second.a": 2 * N * H * R,
        "second.b": 2 * N * R * O,
    }
    assert flops(run, "backward") == {
        # first.base has none: frozen, and the input needs no gradient
        "first.a": 2 * N * I * R,  # weight
        "first.b": 2 * (2 * N * R * H),  # weight and input
        "second.base": 2 * N * H * O,  # input
        "second.a": 2 * (2 * N * H * R),
        "second.b": 2 * (2 * N * R * O),
    }
    assert "first.base" not in places(run, "backward")
    assert run.totals["accumulation_flops"] == N * H, "two gradients of the second adapter's input meet"
    assert run.totals["parameter_gradient_bytes"] == FLOAT * R * (I + H + H + O)
    assert run.ledger.row("first").flops == N * H, "the addition"


def test_detached_parts() -> None:
    model = Calling(lambda m, x: m.b(m.a(x).detach()), a=nn.Linear(I, H), b=nn.Linear(H, O))
    run = step(model, torch.ones(N, I))
    assert flops(run, "backward") == {"b": 2 * N * H * O + N * O}


def test_no_grad_around_a_part() -> None:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = model.a(x)
        return model.b(x)

    run = step(Calling(forward, a=nn.Linear(I, H), b=nn.Linear(H, O)), torch.ones(N, I))
    assert run.ledger.row("a").flops == 2 * N * I * H
    assert places(run, "backward") == ["", "b"]


# Parameters with several holders --------------------------------------------------------------------------------------


def test_tied_weights_count_once_in_totals_and_their_gradients_are_added() -> None:
    model = chain(embed=nn.Embedding(V, H), head=nn.Linear(H, V, bias=False))
    model.head.weight = model.embed.weight
    run = step(model, torch.arange(N))
    assert [run.ledger.row(path).parameters for path in ("embed", "head")] == [V * H, V * H]
    assert run.totals["parameters"] == V * H
    assert run.totals["parameter_bytes"] == FLOAT * V * H
    assert flops(run, "forward") == {"head": 2 * N * H * V}, "a lookup is no product"
    assert matmul_flops(run, "backward") == {"head": 2 * (2 * N * H * V)}
    assert run.totals["accumulation_flops"] == V * H
    assert run.totals["parameter_gradient_bytes"] == FLOAT * V * H, "one `.grad`"


def test_a_parameter_shared_by_two_layers() -> None:
    model = chain(a=nn.Linear(I, I, bias=False), b=nn.Linear(I, I, bias=False))
    model.b.weight = model.a.weight
    run = step(model, torch.ones(N, I))
    assert flops(run, "backward") == {"a": 2 * N * I * I, "b": 2 * (2 * N * I * I)}
    assert run.totals["parameters"] == I * I
    assert run.totals["accumulation_flops"] == I * I


# Other ways into autograd ---------------------------------------------------------------------------------------------


def layer_and_input() -> tuple[nn.Module, Tensor]:
    return Calling(lambda m, x: m.layer(x), layer=nn.Linear(I, O)), torch.ones(N, I, requires_grad=True)


def test_autograd_grad_of_the_parameters() -> None:
    model, x = layer_and_input()
    with torchtally.profile(model) as run:
        gradients = torch.autograd.grad(model(x).sum(), list(model.parameters()))
    assert [tuple(gradient.shape) for gradient in gradients] == [(O, I), (O,)]
    assert run.ledger.row("layer", "backward").flops == 2 * N * I * O + N * O, "the input's was not asked for"
    assert run.ledger.row("layer", "backward").output_shape == (N, O)
    assert run.ledger.row("layer", "backward").input_shape is None
    assert not run.totals.get("accumulation_flops")
    assert all(parameter.grad is None for parameter in model.parameters())


def test_autograd_grad_of_the_input() -> None:
    model, x = layer_and_input()
    with torchtally.profile(model) as run:
        torch.autograd.grad(model(x).sum(), x)
    row = run.ledger.row("layer", "backward")
    assert row.flops == 2 * N * I * O
    assert (row.input_shape, row.gradient_bytes) == ((N, I), FLOAT * N * I)
    assert row.parameter_gradient_bytes == 0


def test_backward_for_some_inputs_only() -> None:
    model, x = layer_and_input()
    with torchtally.profile(model) as run:
        model(x).sum().backward(inputs=[model.layer.bias])
    row = run.ledger.row("layer", "backward")
    assert row.flops == N * O
    assert row.parameter_gradient_bytes == FLOAT * O
    assert row.input_shape is None


def test_a_backward_from_inside_the_network() -> None:
    """autograd.grad of one activation by another: only the layers between them work."""
    model = chain(a=nn.Linear(I, H), b=nn.Linear(H, H), c=nn.Linear(H, O))
    with torchtally.profile(model) as run:
        h = model.a(torch.ones(N, I))
        z = model.b(h)
        model.c(z)
        torch.autograd.grad(z.sum(), h)
    assert flops(run, "backward") == {"b": 2 * N * H * H}
    assert run.ledger.row("b", "backward").gradient_bytes == FLOAT * N * H


def test_two_backwards_over_one_graph() -> None:
    model, _ = layer_and_input()
    with torchtally.profile(model) as run:
        loss = model(torch.ones(N, I)).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    assert run.ledger.row("layer").calls == 1
    assert run.totals["backward_flops"] == 2 * (2 * N * I * O + N * O)
    assert run.totals["accumulation_flops"] == I * O + O


def test_two_losses_over_a_shared_trunk() -> None:
    model = Calling(
        lambda m, x: (m.p(h := m.trunk(x)), m.q(h)), trunk=nn.Linear(I, H), p=nn.Linear(H, O), q=nn.Linear(H, O)
    )
    with torchtally.profile(model) as run:
        p, q = model(torch.ones(N, I))
        p.sum().backward(retain_graph=True)
        q.sum().backward()
    head = 2 * (2 * N * H * O) + N * O
    assert flops(run, "backward") == {"trunk": 2 * (2 * N * I * H + N * H), "p": head, "q": head}
    assert run.ledger.row("p", "backward").gradient_bytes == FLOAT * N * H


def test_forwards_first_and_their_backwards_in_another_order() -> None:
    model, _ = layer_and_input()
    with torchtally.profile(model) as run:
        losses = [model(torch.ones(n, I)).sum() for n in (1, 2, 5)]
        for k in (1, 2, 0):
            losses[k].backward()
    rows = 1 + 2 + 5
    assert run.totals["backward_flops"] == 2 * rows * I * O + rows * O
    assert run.totals["accumulation_flops"] == 2 * (I * O + O)


def test_a_graph_made_before_the_block_is_not_this_runs() -> None:
    model, _ = layer_and_input()
    loss = model(torch.ones(N, I)).sum()
    with torchtally.profile(model) as run:
        loss.backward()
    assert not flops(run, "backward")
    assert run.totals["outside_flops"] == 2 * N * I * O + N * O
    assert run.totals["parameter_gradient_bytes"] == FLOAT * (I * O + O)


def test_second_order() -> None:
    """A gradient penalty. L = sum(y^2), g = dL/dx, P = sum(g^2), through one product y = x W^T.

    first:  dy W                       -> g
    second: back through g = dy W      -> dW, d(dy);  back through y = x W^T with d(dy) -> dW, dx
    """
    model = Calling(lambda m, x: m.layer(x), layer=nn.Linear(I, O, bias=False))
    x = torch.ones(N, I, requires_grad=True)
    with torchtally.profile(model) as run:
        (g,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        g.square().sum().backward()
    product = 2 * N * I * O
    assert matmul_flops(run, "forward") == {"layer": product}
    assert matmul_flops(run, "backward") == {"layer": (1 + 2 + 2) * product}


def test_second_order_in_the_right_layers() -> None:
    model = chain(a=nn.Linear(I, H, bias=False), act=nn.Tanh(), b=nn.Linear(H, O, bias=False))
    x = torch.ones(N, I, requires_grad=True)
    with torchtally.profile(model) as run:
        (g,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        g.square().sum().backward()
    assert matmul_flops(run, "backward") == {
        # a: dh A; then its own dA and d(dh); then, through tanh's curvature, h's gradient back to A and x
        "a": (1 + 2 + 2) * 2 * N * I * H,
        # b: dy B; then dB alone, as dy = 1 needs no gradient and y is not used again
        "b": (1 + 1) * 2 * N * H * O,
    }
    assert set(flops(run, "backward")) == {"a", "act", "b"}, "nothing falls to the root"


# Own functions --------------------------------------------------------------------------------------------------------


class Times(torch.autograd.Function):
    """x W, with a backward that adds two tensors of one shape itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        dx = gradient @ w.T
        return dx + dx, x.T @ gradient


class NoWay(torch.autograd.Function):
    """Passes nothing back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2.0

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> None:
        return None


def test_a_custom_function_works_for_its_module_both_ways() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(H, O))

        def forward(self, x: Tensor) -> Tensor:
            return Times.apply(x, self.w)

    run = step(chain(a=nn.Linear(I, H), b=Layer()), torch.ones(N, I))
    assert run.ledger.row("b").flops == 2 * N * H * O
    assert run.ledger.row("b", "backward").matmul_flops == 2 * (2 * N * H * O)
    assert run.ledger.row("b", "backward").flops == 2 * (2 * N * H * O) + N * H, "its own addition is its own work"
    assert run.ledger.row("b", "backward").gradient_bytes == FLOAT * N * H
    assert not run.totals.get("accumulation_flops")


def test_a_function_that_passes_no_gradient_back() -> None:
    model = chain(a=nn.Linear(I, H), stop=Calling(lambda m, x: NoWay.apply(x)))
    with torchtally.profile(model) as run:
        model(torch.ones(N, I)).sum().backward()
    assert run.ledger.row("stop", "backward").output_shape == (N, H)
    assert run.ledger.row("stop", "backward").input_shape is None, "no gradient of its input ever came"
    assert run.ledger.row("stop", "backward").gradient_bytes == 0
    assert not flops(run, "backward")


def test_a_function_that_changes_its_input() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.mark_dirty(x)
            return x.mul_(2.0)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * 2.0

    run = step(chain(a=nn.Linear(I, H), twice=Calling(lambda m, x: Double.apply(x))), torch.ones(N, I))
    assert run.ledger.row("twice").flops == run.ledger.row("twice", "backward").flops == N * H
    assert run.ledger.row("a", "backward").flops == 2 * N * I * H + N * H


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_of_both_kinds(reentrant: bool) -> None:
    model = Calling(
        lambda m, x: checkpoint(m.part, x, use_reentrant=reentrant),
        part=chain(a=nn.Linear(I, H), act=nn.Tanh(), b=nn.Linear(H, O)),
    )
    run = step(model, torch.ones(N, I, requires_grad=True))
    forward = {"part.a": 2 * N * I * H, "part.act": N * H, "part.b": 2 * N * H * O}
    assert flops(run, "forward") == forward
    assert matmul_flops(run, "backward") == {"part.a": 2 * forward["part.a"], "part.b": 2 * forward["part.b"]}
    again = flops(run, "recompute")
    assert (again["part.a"], again["part.act"]) == (forward["part.a"], forward["part.act"])
    assert run.ledger.row("part.a", "backward").gradient_bytes == FLOAT * N * I


def test_checkpoints_inside_checkpoints() -> None:
    deep = chain(a=nn.Linear(I, I), act=nn.Tanh())
    inner = Calling(lambda m, x: checkpoint(m.deep, x, use_reentrant=False), deep=deep)
    model = Calling(lambda m, x: checkpoint(m.inner, x, use_reentrant=False), inner=inner)
    run = step(model, torch.ones(N, I, requires_grad=True))
    once = 2 * N * I * I
    assert run.ledger.row("inner.deep.a").flops == once
    assert run.ledger.row("inner.deep.a", "recompute").flops in (once, 2 * once), "by the outer, the inner, or both"
    assert run.totals["backward_matmul_flops"] == 2 * once


def test_tensors_saved_elsewhere_by_the_user() -> None:
    model = chain(a=nn.Linear(I, H), act=nn.Tanh(), b=nn.Linear(H, O))
    with torchtally.profile(model) as run:
        with torch.autograd.graph.save_on_cpu():
            loss = model(torch.ones(N, I)).sum()
        loss.backward()
    assert run.totals["backward_matmul_flops"] == 2 * N * I * H + 2 * (2 * N * H * O)


def test_a_gradient_taken_inside_forward() -> None:
    """A force field: the output is an energy's gradient, and training goes through it."""

    def forward(model: nn.Module, x: Tensor) -> Tensor:
        return torch.autograd.grad(model.energy(x).sum(), x, create_graph=True)[0]

    model = Calling(forward, energy=nn.Linear(I, 1, bias=False))
    with torchtally.profile(model) as run:
        model(torch.ones(N, I, requires_grad=True)).sum().backward()
    assert matmul_flops(run, "forward") == {"energy": 2 * N * I}
    assert matmul_flops(run, "backward") == {"energy": 2 * (2 * N * I)}, "g = dy W, and then dW"


def test_users_hooks_on_tensors_and_modules_run_as_ever() -> None:
    model = chain(a=nn.Linear(I, H), b=nn.Linear(H, O))
    seen: list[str] = []
    model.a.register_forward_hook(lambda *_: seen.append("forward"))
    model.b.register_full_backward_hook(lambda *_: seen.append("backward"))
    model.a.weight.register_hook(lambda g: seen.append("tensor"))
    run = step(model, torch.ones(N, I))
    assert seen == ["forward", "backward", "tensor"]
    assert run.totals["forward_flops"] == 2 * N * (I * H + H * O)
    assert run.totals["backward_matmul_flops"] == 2 * N * I * H + 2 * (2 * N * H * O)


def test_a_layer_used_in_two_models() -> None:
    """Each run sees the shared layer's work in its own model, and no other."""
    shared = nn.Linear(H, H)
    one, two = chain(a=nn.Linear(I, H), shared=shared), chain(shared=shared, b=nn.Linear(H, O))
    with torchtally.profile(one) as first, torchtally.profile(two) as second:
        total(one(torch.ones(N, I))).backward()
        total(two(torch.ones(N, H))).backward()
    assert first.ledger.row("shared").calls == second.ledger.row("shared").calls == 2
    assert first.ledger.row("shared", "backward").matmul_flops == 3 * 2 * N * H * H
    assert first.ledger.row("a", "backward").matmul_flops == 2 * N * I * H
    assert flops(second, "forward") == {"shared": 2 * (2 * N * H * H), "b": 2 * N * H * O}


def test_many_steps_with_fresh_inputs_that_need_gradients() -> None:
    """Inputs come and go, and may take one another's place in memory; each one's gradient is counted once."""
    model = chain(a=nn.Linear(I, O))
    steps = 200
    with torchtally.profile(model) as run:
        for _ in range(steps):
            model(torch.ones(N, I, requires_grad=True)).sum().backward()
            model(torch.ones(N, I, requires_grad=True))  # and no backward
    assert run.ledger.row("a", "backward").gradient_bytes == steps * FLOAT * N * I
    assert run.ledger.row("a").calls == 2 * steps
