"""docs/why-tool-x-says-y.md has the tables of benchmarks/results/reconcile.json, which are torchtally's of today."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch
from torch import nn

import torchtally

from .test_docs import DOCS

sys.path.insert(0, str(DOCS.parent / "benchmarks"))

import reconcile
from peers import TOOLS
from reconcile_parts import RULES, Line, lines, parts

RESULTS = DOCS.parent / "benchmarks" / "results" / "reconcile.json"
KEPT = json.loads(RESULTS.read_text(encoding="utf-8"))["reconciled"]
each = pytest.mark.parametrize("kept", KEPT, ids=[f"{kept['model']}, {kept['tool']}" for kept in KEPT])

# ResNet-50, one image: 53 convolutions without a bias, each with a BatchNorm; and ViT-B/16.
CLASSES, STEM, SIDE = 1000, 64, 112
DEEP, TOKENS, WIDTH, HIDDEN, HEADS, PATCH = 12, 14 * 14 + 1, 768, 3072, 12, 16


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return {name: reconcile.counted(name) for name in reconcile.MODELS}


def reconciled(kept: dict[str, Any]) -> reconcile.Reconciled:
    fields = {name: value for name, value in kept.items() if name not in ("lines", "remaining")}
    return reconcile.Reconciled(lines=[Line(**line) for line in kept["lines"]], **fields)


def test_every_tool_and_model_is_there() -> None:
    asked = {(model, tool) for model in reconcile.MODELS for tool in RULES}
    assert {(kept["model"], kept["tool"]) for kept in KEPT} == asked
    assert {"FlopCounterMode", "fvcore", "torchinfo", "ptflops", "DeepSpeed"} <= RULES.keys() <= TOOLS.keys()


@each
def test_nothing_remains(kept: dict[str, Any]) -> None:
    assert kept["figure"] - sum(line["tool"] for line in kept["lines"]) == 0 == kept["remaining"]


@each
def test_the_document_has_the_table(kept: dict[str, Any]) -> None:
    document = (DOCS / "why-tool-x-says-y.md").read_text(encoding="utf-8")
    assert reconcile.table(reconciled(kept)) in document


def test_the_document_has_the_overview() -> None:
    document = (DOCS / "why-tool-x-says-y.md").read_text(encoding="utf-8")
    assert reconcile.overview([reconciled(kept) for kept in KEPT]) in document


@each
def test_it_is_what_torchtally_counts_now(kept: dict[str, Any], found: dict[str, dict[str, Any]]) -> None:
    assert lines(kept["tool"], found[kept["model"]]) == reconciled(kept).lines


def test_parts_of_the_transformer_by_hand(found: dict[str, dict[str, Any]]) -> None:
    vit = found["ViT-B/16"]
    assert vit["convolutions"].multiply_adds == (TOKENS - 1) * WIDTH * 3 * PATCH**2
    assert vit["linear layers"].multiply_adds == DEEP * TOKENS * 2 * WIDTH * HIDDEN + WIDTH * CLASSES
    assert vit["attention's projections"].multiply_adds == DEEP * TOKENS * 4 * WIDTH**2
    assert vit["attention's products"].multiply_adds == DEEP * 2 * TOKENS**2 * WIDTH
    assert vit["softmax"].torchtally == 5 * DEEP * HEADS * TOKENS**2
    assert vit["LayerNorm"].parameters == (2 * DEEP + 1) * 2 * WIDTH
    assert vit["GELU"].elements == DEEP * TOKENS * HIDDEN


def test_parts_of_the_network_by_hand(found: dict[str, dict[str, Any]]) -> None:
    resnet = found["ResNet-50"]
    assert resnet["max pooling"].inputs == STEM * SIDE**2
    assert resnet["max pooling"].torchtally == STEM * (SIDE // 2) ** 2 * 3 * 3
    assert resnet["global average pooling"].inputs == 2048 * 7 * 7
    assert resnet["linear layers, bias"].elements == CLASSES
    assert resnet["BatchNorm"].elements == resnet["convolutions"].elements


def test_flop_counter_mode_says_so_still(found: dict[str, dict[str, Any]]) -> None:
    model, image = reconcile.prepared("ResNet-50")
    said = TOOLS["FlopCounterMode"][1](model.to("meta"), (image.to("meta"),), {}, False)
    assert said.figure == sum(line.tool for line in lines("FlopCounterMode", found["ResNet-50"]))


def test_what_is_not_explained_remains(found: dict[str, dict[str, Any]]) -> None:
    kept = reconciled(KEPT[0])
    short = reconcile.Reconciled(
        **{name: getattr(kept, name) for name in ("model", "tool", "version", "unit")},
        figure=kept.figure + 7,
        lines=kept.lines,
    )
    assert short.remaining == 7
    assert "| **remaining** | | | **7** | |" in reconcile.table(short)


def test_work_of_no_part_is_an_error() -> None:
    run = torchtally.count(nn.Sigmoid(), torch.zeros(6), backward=False)
    with pytest.raises(ValueError, match="sigmoid"):
        parts(run)
