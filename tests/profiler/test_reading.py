"""Reading a run: totals per sample, rows with children, notes, short forms; and count(), which leaves no trace."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler.errors import PricingError, UsageError

N, A, B, C = 5, 8, 6, 3


def network() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(A, B), nn.ReLU()), nn.Linear(B, C))


def step(model: nn.Module, x: torch.Tensor) -> None:
    model(x).sum().backward()


FORWARD = 2 * N * A * B + N * B + 2 * N * B * C


def test_totals_per_sample_are_over_all_calls() -> None:
    model = network()
    with torchtally.profile(model) as run:
        step(model, torch.randn(N, A))
        step(model, torch.randn(N, A))
    assert run.totals["forward_flops"] == 2 * FORWARD
    assert run.per_sample()["forward_flops"] == FORWARD / N
    assert run.per_sample(2)["forward_flops"] == FORWARD
    assert run.per_sample()["parameters"] == A * B + B + B * C + C


@pytest.mark.parametrize("samples", [0, -1, "a", 1.5])
def test_a_number_of_samples_that_is_none(samples: object) -> None:
    model = network()
    with torchtally.profile(model) as run:
        model(torch.randn(N, A))
    with pytest.raises(UsageError, match="per_sample"):
        run.per_sample(samples)  # type: ignore[arg-type]


def test_inclusive_rows_have_their_children() -> None:
    model = network()
    with torchtally.profile(model) as run:
        step(model, torch.randn(N, A))
    frame = run.to_frame(inclusive=True).set_index(["path", "phase"])
    own = run.to_frame().set_index(["path", "phase"])
    assert own.loc[("0", "forward"), "flops"] == 0
    assert frame.loc[("0", "forward"), "flops"] == 2 * N * A * B + N * B
    assert frame.loc[("", "forward"), "flops"] == FORWARD
    assert frame.loc[("0", "forward"), "parameters"] == A * B + B
    assert frame.loc[("0", "forward"), "input_shape"] == (N, A), "shapes are a module's own"
    assert (frame.loc["1"] == own.loc["1"]).fillna(True).all(axis=None), "a leaf has no children"


def test_a_block_that_failed_says_so() -> None:
    model = network()
    with pytest.raises(RuntimeError), torchtally.profile(model) as run:
        model(torch.randn(N, A + 1))
    assert any("RuntimeError" in note for note in run.coverage.notes)


def test_a_model_that_was_never_called_says_so() -> None:
    with torchtally.profile(network()) as run:
        network()(torch.randn(N, A))
    assert any("no module of the model was called" in note for note in run.coverage.notes)


def test_short_forms() -> None:
    model = network()
    run = torchtally.profile(model)
    assert repr(run) == "<torchtally run, new>"
    with run:
        step(model, torch.randn(N, A))
    assert f"forward_flops={FORWARD:,}" in repr(run)
    assert len(repr(run.compare())) < 100


@pytest.mark.parametrize("device", [None, "meta", torch.device("meta")])
def test_count_leaves_everything_as_it_was(device: object) -> None:
    model = nn.Sequential(nn.Linear(A, B), nn.BatchNorm1d(B), nn.Dropout(), nn.Linear(B, C))
    x = torch.randn(N, A, requires_grad=True)
    step(model, x)
    state = copy.deepcopy(model.state_dict())
    gradients = [parameter.grad for parameter in model.parameters()]
    values = [gradient.clone() for gradient in gradients if gradient is not None]
    own, seed = x.grad, torch.get_rng_state()
    run = torchtally.count(model, x, device=device)  # type: ignore[arg-type]
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert all(a is b.grad for a, b in zip(gradients, model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(values, gradients, strict=True) if b is not None)
    assert x.grad is own
    assert torch.equal(seed, torch.get_rng_state())
    assert "accumulation_flops" not in run.totals, "gradients that were there are no part of the count"


def test_count_is_the_same_on_fake_tensors() -> None:
    model, x = network(), torch.randn(N, A)
    step(model, x)
    assert torchtally.count(model, x).totals == torchtally.count(model, x, device="meta").totals


def test_count_refuses_other_devices() -> None:
    with pytest.raises(UsageError, match="meta"):
        torchtally.count(network(), torch.randn(N, A), device="cuda")


def test_count_of_forward_alone() -> None:
    totals = torchtally.count(network(), torch.randn(N, A), backward=False).totals
    assert totals["forward_flops"] == FORWARD
    assert "backward_flops" not in totals


@torch.library.custom_op("tallytests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


class Custom(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return twice(x)


def price(signature: torchtally.Signature) -> torchtally.Price:
    return torchtally.Price(flops=7 * signature.outputs[0].elements)  # type: ignore[attr-defined]


def test_an_operator_of_ones_own_is_named_until_it_has_a_price() -> None:
    with torchtally.profile(Custom()) as run:
        pass
    model = Custom()
    with torchtally.profile(model) as run:
        model(torch.randn(N))
    assert [entry.operator for entry in run.coverage.unpriced] == ["tallytests.twice.default"]
    assert ">=" in str(run)


@pytest.mark.parametrize(
    "key",
    ["tallytests.twice", "tallytests::twice", twice, torch.ops.tallytests.twice],
    ids=["dots", "colons", "def", "op"],
)
def test_a_formula_is_found_by_every_name_of_its_operator(key: object) -> None:
    model = Custom()
    with torchtally.profile(model, formulas={key: price}) as run:
        model(torch.randn(N))
    assert run.totals["forward_flops"] == 7 * N
    assert run.coverage.complete
    with torchtally.profile(model) as again:
        model(torch.randn(N))
    assert again.coverage.unpriced, "a formula outlived its run"


@pytest.mark.parametrize("key", ["twice", 5, "no such operator"])
def test_a_key_that_names_no_operator(key: object) -> None:
    with pytest.raises(PricingError, match="no operator"):
        torchtally.profile(Custom(), formulas={key: price})


@pytest.mark.parametrize(
    "answer", [3, 1.5, torchtally.Price(flops=1.5), torchtally.Price(matmul_flops=9), torchtally.Price(flops=-1)]
)
def test_a_formula_that_gives_no_price(answer: object) -> None:
    model = Custom()
    with torchtally.profile(model, formulas={"tallytests.twice": lambda _: answer}) as run:  # type: ignore[arg-type,return-value]
        model(torch.randn(N))
    with pytest.raises(PricingError, match=r"tallytests\.twice"):
        _ = run.totals


def test_a_formula_that_raises_names_its_operator() -> None:
    model = Custom()
    with torchtally.profile(model, formulas={"tallytests.twice": lambda _: {}["key"]}) as run:
        model(torch.randn(N))
    with pytest.raises(PricingError, match=r"tallytests\.twice"):
        _ = run.totals


def test_facts_can_be_kept() -> None:
    """A trace is plain records: it goes through pickling, and priced again gives the same ledger."""
    from torchtally.profiler.ledger import build

    model = network()
    with torchtally.profile(model) as run:
        step(model, torch.randn(N, A))
    assert build(pickle.loads(pickle.dumps(run.trace))).rows == run.ledger.rows
