"""Runs as JSON: what comes back is what was kept, in this version and from older ones."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler import records
from torchtally.profiler.errors import UsageError
from torchtally.profiler.memory import Memory
from torchtally.profiler.report.checked import type_hints
from torchtally.profiler.report.run_schema import COLUMNS, MEMORY, SECTIONS, TIMING, layer_kinds
from torchtally.profiler.run import Run
from torchtally.profiler.seconds.timing import Timing
from torchtally.theory.layer import Layer
from torchtally.theory.stream import Block, Event

from .runs import CLASSES, LIVE, OUT, SIDE, C, N, network, trained, with_memory
from .runs import MEMORY as STEP
from .runs import TIMING as SECONDS

DATA = Path(__file__).parent / "data"


def same(run: Run, again: Run) -> None:
    assert again.trace == run.trace
    assert dict(again.layers) == dict(run.layers)
    assert again.ledger == run.ledger
    assert again.totals == run.totals


class Tagged(nn.Module):
    """Several inputs, a buffer, a shared parameter, and a name that is not ASCII."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.norm = nn.BatchNorm1d(6)
        self.add_module("größe", nn.Linear(6, 11))
        self.get_submodule("größe").weight = self.embed.weight

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(tokens).mean(1)) * mask[:, :1]
        return self.get_submodule("größe")(x)


MODELS: list[tuple[str, Any, tuple[torch.Tensor, ...]]] = [
    ("convolutions", network, (torch.zeros(N, C, SIDE, SIDE),)),
    ("shared", Tagged, (torch.zeros(3, 4, dtype=torch.int64), torch.ones(3, 4, dtype=torch.bool))),
    ("recurrent", lambda: nn.LSTM(3, 5, 2, bidirectional=True), (torch.zeros(4, 2, 3),)),
    ("attention", lambda: nn.TransformerEncoderLayer(8, 2, 16), (torch.zeros(4, 2, 8),)),
    ("nothing", nn.Identity, (torch.zeros(()),)),
]


@pytest.mark.parametrize(("make", "inputs"), [model[1:] for model in MODELS], ids=[model[0] for model in MODELS])
def test_a_run_comes_back(make: Any, inputs: tuple[torch.Tensor, ...]) -> None:
    run = torchtally.count(make(), *inputs)
    text = run.to_json()
    again = torchtally.from_json(text)
    same(run, again)
    assert again.to_json() == text
    assert str(again) == str(run)
    assert again.compare().rows == run.compare().rows


def test_a_file_is_the_text(tmp_path: Path) -> None:
    run = trained()
    assert run.to_json(tmp_path / "a.json") == (tmp_path / "a.json").read_text(encoding="utf-8") == run.to_json()
    same(run, torchtally.from_json(tmp_path / "a.json"))
    same(run, torchtally.from_json(str(tmp_path / "a.json")))
    (tmp_path / "bom.json").write_text(run.to_json(), encoding="utf-8-sig")
    same(run, torchtally.from_json(tmp_path / "bom.json"))


def test_memory_comes_back() -> None:
    again = torchtally.from_json(with_memory().to_json())
    assert again.memory == STEP
    assert again.memory.stream.live_bytes == LIVE
    assert again.totals["peak_bytes"] == max(LIVE)


def test_seconds_come_back() -> None:
    run = with_memory(timing=SECONDS)
    again = torchtally.from_json(run.to_json())
    assert again.timing == SECONDS and again.to_json() == run.to_json()
    same(run, again)


def test_a_run_that_has_not_ended_is_not_kept() -> None:
    with pytest.raises(torchtally.TallyError, match="no results yet"):
        torchtally.profile(network()).to_json()


@pytest.mark.parametrize("kind", sorted(layer_kinds()))
def test_every_kind_of_layer_can_be_named(kind: str) -> None:
    """Its settings are values that a file can hold and a reader can check."""
    for entry in dataclasses.fields(layer_kinds()[kind]):
        assert "theory" not in str(type_hints(layer_kinds()[kind])[entry.name]), entry.name


def test_the_kinds_are_layers_and_all_of_them() -> None:
    from torchtally import theory

    found = layer_kinds()
    assert {"Conv2d", "LSTM", "MultiheadAttention", "BatchNorm", "ShiftedWindowAttention", "Residual"} <= set(found)
    assert not {"TensorSpec", "LayerPrediction", "Network", "Cost", "SGD"} & set(found)
    with_fields = (kind() for kind in (theory.ReLU, theory.Flatten, theory.Softmax))
    assert all(isinstance(layer, Layer) and type(layer).__name__ in found for layer in with_fields)


# What is kept -------------------------------------------------------------------------------------------------------


