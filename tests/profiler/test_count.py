"""The quick count's arguments, what fake tensors cannot know, and what a comparison says where it has nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchtally
from torchtally.profiler.errors import UsageError

from .running import Calling, step

T, N, C, H = 5, 2, 8, 6


# Keywords that the model and the count both have ---------------------------------------------------------------------


class Sized(nn.Module):
    """Its keywords are called as some of count()'s are."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Linear(C, H), nn.Linear(C, C)

    def forward(self, x: Tensor, *, device: str = "", backward: str = "", kwargs: Tensor | None = None) -> Tensor:
        assert (device, backward) == ("somewhere", "never")
        return self.narrow(x) if kwargs is None else self.wide(x + kwargs)


def test_keywords_that_count_has_too() -> None:
    """The model's own go into `kwargs`, tensors among them; count's are read beside them."""
    given: dict[str, Any] = {"device": "somewhere", "backward": "never"}
    run = torchtally.count(Sized(), torch.rand(N, C), backward=False, kwargs=given)
    assert run.totals["forward_matmul_flops"] == 2 * N * C * H
    assert "backward_matmul_flops" not in run.totals
    on_fake = torchtally.count(Sized(), torch.rand(N, C), device="meta", kwargs={**given, "kwargs": torch.rand(N, C)})
    assert on_fake.totals["forward_matmul_flops"] == 2 * N * C * C
    assert on_fake.totals["backward_matmul_flops"] == 2 * N * C * C


def test_a_keyword_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="mask: given by name and in kwargs"):
        torchtally.count(Sized(), torch.rand(N, C), mask=None, kwargs={"mask": None})


# What has no size on fake tensors ------------------------------------------------------------------------------------


def test_an_lstm_on_fake_tensors_says_what_it_leaves_out() -> None:
    """The kernel's workspace is as large as the kernel says, and a fake one says nothing. FLOPs are the same."""
    model, x = Calling(lambda self, x: self.it(x)[0], it=nn.LSTM(C, H)), torch.rand(T, N, C)
    real, fake = torchtally.count(model, x), torchtally.count(model, x, device="meta")
    workspace = sum(
        facts.signature.outputs[3].nbytes
        for facts in real.trace.operators
        if facts.signature.operator == "aten.mkldnn_rnn_layer.default"
    )
    assert real.coverage.notes == ()
    assert real.totals["saved_bytes"] - fake.totals["saved_bytes"] == workspace
    for phase in ("forward", "backward"):
        assert real.totals[f"{phase}_flops"] == fake.totals[f"{phase}_flops"]
    if workspace:
        (note,) = fake.coverage.notes
        assert note.startswith("it: an LSTM on fake tensors") and "saved_bytes leaves it out" in note


@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN])
def test_other_recurrent_layers_keep_the_same_on_fake_tensors(kind: Any) -> None:
    model, x = kind(C, H), torch.rand(T, N, C)
    real, fake = torchtally.count(model, x), torchtally.count(model, x, device="meta")
    assert real.totals["saved_bytes"] == fake.totals["saved_bytes"] > 0
    assert fake.coverage.notes == ()


def test_a_frozen_lstm_keeps_nothing_and_has_nothing_to_say() -> None:
    run = torchtally.count(nn.LSTM(C, H).requires_grad_(False), torch.rand(T, N, C), device="meta")
    assert run.coverage.notes == ()


# A comparison of nothing ---------------------------------------------------------------------------------------------


def test_a_comparison_of_nothing_is_not_ok() -> None:
    """So that `assert run.compare().ok` says something. Why nothing was compared stands beside it."""
    comparison = step(Calling(lambda self, x: x @ x.T), torch.rand(N, C), backward=False).compare()
    assert comparison.rows == ()
    assert not comparison.ok
    assert comparison.failures == ()
    assert comparison.not_compared == {"": "no closed form for this Calling"}
    assert str(comparison).splitlines()[0] == "nothing was compared"


def test_complex_layers_are_named() -> None:
    layer = nn.Linear(C, H, dtype=torch.complex64)
    comparison = step(nn.Sequential(layer), torch.rand(N, C, dtype=torch.complex64), backward=False).compare()
    assert not comparison.ok
    assert "closed forms count real arithmetic, and this is complex" in comparison.not_compared["0"]


def test_a_write_into_a_view_is_named() -> None:
    """Its gradient arrives past the module: neither the one before it nor the one after is compared in backward."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4), nn.ReLU(inplace=True))
    comparison = step(model, torch.rand(N, 3, 5, 5)).compare()
    assert comparison.ok
    assert comparison.not_compared["1"].startswith("backward: a gradient left it, and none was seen to come")
    assert comparison.not_compared["2"].startswith(
        "backward: its input needs a gradient, and none was seen to leave it"
    )
    for path in "12":
        assert "an in-place operation on a view" in comparison.not_compared[path]
