"""Elementwise operations, reductions, losses, scattered additions and optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import torchtally
from torchtally.profiler.formulas import Price

from .running import Calls, count, numbers, priced, tensor

M, K = 4, 5
E = M * K


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (torch.exp, E),
        (torch.neg, E),
        (lambda x: x + 1, E),
        (lambda x: 1 - x, E),
        (lambda x: x**2, E),
        (lambda x: 2**x, E),
        (lambda x: x * x[:1], E),
        (lambda x: x[:1] * x[:, :1], E),
        (lambda x: x > 0.5, E),
        (lambda x: torch.maximum(x, x), E),
        (lambda x: torch.max(x, x[0]), E),
        (lambda x: torch.max(x), E),
        (lambda x: torch.max(x, 1), E),
        (lambda x: x.clamp(0, 1), E),
        (lambda x: torch.addcmul(x, x, x), 2 * E),
        (lambda x: torch.lerp(x, x, 0.5), 3 * E),
        (lambda x: x.sum(), E),
        (lambda x: x.mean(1), E),
        (lambda x: x.argmax(), E),
        (lambda x: x.norm(), 2 * E),
        (lambda x: x.var(), 3 * E),
        (lambda x: x.logsumexp(1), 3 * E),
        (lambda x: x.softmax(1), 5 * E),
        (lambda x: x.log_softmax(0), 5 * E),
        (lambda x: F.layer_norm(x, (K,)), 5 * E),
        (lambda x: x.cumsum(0), E),
        (lambda x: F.glu(x[:, :4]), M * 2),
        (lambda x: torch.histc(x, 3), E),
        (lambda x: x.clone(), 0),
        (lambda x: x.double(), 0),
        (lambda x: x[[0, 2, 2]], 0),
        (lambda x: x.flip(0).roll(1).repeat(2, 2), 0),
        (lambda x: torch.cat([x, x]), 0),
        (lambda x: torch.where(x > 2, x, x), E),  # the comparison
        (lambda x: x.sort(1), 0),
        (lambda x: x.topk(2), 0),
        (lambda x: x.t().reshape(-1).unsqueeze(0), 0),
        (lambda x: torch.zeros_like(x).normal_(), 0),
    ],
)
def test_one_flop_per_element(function: Callable[[Tensor], Any], flops: int) -> None:
    seen = count(function, numbers(M, K, grad=False))
    assert not seen.unpriced
    assert seen.forward == Price(flops)


def test_integers_are_no_floating_point_work() -> None:
    x = torch.arange(E).reshape(M, K)
    for function in (lambda a: a + 1, lambda a: a * a, torch.sum, torch.argmax, torch.neg, lambda a: a == 3):
        assert count(function, x).forward == Price()
    assert count(lambda a: a / 2, x).forward == Price(E)
    assert count(lambda a: a * 1.5, x).forward == Price(E)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_scalars_and_empty_tensors(shape: tuple[int, ...]) -> None:
    x = numbers(*shape, grad=False)
    assert count(torch.exp, x).forward == Price(x.numel())
    assert count(torch.sum, x).forward == Price(x.numel())
    assert count(lambda a: a.add_(1), x.clone()).forward == Price(x.numel())


def test_in_place_and_out_variants() -> None:
    x, out = numbers(M, K, grad=False), torch.empty(M, K)
    assert count(lambda a: a.mul_(2).relu_(), x.clone()).forward == Price(2 * E)
    assert count(lambda a: torch.add(a, a, out=out), x).forward == Price(E)
    assert count(lambda a: torch.sum(a, 0, out=torch.empty(K)), x).forward == Price(E)


# Complex numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (lambda z: z + z, 2 * E),
        (torch.exp, 2 * E),
        (lambda z: z * z, 6 * E),
        (lambda z: z / z, 6 * E),
        (lambda z: z * 2.0, 2 * E),
        (lambda z: z * z.real, 2 * E),
        (torch.sum, 2 * E),
        (torch.abs, E),
        (lambda z: z.conj().real, 0),
    ],
)
def test_complex_elements_are_two_numbers(function: Callable[[Tensor], Any], flops: int) -> None:
    assert count(function, numbers(M, K, grad=False, dtype=torch.complex64)).forward == Price(flops)


def test_a_complex_product_costs_what_its_real_parts_cost() -> None:
    """Rotary embeddings as complex numbers, and as pairs."""
    x, angle = numbers(M, K, 2, grad=False), numbers(M, K, 2, grad=False)
    turned = count(lambda a, b: torch.view_as_complex(a) * torch.view_as_complex(b), x, angle)

    def pairs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        (x0, x1), (c, s) = a.unbind(-1), b.unbind(-1)
        return x0 * c - x1 * s, x0 * s + x1 * c

    assert turned.forward == count(pairs, x, angle).forward == Price(6 * E)


# Losses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("loss", "forward", "backward"),
    [
        (F.mse_loss, 1, 1),
        (F.smooth_l1_loss, 1, 1),
        (F.huber_loss, 1, 1),
        (F.soft_margin_loss, 1, 1),
        (F.binary_cross_entropy, 1, 1),
    ],
)
def test_losses_in_one_operator(loss: Any, forward: int, backward: int, reduction: str) -> None:
    """One FLOP per element, the reduction included: whether it reduces makes no difference."""
    x, target = numbers(M, K), torch.ones(M, K)
    seen = count(lambda a: loss(a, target, reduction=reduction), x)
    assert not seen.unpriced
    assert seen.forward == Price(forward * E)
    assert seen.backward == Price(backward * E)


def test_losses_of_classes() -> None:
    x, classes = numbers(M, K), torch.zeros(M, dtype=torch.int64)
    seen = count(lambda a: F.cross_entropy(a, classes), x)
    assert (seen.forward, seen.backward) == (Price(5 * E + M), Price(5 * E + M))
    assert count(lambda a: F.multi_margin_loss(a, classes), x).forward == Price(E)
    assert count(lambda a: F.multilabel_margin_loss(a, torch.zeros(M, K, dtype=torch.int64)), x).forward == Price(E)
    assert not count(lambda a: F.multi_margin_loss(a, classes), x).unpriced


# Scattered additions ------------------------------------------------------------------------------------------------


def test_gradients_of_look_ups_are_added() -> None:
    table, index = numbers(10, K), torch.tensor([1, 1, 2])
    assert count(lambda t: F.embedding(index, t), table).backward == Price(3 * K)
    assert count(lambda t: t[index], table).backward == Price(3 * K)
    assert count(lambda t: t[index, :, None], table).backward == Price(3 * K)
    assert count(lambda t: t[torch.arange(10) < 4], table).backward == Price(4 * K)
    assert count(lambda t: t.index_select(0, index), table).backward == Price(3 * K)
    assert count(lambda t: t.gather(0, index[:, None]), table).backward == Price(3)
    assert count(lambda t: t[1:3], table).backward == Price()


def test_one_value_put_in_many_places() -> None:
    x, rows = torch.zeros(M, K), torch.tensor([0, 1, 1])
    assert count(lambda a: a.index_put((rows,), torch.ones(()), accumulate=True), x).forward == Price(3 * K)
    assert count(lambda a: a.index_put((rows,), torch.ones(()), accumulate=False), x).forward == Price()
    columns = torch.tensor([[0], [1]])
    assert count(lambda a: a.index_put((rows, columns), torch.ones(()), accumulate=True), x).forward == Price(6)
    assert count(lambda a: a.put(rows, torch.ones(3), accumulate=True), x).forward == Price(3)


def test_scatter() -> None:
    x, index, source = torch.zeros(M, K), torch.zeros(2, K, dtype=torch.int64), torch.ones(M, K)
    assert count(lambda a: a.scatter(0, index, source), x).forward == Price()
    assert count(lambda a: a.scatter(0, index, 1.0), x).forward == Price()
    assert count(lambda a: a.scatter_add(0, index, source), x).forward == Price(2 * K)
    assert count(lambda a: a.scatter(0, index, source, reduce="multiply"), x).forward == Price(2 * K)
    assert count(lambda a: a.scatter_reduce(0, index, source, "sum"), x).forward == Price(2 * K)
    assert count(lambda a: a.index_add(0, index[:, 0], source[:2]), x).forward == Price(2 * K)


@pytest.mark.parametrize(("mode", "backward"), [("sum", 4 * K), ("mean", 4 * K), ("max", 2 * K)])
def test_embedding_bags(mode: str, backward: int) -> None:
    bags = torch.tensor([[0, 1], [1, 2]])
    seen = count(lambda t: F.embedding_bag(bags, t, mode=mode), numbers(10, K))
    assert not seen.unpriced
    assert (seen.forward, seen.backward) == (Price(4 * K), Price(backward))
    assert seen.fcm == (0, 0)


def test_weighted_embedding_bags() -> None:
    bags = torch.tensor([[0, 1], [1, 2]])
    seen = count(lambda t, w: F.embedding_bag(bags, t, mode="sum", per_sample_weights=w), numbers(10, K), numbers(2, 2))
    assert not seen.unpriced
    assert seen.forward == Price(2 * 4 * K)
    assert seen.backward == Price(2 * 4 * K + 2 * 4 * K)  # the table's, and a dot product for each weight


# Normalizations in parts ---------------------------------------------------------------------------------------------


def test_batch_normalization_in_parts_costs_what_it_costs_in_one() -> None:
    """As SyncBatchNorm does it on CUDA."""
    x, c = tensor(8, K, 3, 3), tensor(K)
    parts = [priced("aten.batch_norm_stats", x, None), priced("aten.batch_norm_elemt", x, c, c, c, c, None)]
    assert sum(part.flops for part in parts) == 5 * x.elements
    backward = [priced("aten.batch_norm_backward_reduce", x, x, c, c, c, True, True, True)]
    backward.append(priced("aten.batch_norm_backward_elemt", x, x, c, c, c, c, c, c))
    assert sum(part.flops for part in backward) == 5 * x.elements


def test_weight_norm() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(K, M, bias=False))
    seen = count(layer, numbers(2, K, grad=False))
    assert not seen.unpriced
    assert seen.of("_weight_norm_interface.") == Price(3 * E)


# Optimizers ----------------------------------------------------------------------------------------------------------

OPTIMIZERS: list[tuple[Any, dict[str, Any]]] = [
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"amsgrad": True}),
    (torch.optim.AdamW, {}),
    (torch.optim.SGD, {"lr": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
]


def optimizer_flops(kind: Any, settings: dict[str, Any], **how: bool) -> int:
    """FLOPs of the second step per parameter element; those of the few step counters drown in the rounding."""
    layer = nn.Linear(50, 60)
    optimizer = kind(layer.parameters(), **settings, **how)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    with torchtally.profile(Calls(layer)) as run:
        optimizer.step()
    assert not run.coverage.unpriced
    return round(run.totals["optimizer_flops"] / sum(p.numel() for p in layer.parameters()))


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS, ids=str)
def test_a_step_costs_the_same_however_it_is_done(kind: Any, settings: dict[str, Any]) -> None:
    """Parameter by parameter, over lists of them, and in one operator."""
    figures = {
        how: optimizer_flops(kind, settings, **{how: True} if how != "one by one" else {"foreach": False})
        for how in ("one by one", "foreach", "fused")
    }
    assert len(set(figures.values())) == 1, figures


def test_adagrad_over_lists_multiplies_once_more() -> None:
    """addcmul 2, root, plus eps, addcdiv 2; lists scale the gradient by the rate beforehand: other work."""
    figures = [optimizer_flops(torch.optim.Adagrad, {}, **how) for how in ({"foreach": False}, {"fused": True})]
    assert figures == [6, 6]
    assert optimizer_flops(torch.optim.Adagrad, {}, foreach=True) == 7


@pytest.mark.parametrize(
    "kind",
    [
        torch.optim.RMSprop,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.Adamax,
        torch.optim.Adadelta,
        torch.optim.Rprop,
    ],
)
@pytest.mark.parametrize("foreach", [False, True])
def test_other_optimizers_have_prices(kind: Any, foreach: bool) -> None:
    assert optimizer_flops(kind, {"lr": 0.1}, foreach=foreach) > 0


def test_gradient_clipping_and_scaling() -> None:
    layer = nn.Linear(K, M)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    seen = count(lambda: nn.utils.clip_grad_norm_(layer.parameters(), 1.0))
    assert not seen.unpriced and seen.forward.flops > 2 * E
    lists = (tensor(M, K), tensor(K)), tensor(), tensor()
    assert priced("aten._amp_foreach_non_finite_check_and_unscale_.default", *lists) == Price(2 * (E + K))
