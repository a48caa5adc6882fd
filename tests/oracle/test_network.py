"""Chains of layers, frozen here and there, against a real step; optimizers against their real state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import torchtally.theory as theory
from torchtally.theory.tensor import TensorSpec

from .cases import examples
from .real import numbers, spec


@dataclass
class Chain:
    """The same layers twice: torch's and theory's."""

    shape: tuple[int, ...]
    modules: list[nn.Module] = field(default_factory=list)
    layers: list[Any] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)
    input_requires_grad: bool = False

    def add(self, module: nn.Module, layer: Any) -> None:
        self.modules.append(module)
        self.layers.append(layer)


def conv(draw: st.DrawFn, channels: int) -> tuple[nn.Module, Any]:
    out, kernel, bias = (
        draw(st.integers(1, 4)),
        draw(st.sampled_from([(1, 1), (3, 1), (1, 3), (3, 3)])),
        draw(st.booleans()),
    )
    settings: dict[str, Any] = {
        "kernel_size": kernel,
        "padding": (kernel[0] // 2, kernel[1] // 2),
        "bias": bias,
    }
    return nn.Conv2d(channels, out, **settings), theory.Conv2d(in_channels=channels, out_channels=out, **settings)


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    channels, height, width = (draw(st.integers(least, 8)) for least in (1, 4, 4))
    chain = Chain(shape=(draw(st.integers(2, 3)), channels, height, width))
    x = torch.zeros(chain.shape, device="meta")
    for kind in draw(
        st.lists(st.sampled_from(["conv", "conv", "norm", "relu", "pool", "dropout"]), min_size=1, max_size=6)
    ):
        if kind == "conv":
            chain.add(*conv(draw, x.shape[1]))
        elif kind == "norm":
            chain.add(nn.BatchNorm2d(x.shape[1]), theory.BatchNorm(num_features=x.shape[1]))
        elif kind == "relu":
            chain.add(nn.ReLU(), theory.ReLU())
        elif kind == "dropout":
            chain.add(nn.Dropout(0.5), theory.Dropout(p=0.5))
        elif min(x.shape[2:]) > 1:
            chain.add(nn.MaxPool2d(2), theory.MaxPool2d(kernel_size=2))
        x = nn.Sequential(*chain.modules).to("meta")(torch.zeros(chain.shape, device="meta"))
    if not chain.modules or draw(st.booleans()):
        chain.add(nn.Flatten(), theory.Flatten())
        features, out = x[0].numel(), draw(st.integers(1, 5))
        chain.add(nn.Linear(features, out), theory.Linear(in_features=features, out_features=out))
    for module in chain.modules:
        module.to_empty(device="cpu")
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.detach().fill_(1)
    names = [name for name, _ in nn.Sequential(*chain.modules).named_parameters()]
    owners = sorted({name.split(".")[0] for name in names})
    choices = st.lists(st.sampled_from(names + owners), unique=True) if names else st.just([])
    chain.frozen = draw(st.one_of(st.just([]), choices))
    chain.input_requires_grad = draw(st.booleans())
    return chain


@examples(80)
@given(chains())
def test_a_real_step(chain: Chain) -> None:
    """By row: shapes, whether there is a backward, which gradients; in total, the dispatcher's products."""
    network = theory.Network(tuple(theory.Named(str(i), layer) for i, layer in enumerate(chain.layers)))
    predicted = network.predict(
        TensorSpec(chain.shape), input_requires_grad=chain.input_requires_grad, frozen=chain.frozen
    )
    model = nn.Sequential(*chain.modules)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in chain.frozen and name.split(".")[0] not in chain.frozen)
    x = numbers(*chain.shape, dtype=torch.float32).requires_grad_(chain.input_requires_grad)
    values = [x]
    with FlopCounterMode(display=False) as counted:
        for module in model:
            values.append(module(values[-1]))
            if values[-1].requires_grad:
                values[-1].retain_grad()
    forward = counted.get_total_flops()
    with FlopCounterMode(display=False) as counted:
        if values[-1].requires_grad:
            values[-1].backward(numbers(*values[-1].shape, dtype=torch.float32))
    backward = counted.get_total_flops()

    for row, module, before, after in zip(predicted, model, values, values[1:], strict=False):
        assert (row.input, row.output) == (spec(before), spec(after)), row.path
        assert (row.backward is not None) == after.requires_grad, row.path
        if row.backward is None:
            assert row.saved == ()
            assert row.totals.backward == theory.Cost()
            continue
        (gradient,) = row.backward.input_gradients
        assert gradient == (None if before.grad is None else spec(before.grad)), row.path
        assert {p.name: p.shape for p in row.backward.parameter_gradients} == {
            name: tuple(p.shape) for name, p in module.named_parameters() if p.grad is not None
        }, row.path
    totals = predicted.totals
    assert totals.forward_matmul_flops == forward
    assert totals.backward_matmul_flops == backward
    assert totals.parameters == sum(p.numel() for p in model.parameters())
    assert totals.parameter_bytes == sum(p.nbytes for p in model.parameters())
    assert totals.buffer_bytes == sum(b.nbytes for b in model.buffers())
    assert totals.activation_bytes == sum(value.nbytes for value in values[1:])
    assert totals.gradient_bytes == sum(v.grad.nbytes for v in values[:-1] if v.grad is not None)
    assert totals.parameter_gradient_bytes == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)


def test_a_wrong_chain_is_found() -> None:
    """The dispatcher's total tells whether a first layer computes its input's gradient."""
    layer = theory.Conv2d(in_channels=3, out_channels=4, kernel_size=3)
    network = theory.Network((theory.Named("0", layer),))
    x = TensorSpec((2, 3, 8, 8))
    with FlopCounterMode(display=False) as counted:
        y = nn.Conv2d(3, 4, 3)(torch.zeros(x.shape))
    with FlopCounterMode(display=False) as counted:
        y.sum().backward()
    assert network.predict(x).totals.backward_matmul_flops == counted.get_total_flops()
    assert network.predict(x, input_requires_grad=True).totals.backward_matmul_flops != counted.get_total_flops()


OPTIMIZERS = {
    "SGD": (torch.optim.SGD, theory.SGD, {}),
    "SGD with momentum": (torch.optim.SGD, theory.SGD, {"momentum": 0.9}),
    "Adam": (torch.optim.Adam, theory.Adam, {}),
    "AMSGrad": (torch.optim.Adam, theory.Adam, {"amsgrad": True}),
    "AdamW": (torch.optim.AdamW, theory.AdamW, {}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_state(name: str, dtype: str) -> None:
    """Every tensor kept after a step, by name, shape and dtype."""
    real, closed, settings = OPTIMIZERS[name]
    model = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(2, 3, (1, 2), bias=False)).to(getattr(torch, dtype))
    optimizer, form = real(model.parameters(), lr=0.1, **settings), closed(**settings)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    total = 0
    described = []
    for parameter in model.parameters():
        kept = {key: value for key, value in optimizer.state[parameter].items() if torch.is_tensor(value)}
        described.append(theory.Parameter("any", tuple(parameter.shape), dtype))
        stated = {each.name: TensorSpec(each.shape, each.dtype) for each in form.state(described[-1])}
        assert stated == {key: spec(value) for key, value in kept.items()}
        total += sum(value.nbytes for value in kept.values())
    assert theory.optimizers.state_bytes(form, described) == total
