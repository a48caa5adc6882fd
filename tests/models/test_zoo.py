"""Models by name: what torchvision's are called with, and what a name can be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from torchtally.models import zoo
from torchtally.models.zoo import TargetError


@pytest.mark.parametrize("name", torchvision.models.list_models())
def test_every_model_has_an_input_size(name: str) -> None:
    height, width = zoo._size(name, zoo._family(name))
    assert 64 <= min(height, width) <= max(height, width) <= 1024


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet50", [(2, 3, 224, 224)]),
        ("inception_v3", [(2, 3, 299, 299)]),
        ("efficientnet_b7", [(2, 3, 600, 600)]),
        ("fcn_resnet50", [(2, 3, 520, 520)]),
        ("r3d_18", [(2, 3, 16, 112, 112)]),
        ("raft_small", [(2, 3, 520, 960)] * 2),
    ],
)
def test_inputs_are_those_of_its_weights(name: str, shapes: list[tuple[int, ...]]) -> None:
    inputs = zoo.torchvision_inputs(name, nn.Identity(), 2)
    assert [tuple(tensor.shape) for tensor in inputs] == shapes


@pytest.mark.parametrize(
    ("name", "more"), [("maskrcnn_resnet50_fpn", "masks"), ("keypointrcnn_resnet50_fpn", "keypoints")]
)
def test_detection_learns_from_boxes(name: str, more: str) -> None:
    images, targets = zoo.torchvision_inputs(name, nn.Identity().train(), 3)
    assert len(images) == len(targets) == 3 and {"boxes", "labels", more} == set(targets[0])
    assert len(zoo.torchvision_inputs(name, nn.Identity().eval(), 3)) == 1


def test_a_detector_is_made_without_a_download_and_takes_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("fetched"))
    monkeypatch.setattr(zoo, "SIZES", {"detection": (64, 64)})
    model = zoo.torchvision_model("ssdlite320_mobilenet_v3_large")
    losses = model(*zoo.torchvision_inputs("ssdlite320_mobilenet_v3_large", model, 2))
    assert all(isinstance(loss, Tensor) for loss in losses.values())


def test_names_that_are_none() -> None:
    with pytest.raises(TargetError, match=r"no model 'resnet5'; did you mean resnet50"):
        zoo.torchvision_model("resnet5")
    with pytest.raises(TargetError, match=r"no model 'zzzz'$"):
        zoo.torchvision_model("zzzz")
    for target in ("", ":", "a:", ":a", "resnet50"):
        with pytest.raises(TargetError, match="is no target"):
            zoo.split(target)


def test_errors_inside_a_module_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo_test_broken.py").write_text("import zoo_test_missing\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ModuleNotFoundError, match="zoo_test_missing"):
        zoo.factory("zoo_test_broken:build")
    with pytest.raises(TargetError, match=r"no module 'zoo_test_broken.inner'"):
        (tmp_path / "zoo_test_broken.py").write_text("")
        zoo.factory("zoo_test_broken.inner:build")


def test_a_factory_may_be_inside_something() -> None:
    assert zoo.factory("collections:OrderedDict.fromkeys")("ab") == {"a": None, "b": None}


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (lambda batch_size: 0, True),
        (lambda *, batch_size=3: 0, True),
        (lambda **settings: 0, True),
        (lambda: 0, False),
        (lambda *batch_size: 0, False),
        (nn.Linear, False),
    ],
)
def test_what_takes_a_batch_size(function: object, answer: bool) -> None:
    assert zoo.takes(function, "batch_size") is answer  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "value"), [("int64", 0), ("uint8", 0), ("bool", True)])
def test_made_inputs_that_are_no_noise(dtype: str, value: object) -> None:
    made = zoo.made_input((2, 3), dtype)
    assert made.shape == (2, 3) and made.dtype == getattr(torch, dtype) and bool((made == value).all())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_made_inputs_are_the_same_every_time(dtype: str) -> None:
    state = torch.get_rng_state()
    assert torch.equal(zoo.made_input((4,), dtype), zoo.made_input((4,), dtype))
    assert torch.equal(state, torch.get_rng_state())
