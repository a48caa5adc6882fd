"""What a real torch layer says of itself: shapes, parameters, gradients, the tensors that autograd keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchtally.theory.tensor import TensorSpec

from .brute import Grid, Result
from .holding import Truth


@dataclass
class Real:
    """One forward and backward pass of a torch layer."""

    output: Tensor
    upstream: Tensor
    parameters: dict[str, tuple[int, ...]]
    buffers: dict[str, tuple[int, ...]]
    input_gradients: list[Tensor | None]
    gradients: dict[str, Tensor]
    saved_bytes: int
    kept: list[tuple[tuple[int, ...], str]]


def numbers(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Small numbers, exactly representable, in no pattern that a swapped dimension would keep."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-32, 32, shape, generator=generator).to(dtype) / 8


def grid(tensor: Tensor) -> Grid:
    return Grid.of(tuple(tensor.shape), tensor.detach().double().flatten().tolist())


def tensor(values: Grid) -> Tensor:
    return torch.tensor(values.flat(), dtype=torch.float64).reshape(values.shape)


def agree(computed: Grid, expected: Tensor | None) -> bool:
    """Whether plain Python computed what torch did."""
    assert expected is not None
    close = 1e-9 if expected.dtype == torch.float64 else 1e-4
    return computed.shape == tuple(expected.shape) and torch.allclose(
        tensor(computed), expected.detach().double(), rtol=close, atol=close
    )


def observe(
    layer: nn.Module,
    *inputs: Tensor,
    call: Callable[..., Tensor] | None = None,
    pick: Callable[[object], Tensor] = lambda output: output,  # type: ignore[assignment, return-value]
) -> Real:
    """Run the layer once forward and once backward and note what it says.

    Saved bytes are of whole storages, each once, without those of parameters and buffers.
    """
    own = {t.untyped_storage().data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    storages: dict[int, int] = {}
    kept: list[tuple[tuple[int, ...], str]] = []
    alive = []

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
            kept.append((tuple(saved.shape), str(saved.dtype).removeprefix("torch.")))
            alive.append(saved)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        output = pick((call or layer)(*inputs))
    upstream = numbers(*output.shape, dtype=output.dtype, seed=99)
    if output.requires_grad:
        output.backward(upstream)
    return Real(
        output=output.detach(),
        upstream=upstream,
        parameters={name: tuple(p.shape) for name, p in layer.named_parameters()},
        buffers={name: tuple(b.shape) for name, b in layer.named_buffers()},
        input_gradients=[x.grad for x in inputs],
        gradients={name: p.grad for name, p in layer.named_parameters() if p.grad is not None},
        saved_bytes=sum(storages.values()),
        kept=kept,
    )


def filled(layer: nn.Module) -> nn.Module:
    """The layer with numbers that plain Python can follow exactly, each parameter with its own."""
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters(), 1):
            parameter.copy_(numbers(*parameter.shape, seed=seed))
    return layer


def same_computation(result: Result, seen: Real) -> bool:
    """Whether the count is of the right computation: its every number is torch's."""
    gradients = result.weight_gradients | result.bias_gradients

    def like(computed: Grid, expected: Tensor | None) -> bool:
        # The loops have a batch dimension where the real layer went without.
        same_size = expected is not None and expected.numel() == len(computed.at)
        return same_size and agree(computed, expected.reshape(computed.shape))

    return (
        like(result.output, seen.output)
        and all(map(like, result.input_gradients, seen.input_gradients))
        and gradients.keys() == seen.gradients.keys()
        and all(agree(value, seen.gradients[name]) for name, value in gradients.items())
    )


def observed(seen: Real, *inputs: Tensor, dtype: str | None = None, **stated: Any) -> Truth:
    """What the real layer showed of itself: everything but FLOPs."""
    return Truth(
        **{
            "output": tuple(seen.output.shape),
            "parameters": seen.parameters,
            "buffers": seen.buffers,
            "input_gradients": [None if x.grad is None else tuple(x.grad.shape) for x in inputs],
            "dtype": dtype or str(seen.output.dtype).removeprefix("torch."),
            "saved_bytes": seen.saved_bytes,
        }
        | stated
    )


def spec(x: Tensor) -> TensorSpec:
    return TensorSpec(tuple(x.shape), str(x.dtype).removeprefix("torch."))
