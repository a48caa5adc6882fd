"""PyTorch's own bindings arrive at the very operator that is listed for them, with the same arguments and result."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from torchtally.profiler.capture.bindings import BINDINGS, quickest
from torchtally.profiler.capture.signatures import _DETERMINED, Operator, looks_like


def made(*shape: int) -> torch.Tensor:
    return torch.linspace(0.1, 0.9, torch.Size(shape).numel()).reshape(shape)


M, V, B, IMAGE = made(3, 4), made(4), made(2, 3, 4), made(2, 3, 5, 5)

ROWS = torch.tensor([0, 2])

# Calls as autograd and the layers make them; several where an argument may be left out, be None, or be of another kind.
CALLS: dict[str, list[tuple[Any, ...]]] = {
    "aten.detach.default": [(M,)],
    "aten.expand.default": [(V, [3, 4]), (made(3, 1), [-1, 4])],
    "aten.permute.default": [(B, [2, 0, 1])],
    "aten.select.int": [(B, 1, 2), (B, -1, -1)],
    "aten.squeeze.dim": [(made(3, 1), 1), (M, 0)],
    "aten.t.default": [(M,), (V,)],
    "aten.transpose.int": [(B, 0, -1)],
    "aten.unsqueeze.default": [(M, 0), (M, -1)],
    "aten.view.default": [(M, [12]), (M, [2, -1]), (M, [4, 3])],
    "aten.addmm.default": [(V, M, made(4, 4)), (made(3, 4), M, made(4, 4))],
    "aten.baddbmm.default": [(made(2, 3, 3), B, made(2, 4, 3))],
    "aten.bmm.default": [(B, made(2, 4, 3))],
    "aten.convolution.default": [
        (IMAGE, made(4, 3, 3, 3), made(4), [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        (IMAGE, made(3, 1, 3, 3), None, [2, 2], [0, 0], [1, 1], False, [0, 0], 3),
        (IMAGE, made(3, 4, 3, 3), None, [2, 2], [0, 0], [1, 1], True, [1, 1], 1),
    ],
    "aten.mm.default": [(M, made(4, 2))],
    "aten._log_softmax.default": [(M, 1, False)],
    "aten._softmax.default": [(M, -1, False)],
    "aten.native_batch_norm.default": [
        (IMAGE, made(3), made(3), made(3), made(3), True, 0.1, 1e-5),
        (IMAGE, None, None, None, None, True, 0.1, 1e-5),
    ],
    "aten.native_layer_norm.default": [(M, [4], V, V, 1e-5), (M, [4], None, None, 1e-5)],
    "aten.relu.default": [(M,)],
    "aten.relu_.default": [(M,)],
    "aten.sigmoid.default": [(M,)],
    "aten.tanh.default": [(M,)],
    "aten.add.Tensor": [(M, M), (M, torch.tensor(2.0)), (M, torch.tensor(2))],
    "aten.cat.default": [([M, M],), ([M, M], 1)],
    "aten.clone.default": [(M,)],
    "aten.div.Tensor": [(M, M), (M, torch.tensor(2))],
    "aten.embedding.default": [(M, ROWS), (M, ROWS, 1), (M, ROWS, -1, True, False)],
    "aten.mul.Tensor": [(M, V), (M, torch.tensor(2))],
    "aten.rsqrt.default": [(M,)],
    "aten.sub.Tensor": [(M, V)],
    "aten.sum.default": [(M,)],
    "aten.sum.dim_IntList": [(M, [0], True), (M, [0, 1]), (M, None, True), (M, [], False), (B, [-1])],
    "aten.threshold_backward.default": [(M, M, 0), (M, M, 0.5)],
}  # fmt: skip


def operator_of(name: str) -> Any:
    _, packet, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, packet), overload)


class Seen(TorchDispatchMode):
    """The calls that arrive at the dispatcher, what tensors they are given by identity."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(
            (func, tree_map(lambda each: id(each) if isinstance(each, torch.Tensor) else each, args), kwargs)
        )
        return func(*args, **(kwargs or {}))


def arriving(run: Any, args: tuple[Any, ...]) -> tuple[list[Any], Any]:
    with torch.no_grad(), Seen() as seen:
        result = run(*args)
    return seen.calls, result


def test_each_binding_is_tried() -> None:
    assert CALLS.keys() == BINDINGS.keys() | _DETERMINED


@pytest.mark.parametrize(("name", "args"), [(name, args) for name in BINDINGS for args in CALLS[name]])
def test_binding_arrives_at_its_operator(name: str, args: tuple[Any, ...]) -> None:
    func = operator_of(name)
    direct, expected = arriving(func, args)
    bound, result = arriving(quickest(func, name), args)
    assert [call[0] for call in bound] == [func]
    assert bound == direct
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", BINDINGS)
def test_binding_raises_what_its_operator_raises(name: str) -> None:
    """Bad arguments are told from good ones alike: here a tensor on a device that the others are not on."""
    (first, *others) = CALLS[name][0]
    wrong = tree_map(lambda each: each.to("meta") if isinstance(each, torch.Tensor) else each, first)
    raised = []
    for run in (operator_of(name), quickest(operator_of(name), name)):
        try:
            run(wrong, *others)
            raised.append(None)
        except Exception as error:
            raised.append(type(error))
    assert raised[0] == raised[1]


def test_a_number_is_no_tensor() -> None:
    """Such a call resolves to another overload: it is of another name, which no binding is listed for."""
    (arrived, *_), _ = arriving(torch.mul, (M, 2))
    assert arrived[0] is torch.ops.aten.mul.Tensor
    assert "aten.mul.Scalar" not in BINDINGS


@pytest.mark.parametrize("name", sorted(_DETERMINED))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_not_looked_at_is_determined(name: str, dtype: torch.dtype) -> None:
    """Arguments that look alike, of other values and in another layout, give results that look alike."""
    func = operator_of(name)
    assert Operator(func, name, free=False, sums=False).determined
    for args in CALLS[name]:
        given = tree_map(lambda each: each.to(dtype) if isinstance(each, torch.Tensor) else each, args)
        other = tree_map(lambda each: strided(each) if isinstance(each, torch.Tensor) else each, given)
        assert looks_like(given, None, None) == looks_like(other, None, None)
        first, second = func(*given), func(*other)
        assert (first.shape, first.dtype) == (second.shape, second.dtype)


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """Other values in another layout."""
    return (-tensor).t().contiguous().t() if tensor.ndim == 2 else -tensor
