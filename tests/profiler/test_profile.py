"""The walkthrough's CNN, really run: every figure against the walkthrough's own integers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import torchtally
from torchtally import Profile
from torchtally.models import CNN, CNNConfig, example

from .running import flops, places

N = 32
ISSUE_COLUMNS = (
    "path, type, phase, calls, input_shape, output_shape, parameters, parameter_bytes, activation_bytes, gradient_bytes"
).split(", ")


def cnn_run(n: int = N, *, backward: bool = True, optimize: bool = False, **settings: Any) -> Profile:
    torch.manual_seed(0)
    model = CNN(CNNConfig(**settings))
    x, y = example(model.config, n)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torchtally.profile(model) as run:
        loss = nn.functional.cross_entropy(model(x), y)
        if backward:
            loss.backward()
        if optimize:
            optimizer.step()
    return run


@pytest.fixture(scope="module")
def run() -> Profile:
    return cnn_run(optimize=True)


# path: input, output, parameters, FLOPs of which products. All for N = 32, images of 3 x 32 x 32, float32.
FORWARD = {
    "block1.conv": ((32, 3, 32, 32), (32, 32, 32, 32), 896, 56_623_104, 56_623_104),
    "block1.batchnorm": ((32, 32, 32, 32), (32, 32, 32, 32), 64, 5_242_880, 0),
    "block1.relu": ((32, 32, 32, 32), (32, 32, 32, 32), 0, 1_048_576, 0),
    "block1.pool": ((32, 32, 32, 32), (32, 32, 16, 16), 0, 1_048_576, 0),
    "block2.conv": ((32, 32, 16, 16), (32, 64, 16, 16), 18_496, 301_989_888, 301_989_888),
    "block2.batchnorm": ((32, 64, 16, 16), (32, 64, 16, 16), 128, 2_621_440, 0),
    "block2.relu": ((32, 64, 16, 16), (32, 64, 16, 16), 0, 524_288, 0),
    "block2.pool": ((32, 64, 16, 16), (32, 64, 8, 8), 0, 524_288, 0),
    "block3.conv": ((32, 64, 8, 8), (32, 128, 8, 8), 73_856, 301_989_888, 301_989_888),
    "block3.batchnorm": ((32, 128, 8, 8), (32, 128, 8, 8), 256, 1_310_720, 0),
    "block3.relu": ((32, 128, 8, 8), (32, 128, 8, 8), 0, 262_144, 0),
    "block3.pool": ((32, 128, 8, 8), (32, 128, 4, 4), 0, 262_144, 0),
    "gap": ((32, 128, 4, 4), (32, 128), 0, 65_536, 0),
    "fc": ((32, 128), (32, 10), 1_290, 81_920, 81_920),
}
# Backward FLOPs, products among them, and apart from both the convolution's bias additions.
BACKWARD = {
    "block1.conv": (56_623_104, 56_623_104, 1_048_576),  # the weight's alone: the images need no gradient
    "block1.batchnorm": (5_242_880, 0, 0),
    "block1.relu": (1_048_576, 0, 0),
    "block1.pool": (1_048_576, 0, 0),
    "block2.conv": (603_979_776, 603_979_776, 524_288),
    "block2.batchnorm": (2_621_440, 0, 0),
    "block2.relu": (524_288, 0, 0),
    "block2.pool": (524_288, 0, 0),
    "block3.conv": (603_979_776, 603_979_776, 262_144),
    "block3.batchnorm": (1_310_720, 0, 0),
    "block3.relu": (262_144, 0, 0),
    "block3.pool": (262_144, 0, 0),
    "gap": (65_536, 0, 0),
    "fc": (164_160, 163_840, 0),
}
BYTES = {
    "block1": [4_194_304, 4_194_304, 4_194_304, 1_048_576],
    "block2": [2_097_152, 2_097_152, 2_097_152, 524_288],
    "block3": [1_048_576, 1_048_576, 1_048_576, 262_144],
}


@pytest.mark.parametrize("path", FORWARD)
def test_a_layer_forward(run: Profile, path: str) -> None:
    row = run.ledger.row(path)
    given, made, parameters, all_flops, products = FORWARD[path]
    assert (row.calls, row.input_shape, row.output_shape) == (1, given, made)
    assert (row.parameters, row.parameter_bytes) == (parameters, 4 * parameters)
    assert (row.flops, row.matmul_flops) == (all_flops, products)
    assert row.gradient_bytes is None


@pytest.mark.parametrize("path", BACKWARD)
def test_a_layer_backward(run: Profile, path: str) -> None:
    row = run.ledger.row(path, "backward")
    given, made, parameters, *_ = FORWARD[path]
    needs = path != "block1.conv"
    assert row.output_shape == made
    assert row.input_shape == (given if needs else None)
    elements = torch.Size(given).numel()
    assert row.gradient_bytes == (4 * elements if needs else 0)
    assert row.parameter_gradient_bytes == 4 * parameters
    assert (row.flops, row.matmul_flops, row.bias_flops) == BACKWARD[path]
    assert row.parameters is row.activation_bytes is None


def test_activation_bytes(run: Profile) -> None:
    for block, expected in BYTES.items():
        layers = [run.ledger.row(f"{block}.{layer}") for layer in ("conv", "batchnorm", "relu", "pool")]
        assert [row.activation_bytes for row in layers] == expected
        assert run.ledger.row(block).activation_bytes == 0, "a container makes nothing itself"
    assert run.ledger.row("gap").activation_bytes == 16_384
    assert run.ledger.row("fc").activation_bytes == 1_280


def test_totals(run: Profile) -> None:
    expected = {
        "parameters": 94_986,
        "parameter_bytes": 379_944,
        "forward_flops": 673_595_392,
        "forward_matmul_flops": 660_684_800,
        "backward_flops": 1_277_657_408,
        "backward_matmul_flops": 1_264_746_496,
        "activation_bytes": 23_872_768,
        "gradient_bytes": 23_871_488,  # the activations' without the logits', whose gradient is the loss's to make
        "parameter_gradient_bytes": 379_944,
        "loss_flops": 2 * (5 * N * 10 + N),  # log-softmax and one pick per label, there and back
        "loss_matmul_flops": 0,
        "optimizer_flops": 94_986,  # plain SGD: one addition of a scaled gradient
        "optimizer_matmul_flops": 0,
    }
    assert {name: run.totals[name] for name in expected} == expected
    assert run.coverage.complete and run.coverage.share == 1.0


def test_rows_are_exclusive_and_add_up(run: Profile) -> None:
    assert flops(run, "forward") == {path: row[3] for path, row in FORWARD.items()}
    assert flops(run, "backward") == {path: row[0] for path, row in BACKWARD.items()}
    assert sum(row[3] for row in FORWARD.values()) == run.totals["forward_flops"]
    assert sum(row[0] for row in BACKWARD.values()) == run.totals["backward_flops"]


def test_the_run_compares_with_its_closed_forms(run: Profile) -> None:
    comparison = run.compare()
    assert comparison.ok
    assert set(run.layers) == set(FORWARD) - {"gap"}


# The table ------------------------------------------------------------------------------------------------------------


def test_the_frame(run: Profile) -> None:
    frame = run.to_frame()
    assert list(frame.columns[: len(ISSUE_COLUMNS)]) == ISSUE_COLUMNS
    assert {"flops", "matmul_flops", "bias_flops", "parameter_gradient_bytes"} <= set(frame.columns)
    assert not frame.duplicated(["path", "phase"]).any()
    row = frame.set_index(["path", "phase"]).loc[("block2.conv", "forward")]
    assert row["type"] == "Conv2d"
    assert row["input_shape"] == (32, 32, 16, 16)
    assert row["flops"] == 301_989_888


INTEGERS = ["calls", "parameters", "parameter_bytes", "activation_bytes", "gradient_bytes", "flops", "matmul_flops"]


@pytest.mark.parametrize("backward", [True, False])
def test_missing_is_not_zero_in_the_frame(backward: bool) -> None:
    frame = cnn_run(1, backward=backward).to_frame()
    assert {str(frame[name].dtype) for name in INTEGERS} == {"Int64"}
    forward = frame[frame.phase == "forward"]
    assert forward.gradient_bytes.isna().all()
    assert not forward[["calls", "parameters", "activation_bytes", "flops"]].isna().any().any()
    if backward:
        later = frame[frame.phase == "backward"]
        assert later[["calls", "parameters", "parameter_bytes", "activation_bytes"]].isna().all().all()
        assert later.loc[later.path == "block1.conv", "gradient_bytes"].item() == 0
        assert later.loc[later.path == "block1.conv", "input_shape"].item() is None


def test_the_frames_sums_are_the_totals(run: Profile) -> None:
    sums: pd.DataFrame = run.to_frame().groupby("phase")[["flops", "matmul_flops"]].sum()
    assert sums.loc["forward"].tolist() == [673_595_392, 660_684_800]
    assert sums.loc["backward"].tolist() == [1_277_657_408, 1_264_746_496]


def test_what_is_printed(run: Profile) -> None:
    text = str(run)
    for words in (
        "block1",
        "conv",
        "32x32x16x16",
        "94,986",
        "22.8 MiB",
        "673.6 M",
        "1.28 G",
        "1 multiply-add = 2 FLOPs",
    ):
        assert words in text
    assert ">=" not in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100


# Parts of a step ------------------------------------------------------------------------------------------------------


def test_a_forward_without_a_backward() -> None:
    run = cnn_run(backward=False)
    assert run.totals["forward_flops"] == 673_595_392
    assert not places(run, "backward")
    assert not [name for name in run.totals if name.startswith(("backward", "gradient", "parameter_gradient"))]
    assert set(run.to_frame().phase) == {"forward", "loss"}
    assert run.compare().ok


def test_an_empty_block() -> None:
    with torchtally.profile(CNN()) as run:
        pass
    assert run.totals == {"parameters": 94_986, "parameter_bytes": 379_944}
    frame = run.to_frame()
    assert frame.calls.eq(0).all()
    assert frame[["flops", "matmul_flops", "activation_bytes"]].isna().all().all()
    assert "94,986" in str(run)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gradients", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_one_number_in_every_mode(training: bool, gradients: Any) -> None:
    model = CNN().train(training)
    x, _ = example(model.config, N)
    with gradients(), torchtally.profile(model) as run:
        model(x)
    assert flops(run, "forward") == {path: row[3] for path, row in FORWARD.items()}
    assert run.totals["forward_matmul_flops"] == 660_684_800
    assert run.totals["activation_bytes"] == 23_872_768
    assert run.coverage.complete


def test_modes_entered_inside_the_block() -> None:
    model = CNN()
    x, _ = example(model.config, N)
    with torchtally.profile(model) as run:
        with torch.no_grad():
            model(x)
        with torch.inference_mode():
            model(x)
    assert run.totals["forward_flops"] == 2 * 673_595_392
    assert not places(run, "backward")


def test_several_steps_add_up() -> None:
    model = CNN()
    x, y = example(model.config, N)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps = 3
    with torchtally.profile(model) as run:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert run.ledger.row("block2.conv").calls == steps
    assert run.totals["forward_flops"] == steps * 673_595_392
    assert run.totals["backward_flops"] == steps * 1_277_657_408
    assert run.totals["optimizer_flops"] == steps * 94_986
    assert run.totals["activation_bytes"] == steps * 23_872_768
    assert run.totals["gradient_bytes"] == steps * 23_871_488
    assert run.totals["parameters"] == 94_986
    assert "accumulation_flops" not in run.totals or run.totals["accumulation_flops"] == 0


def test_accumulated_gradients_are_additions_of_their_own() -> None:
    model = CNN()
    x, y = example(model.config, N)
    with torchtally.profile(model) as run:
        for _ in range(3):
            nn.functional.cross_entropy(model(x), y).backward()
    assert run.totals["accumulation_flops"] == 2 * 94_986
    assert run.totals["backward_flops"] == 3 * 1_277_657_408
    assert flops(run, "accumulation")["block2.conv"] == 2 * 18_496


def test_in_place_changes_no_figure() -> None:
    plain, in_place = cnn_run(4), cnn_run(4, in_place=True)
    assert in_place.ledger.rows == plain.ledger.rows
    assert in_place.compare().ok


def test_checkpointing_is_recomputation_apart_from_the_models_own_work() -> None:
    run = cnn_run(checkpoint=True)
    assert run.totals["forward_flops"] == 673_595_392
    assert run.totals["backward_flops"] == 1_277_657_408
    blocks = {path: row[3] for path, row in FORWARD.items() if path.startswith("block")}
    assert flops(run, "recompute") == blocks
    assert run.totals["recompute_flops"] == sum(blocks.values()) == 673_447_936
    assert run.totals["gradient_bytes"] == 23_871_488
    assert run.ledger.row("block2.conv", "recompute").calls == 1
    assert run.ledger.row("block2.conv").calls == 1
    assert run.ledger.row("block2.conv", "recompute").parameters is None, "held once, not twice"
    assert "accumulation_flops" not in run.totals or run.totals["accumulation_flops"] == 0


def test_height_and_width_are_kept_apart() -> None:
    run = cnn_run(2, resolution=(33, 47))
    assert run.ledger.row("block1.pool").output_shape == (2, 32, 16, 23)
    assert run.ledger.row("block2.conv", "backward").input_shape == (2, 32, 16, 23)
    assert run.ledger.row("block2.conv").flops == 2 * (2 * 64 * 16 * 23) * (32 * 9)


def test_depthwise_separable() -> None:
    run = cnn_run(2, convolution="depthwise-separable")
    depthwise, pointwise = (run.ledger.row(f"block2.{name}", "backward") for name in ("depthwise", "pointwise"))
    pixels = 2 * 16 * 16
    assert depthwise.matmul_flops == 2 * (2 * pixels * 32 * 9), "each group on its own: the weight's and the input's"
    assert pointwise.matmul_flops == 2 * (2 * pixels * 32 * 64)
    assert run.totals["parameters"] == 13_288


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.functional.cross_entropy])
def test_the_loss_is_apart_as_module_and_as_function(loss: Any) -> None:
    model = CNN()
    x, y = example(model.config, N)
    with torchtally.profile(model) as run:
        loss(model(x), y).backward()
    assert run.totals["loss_flops"] == 3_264
    assert run.totals["backward_flops"] == 1_277_657_408


def test_a_loss_inside_the_model_is_the_models() -> None:
    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.criterion = CNN(), nn.CrossEntropyLoss()

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.criterion(self.net(x), y)

    model = WithLoss()
    with torchtally.profile(model) as run:
        model(*example(CNNConfig(), N)).backward()
    assert run.ledger.row("criterion").flops == run.ledger.row("criterion", "backward").flops == 5 * N * 10 + N
    assert run.totals["forward_flops"] == 673_595_392 + 5 * N * 10 + N
    assert not run.totals.get("loss_flops")


@pytest.mark.parametrize(
    ("make", "each"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), 1),  # p -= lr g
        (lambda p: torch.optim.SGD(p, lr=0.1, foreach=False), 1),
        (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1), 2),  # g + wd p
    ],
)
def test_the_optimizer_is_apart(make: Any, each: int) -> None:
    model = CNN()
    optimizer = make(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with torchtally.profile(model) as run:
        optimizer.step()
    assert run.totals["optimizer_flops"] == each * 94_986
    assert places(run, "optimizer") == [""]


def test_a_closure_runs_the_model_inside_the_optimizer() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1)
    x = torch.ones(5, 3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        return loss

    with torchtally.profile(model) as run:
        optimizer.step(closure)
    assert run.ledger.row("").calls == 1
    assert run.totals["forward_flops"] == 2 * 5 * 3 * 2
    assert run.totals["backward_matmul_flops"] == 2 * 5 * 3 * 2


def test_other_work_in_the_block_is_outside() -> None:
    model = nn.Linear(3, 2)
    with torchtally.profile(model) as run:
        x = torch.ones(5, 3) * 2.0
        model(x)
    assert run.totals["outside_flops"] == 5 * 3
    assert run.totals["forward_flops"] == 2 * 5 * 3 * 2


def test_another_model_in_the_block_is_not_this_ones() -> None:
    """A GAN's two halves: each run names its own, and nests with the other's."""
    ours, theirs = nn.Linear(3, 2), nn.Linear(2, 7)
    x = torch.ones(5, 3)
    with torchtally.profile(ours) as first, torchtally.profile(theirs) as second:
        theirs(ours(x)).sum().backward()
    assert first.totals["forward_flops"] == 2 * 5 * 3 * 2
    assert first.totals["backward_matmul_flops"] == 2 * 5 * 3 * 2
    assert second.totals["forward_flops"] == 2 * 5 * 2 * 7
    assert second.totals["backward_matmul_flops"] == 2 * (2 * 5 * 2 * 7)


def test_runs_of_one_model_follow_one_another_and_nest() -> None:
    model = CNN()
    x, _ = example(model.config, N)
    with torchtally.profile(model) as outer:
        model(x)
        with torchtally.profile(model.block2) as inner:
            model(x)
    assert outer.totals["forward_flops"] == 2 * 673_595_392
    assert inner.totals["forward_flops"] == 301_989_888 + 2_621_440 + 2 * 524_288
    with torchtally.profile(model) as again:
        model(x)
    assert again.totals["forward_flops"] == 673_595_392