def test_no_fact_is_forgotten() -> None:
    """A record that gains a field is to gain it in the file too: a new version of the schema."""

    def names(kind: Any) -> list[str]:
        return [entry.name for entry in dataclasses.fields(kind)]

    placed = {"path", "phase"}
    assert set(names(records.Trace)) <= set(SECTIONS)
    assert names(records.ModuleFacts) == ["path", "type", "parameters", "buffers", "training"]
    assert names(records.ParameterFacts) == ["name", "tensor", "identity", "trainable"]
    assert set(names(records.CallFacts)) - placed == set(COLUMNS["calls"]) - {"place"}
    assert set(names(records.OperatorFacts)) - placed == set(COLUMNS["operators"]) - {"place"}
    assert set(names(records.Signature)) == set(COLUMNS["signatures"])
    assert set(names(records.GradientFacts)) == set(COLUMNS["gradients"])
    assert set(names(records.SavedFacts)) - placed == set(COLUMNS["saved"]) - {"place"}
    assert set(names(Memory)) - {"stream"} == set(MEMORY) - {"blocks", "before", "events"}
    assert set(names(Timing)) == set(TIMING) - {"steps"}
    assert set(names(Block)) - placed == set(COLUMNS["blocks"]) - {"place"}
    assert set(names(Event)) - placed == set(COLUMNS["events"]) - {"place"}


def test_the_file_is_small(tmp_path: Path) -> None:
    """2,001 modules in 1,000 blocks, no two alike."""
    model = nn.Sequential(*(nn.Sequential(nn.Linear(1, 1 + n), nn.Linear(1 + n, 1)) for n in range(667)))
    assert len(list(model.modules())) == 2002
    run = torchtally.count(model, torch.zeros(1, 1))
    run.to_json(tmp_path / "a.json")
    assert (tmp_path / "a.json").stat().st_size < 2_000_000
    same(run, torchtally.from_json(tmp_path / "a.json"))


def test_it_is_read_without_torch(tmp_path: Path) -> None:
    with_memory().to_json(tmp_path / "a.json")
    code = (
        "import sys, torchtally\n"
        "run = torchtally.from_json(sys.argv[1])\n"
        "print(run.totals['peak_bytes'], run.ledger.totals['parameters'], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.json")], capture_output=True, text=True, check=True
    )
    parameters = (C * 3 * 3 + 1) * OUT + (OUT * SIDE * SIDE + 1) * CLASSES
    assert done.stdout.split() == [str(max(LIVE)), str(parameters), "False"]


# Formulas of one's own ----------------------------------------------------------------------------------------------


@torch.library.custom_op("torchtally_tests_json::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.torchtally_tests_json.twice(x)


def test_figures_of_own_formulas_stay() -> None:
    def formula(signature: torchtally.Signature) -> torchtally.Price:
        return torchtally.Price(flops=7 * signature.outputs[0].elements)

    x = torch.zeros(3, 5)
    run = torchtally.count(Twice(), x, backward=False, formulas={"torchtally_tests_json.twice": formula})
    assert run.totals["forward_flops"] == 7 * 15
    again = torchtally.from_json(run.to_json())
    same(run, again)
    assert again.coverage.complete and again.to_json() == run.to_json()
    unpriced = torchtally.from_json(torchtally.count(Twice(), x, backward=False).to_json())
    assert [entry.operator for entry in unpriced.coverage.unpriced] == ["torchtally_tests_json.twice.default"]


def test_figures_of_another_table_stay() -> None:
    from torchtally.profiler.pricing import Prices

    model, x = nn.ReLU(), torch.zeros(3, 5)
    run = torchtally.count(model, x, backward=False, prices=Prices({}))
    assert run.coverage.unpriced
    same(run, torchtally.from_json(run.to_json()))


def test_facts_are_priced_anew() -> None:
    """No figure of the table is in the file."""
    content = json.loads(trained().to_json())
    assert content["prices"]["rows"] == []
    assert "flops" not in json.dumps({name: content[name] for name in content if name != "prices"})


# Version 1 ----------------------------------------------------------------------------------------------------------


def test_files_of_version_1_are_read() -> None:
    """`run-v1.json` was written when the schema was new, and is never written again."""
    run = torchtally.from_json(DATA / "run-v1.json")
    multiply_adds = N * OUT * SIDE * SIDE * C * 3 * 3
    linear = N * OUT * SIDE * SIDE * CLASSES
    assert run.totals["forward_flops"] == 2 * multiply_adds + N * OUT * SIDE * SIDE + 2 * linear
    assert run.totals["parameters"] == (C * 3 * 3 + 1) * OUT + (OUT * SIDE * SIDE + 1) * CLASSES
    assert (run.memory, run.timing) == (STEP, SECONDS)
    assert run.compare().ok and set(run.layers) == {"0", "1", "2", "3"}
    assert run.trace.environment["torch"] == "2.11.0"


def test_writing_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        trained().to_json(tmp_path / "missing" / "a.json")
