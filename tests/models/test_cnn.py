"""The walkthrough's CNN, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchtally.models import CNN, CNNConfig, GlobalAveragePooling, example


def made(**settings: Any) -> CNN:
    torch.manual_seed(0)
    return CNN(CNNConfig(**settings))


def shapes(model: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Module name -> output shape, in the order of the calls."""
    seen: dict[str, tuple[int, ...]] = {}
    handles = [
        module.register_forward_hook(lambda _, __, y, name=name: seen.__setitem__(name, tuple(y.shape)))
        for name, module in model.named_modules()
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": ()}, "at least 1"),
        ({"channels": (32, 0)}, "at least 1"),
        ({"in_channels": 0}, "at least 1"),
        ({"classes": -1}, "at least 1"),
        ({"kernel_size": 2}, "odd"),
        ({"kernel_size": 0}, "odd"),
        ({"kernel_size": -3}, "odd"),
        ({"convolution": "separable"}, "'separable'"),
        ({"resolution": (7, 7)}, "7x7.*at least 8"),
        ({"resolution": (32, 7)}, "32x7.*at least 8"),
        ({"resolution": (15, 15), "channels": (1, 1, 1, 1)}, "at least 16"),
    ],
)
def test_a_config_that_makes_no_network_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CNNConfig(**settings)


def test_a_config_is_frozen_and_its_defaults_are_the_walkthroughs() -> None:
    config = CNNConfig()
    with pytest.raises(AttributeError):
        config.classes = 3  # type: ignore[misc]
    assert (config.in_channels, config.channels, config.classes) == (3, (32, 64, 128), 10)
    assert (config.kernel_size, config.resolution, config.convolution) == (3, (32, 32), "standard")
    assert CNN().config == config


def test_modules_are_named_as_the_ledger_reads() -> None:
    names = [name for name, module in CNN().named_modules() if not list(module.children())]
    blocks = [f"block{b}.{layer}" for b in (1, 2, 3) for layer in ("conv", "batchnorm", "relu", "pool")]
    assert names == [*blocks, "gap", "fc"]


def test_shapes_at_32x32() -> None:
    n = 2
    assert shapes(made(), torch.ones(n, 3, 32, 32)) == {
        "block1.conv": (n, 32, 32, 32),
        "block1.batchnorm": (n, 32, 32, 32),
        "block1.relu": (n, 32, 32, 32),
        "block1.pool": (n, 32, 16, 16),
        "block1": (n, 32, 16, 16),
        "block2.conv": (n, 64, 16, 16),
        "block2.batchnorm": (n, 64, 16, 16),
        "block2.relu": (n, 64, 16, 16),
        "block2.pool": (n, 64, 8, 8),
        "block2": (n, 64, 8, 8),
        "block3.conv": (n, 128, 8, 8),
        "block3.batchnorm": (n, 128, 8, 8),
        "block3.relu": (n, 128, 8, 8),
        "block3.pool": (n, 128, 4, 4),
        "block3": (n, 128, 4, 4),
        "gap": (n, 128),
        "fc": (n, 10),
        "": (n, 10),
    }


def test_height_and_width_are_kept_apart() -> None:
    seen = shapes(made(resolution=(33, 47)), torch.ones(1, 3, 33, 47))
    assert [seen[f"block{b}.pool"] for b in (1, 2, 3)] == [(1, 32, 16, 23), (1, 64, 8, 11), (1, 128, 4, 5)]


def test_the_smallest_image() -> None:
    assert made(resolution=(8, 8)).eval()(torch.ones(1, 3, 8, 8)).shape == (1, 10)


def test_parameters_by_hand() -> None:
    held = {
        name: sum(p.numel() for p in module.parameters(recurse=False)) for name, module in CNN().named_modules() if name
    }
    assert {name: count for name, count in held.items() if count} == {
        "block1.conv": 32 * 3 * 9 + 32,
        "block1.batchnorm": 2 * 32,
        "block2.conv": 64 * 32 * 9 + 64,
        "block2.batchnorm": 2 * 64,
        "block3.conv": 128 * 64 * 9 + 128,
        "block3.batchnorm": 2 * 128,
        "fc": 128 * 10 + 10,
    }
    assert sum(held.values()) == 94_986


def test_depthwise_separable_parameters_by_hand() -> None:
    model = made(convolution="depthwise-separable")
    depthwise = (3 * 9 + 3) + (32 * 9 + 32) + (64 * 9 + 64)
    pointwise = (3 * 32 + 32) + (32 * 64 + 64) + (64 * 128 + 128)
    rest = 2 * (32 + 64 + 128) + 1290
    assert sum(p.numel() for p in model.parameters()) == depthwise + pointwise + rest
    assert model.get_submodule("block2.depthwise").groups == 32
    assert [name for name, _ in model.get_submodule("block1").named_children()] == [
        "depthwise",
        "pointwise",
        "batchnorm",
        "relu",
        "pool",
    ]
    assert shapes(model, torch.ones(2, 3, 32, 32))["block2.depthwise"] == (2, 32, 16, 16)


def test_other_kernels_and_depths() -> None:
    model = made(in_channels=1, channels=(4, 6), classes=3, kernel_size=5, resolution=(9, 4))
    assert model(torch.ones(2, 1, 9, 4)).shape == (2, 3)
    assert sum(p.numel() for p in model.parameters()) == (4 * 25 + 4 + 8) + (6 * 4 * 25 + 6 + 12) + (6 * 3 + 3)


def test_global_average_pooling() -> None:
    x = torch.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    assert GlobalAveragePooling()(x).tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]


def loss_and_gradients(model: CNN) -> tuple[Tensor, dict[str, Tensor]]:
    x, y = example(model.config, 4)
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("variant", [{"in_place": True}, {"checkpoint": True}, {"in_place": True, "checkpoint": True}])
def test_variants_compute_the_same(variant: dict[str, Any]) -> None:
    expected_loss, expected = loss_and_gradients(made())
    loss, gradients = loss_and_gradients(made(**variant))
    assert torch.equal(loss, expected_loss)
    assert gradients.keys() == expected.keys()
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)


def test_in_place_is_in_place() -> None:
    assert all(m.inplace for m in made(in_place=True).modules() if isinstance(m, nn.ReLU))
    assert not any(m.inplace for m in made().modules() if isinstance(m, nn.ReLU))


def test_checkpointing_runs_every_block_a_second_time_in_backward() -> None:
    model = made(checkpoint=True)
    calls: list[str] = []
    model.block2.conv.register_forward_hook(lambda *_: calls.append("conv"))
    loss_and_gradients(model)
    assert len(calls) == 2
    with torch.no_grad():
        model(torch.ones(1, 3, 32, 32))
    assert len(calls) == 3


def test_the_example_is_the_same_for_a_seed() -> None:
    config = CNNConfig(in_channels=2, resolution=(8, 9), classes=4)
    state = torch.get_rng_state()
    images, labels = example(config, 50)
    again, labels_again = example(config, 50)
    other, _ = example(config, 50, seed=1)
    assert images.shape == (50, 2, 8, 9) and images.dtype == torch.float32
    assert labels.shape == (50,) and set(labels.tolist()) == {0, 1, 2, 3}
    assert torch.equal(images, again) and torch.equal(labels, labels_again)
    assert not torch.equal(images, other)
    assert torch.equal(torch.get_rng_state(), state), "the process's own random numbers are left alone"


def test_the_example_goes_where_it_is_asked_to() -> None:
    images, labels = example(CNNConfig(), 1, device="meta")
    assert images.device.type == labels.device.type == "meta"
