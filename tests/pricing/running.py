"""A function run once under the dispatcher and priced, and the same by FlopCounterMode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import torchtally
from torchtally.profiler.formulas import Price
from torchtally.profiler.pricing import PRICES
from torchtally.profiler.records import Signature
from torchtally.theory.tensor import TensorSpec


class Calls(nn.Module):
    """A module that calls a function, and holds the modules that it uses."""

    def __init__(self, function: Callable[..., Any], *used: nn.Module) -> None:
        super().__init__()
        self.function, self.used = function, nn.ModuleList(used)

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


@dataclass(frozen=True)
class Counted:
    """What ran, forward and backward; gradient sums of the engine apart."""

    forward: Price
    backward: Price
    unpriced: tuple[str, ...]
    operators: tuple[Signature, ...]
    fcm: tuple[int, int]

    def of(self, *names: str) -> Price:
        """The price of the operators whose names contain one of these."""
        return total(
            PRICES.price(signature) for signature in self.operators if any(name in signature.operator for name in names)
        )

    @property
    def names(self) -> set[str]:
        return {signature.operator.split(".")[1] for signature in self.operators if "." in signature.operator}


def total(prices: Iterable[Price | None]) -> Price:
    return Price(*map(sum, zip(Price(), *(price for price in prices if price is not None), strict=True)))


def count(function: Callable[..., Any], *inputs: Any, backward: bool = True) -> Counted:
    """Forward, and the sum of all floating outputs backward if it needs a gradient."""
    model = Calls(function, *([function] if isinstance(function, nn.Module) else []))
    with torchtally.profile(model) as run:
        _step(model, inputs, backward, lambda: None)
    fcm: list[int] = []
    with FlopCounterMode(display=False) as counter:
        _step(model, inputs, backward, lambda: fcm.append(counter.get_total_flops()))
    operators, rows = run.trace.operators, run.ledger.rows
    return Counted(
        forward=_sum(row for row in rows if row.phase == "forward"),
        backward=_sum(row for row in rows if row.phase == "backward"),
        unpriced=tuple(entry.operator for entry in run.coverage.unpriced),
        operators=tuple(facts.signature for facts in operators for _ in range(facts.times)),
        fcm=(fcm[0], counter.get_total_flops() - fcm[0]),
    )


def _sum(rows: Iterable[Any]) -> Price:
    """Of rows of the ledger; where nothing ran a row has no figures."""
    kept = [row for row in rows if row.flops is not None]
    return total(Price(row.flops, row.matmul_flops, row.bias_flops) for row in kept)


def _step(model: nn.Module, inputs: tuple[Any, ...], backward: bool, between: Callable[[], None]) -> None:
    torch.manual_seed(0)
    result = model(*inputs)
    between()
    real = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.requires_grad]
    if backward and real:
        # Each output's own gradient, dense: sums would add operators of their own.
        torch.autograd.backward(real, [torch.ones(leaf.shape, dtype=leaf.dtype, device=leaf.device) for leaf in real])


def priced(operator: str, *arguments: Any, outputs: Iterable[TensorSpec] = (), **keywords: Any) -> Price:
    """The price of a signature written by hand."""
    price = PRICES.price(Signature(operator, arguments, keywords, tuple(outputs)))
    assert price is not None, f"{operator} has no price"
    return price


def tensor(*shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(shape, dtype)


def numbers(*shape: int, grad: bool = True, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(shape, generator=generator, dtype=dtype).requires_grad_(grad)
