"""`run.show()` and notebooks: what is surprising first, as deep and wide as there is room, and names as data."""

from __future__ import annotations

import html
import io
import re
import sys
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from torch import nn

import torchtally
import torchtally.theory
from torchtally.profiler.errors import UsageError
from torchtally.profiler.report.run_table import COLUMNS
from torchtally.profiler.run import Run

from .runs import CLASSES, OUT, SIDE, C, N, network, trained


class Nested(nn.Module):
    """10 blocks of 3 layers."""

    def __init__(self, blocks: int = 10) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)) for _ in range(blocks))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


def nested(blocks: int = 10) -> Run:
    return torchtally.count(Nested(blocks), torch.zeros(2, 4))


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("FORCE_COLOR", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def show(run: Run, **options: Any) -> list[str]:
        run.show(**options)
        return capsys.readouterr().out.splitlines()

    return show


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def names(lines: list[str]) -> list[str]:
    """The first column, between the heading's rule and the line of totals."""
    rule = next(number for number, line in enumerate(lines) if "──" in line)
    total = next(number for number, line in enumerate(lines) if line.strip().startswith("total"))
    return [line.split()[0] for line in lines[rule + 1 : total] if line.strip()]


# Depth ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "count"), [(0, 1), (1, 2), (2, 12), (3, 42), (9, 42)])
def test_a_depth_that_is_asked_for(shown: Any, depth: int, count: int) -> None:
    lines = shown(nested(), depth=depth)
    assert len(names(lines)) == count
    assert any("more modules are not shown" in line for line in lines) == (count < 42)


def test_without_one_as_deep_as_fits(shown: Any) -> None:
    assert len(names(shown(nested(9)))) == 2 + 9 + 27, "38 lines fit into 40"
    assert len(names(shown(nested(10)))) == 2 + 10, "42 do not"


def test_a_wide_model_is_cut(shown: Any) -> None:
    run = torchtally.count(nn.Sequential(*(nn.ReLU() for _ in range(100))), torch.zeros(1))
    lines = shown(run)
    assert len(names(lines)) == 40
    assert any(line.startswith("61 more modules are not shown") for line in lines)


def test_a_container_that_does_nothing_itself_has_its_backward(shown: Any) -> None:
    """Of 10 blocks: two linear layers and a ReLU each; the input needs no gradient, so the first has its weight's."""
    lines = shown(nested(), depth=0, columns=("backward_flops",))
    linear, relu, bias = 2 * 2 * 4 * 4, 2 * 4, 2 * 4
    flops = 20 * (2 * linear + bias) - linear + 10 * relu
    row, total = (next(line for line in lines if line.strip().startswith(word)) for word in ("(model)", "total"))
    assert row.split()[1:] == total.split()[1:] == [f"{flops / 1000:.2f}", "k"]


def test_a_collapsed_row_has_what_is_inside(shown: Any) -> None:
    lines = shown(nested(), depth=1, columns=("parameters", "forward_flops"))
    row = next(line for line in lines if line.split()[:1] == ["blocks"])
    flops = 10 * (2 * 2 * 2 * 4 * 4 + 2 * 4)
    assert row.split() == ["blocks", str(10 * 2 * (4 + 1) * 4), f"{flops / 1000:.2f}", "k"]
    own = shown(nested(), depth=1, columns=("parameters",), inclusive=False)
    assert next(line for line in own if line.split()[:1] == ["blocks"]).split() == ["blocks"]


# Order, columns, units ------------------------------------------------------------------------------------------------


def test_a_sorted_list_has_full_names_the_largest_first(shown: Any) -> None:
    lines = shown(trained(), sort="parameters", columns=("parameters",))
    linear, conv = (OUT * SIDE * SIDE + 1) * CLASSES, (C * 3 * 3 + 1) * OUT
    assert names(lines)[:2] == ["3", "0"]
    assert [line.split() for line in lines if line.split()[:1] in (["3"], ["0"])] == [
        ["3", f"{linear:,}"],
        ["0", str(conv)],
    ]
    assert "without their children" in "".join(lines)


def test_the_column_it_is_sorted_by_is_there(shown: Any) -> None:
    heading = next(line for line in shown(trained(), sort="gradient_bytes") if "module" in line)
    assert "gradients" in heading


def test_macs_are_the_multiply_adds_of_products(shown: Any) -> None:
    lines = shown(trained(), units="macs", columns=("forward_flops", "flops"))
    conv = N * OUT * SIDE * SIDE * C * 9
    linear = N * OUT * SIDE * SIDE * CLASSES
    total = next(line for line in lines if line.strip().startswith("total")).split()
    assert total[1:3] == [f"{(conv + linear) / 1000:.1f}", "k"]
    # Backward: of the convolution only the weight's, of the linear layer both.
    assert total[3:5] == [f"{(2 * conv + 3 * linear) / 1000:.1f}", "k"]
    relu = next(line for line in lines if line.split()[:1] == ["1"]).split()
    assert relu == ["1"]
    assert "forward MACs" in "".join(lines) and "FLOPs" not in lines[3]


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_can_be_asked_for(shown: Any, name: str) -> None:
    lines = shown(trained(), columns=(name,))
    assert len(names(lines)) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": ["x"]}, "no column is named 'x'; there are type, calls"),
        ({"sort": "x"}, "no order is named 'x'; there are order, calls"),
        ({"sort": "type"}, "no order is named 'type'"),
        ({"units": "x"}, 'units must be "flops" or "macs"'),
        ({"depth": -1}, "depth must be an integer of at least 0"),
        ({"depth": 1.5}, "depth must be an integer"),
    ],
)
def test_what_there_is_not(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        trained().show(**options)


# Width and terminals --------------------------------------------------------------------------------------------------


def on_a_screen(monkeypatch: pytest.MonkeyPatch, run: Run, width: int, height: int, **options: Any) -> str:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    monkeypatch.delenv("NO_COLOR", raising=False)
    run.show(**options)
    return screen.getvalue()


def test_columns_give_way_to_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = on_a_screen(monkeypatch, trained(), 160, 50)
    narrow = on_a_screen(monkeypatch, trained(), 60, 50)
    assert "activations" in wide and "no room" not in wide
    assert "activations" not in narrow.split("no room")[0] and "no room for activation_bytes, type" in narrow
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in narrow.splitlines()) <= 60


def test_depth_gives_way_to_the_height(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "30 more modules" in on_a_screen(monkeypatch, nested(), 120, 40)
    assert "more modules" not in on_a_screen(monkeypatch, nested(), 120, 80)


def test_nothing_is_drawn_into_a_pipe(shown: Any) -> None:
    lines = shown(trained())
    assert not any("\x1b" in line or "\r" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_a_run_that_has_not_ended_is_not_shown() -> None:
    with pytest.raises(torchtally.TallyError, match="no results yet"):
        torchtally.profile(network()).show()


# What is surprising ---------------------------------------------------------------------------------------------------


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4)
        self.idle = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4))
        self.dropout = nn.Dropout().eval()
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.used(self.frozen(x))).roll(1).svd()[1]


def test_surprises_come_first(shown: Any) -> None:
    lines = shown(torchtally.count(Odd(), torch.rand(4, 4), backward=False))
    heading = next(number for number, line in enumerate(lines) if "module" in line and "type" in line)
    above = " ".join(lines[:heading])
    assert "lower bounds; no price for aten._linalg_svd" in above
    assert "frozen: 20 of 89 parameters: frozen" in above
    assert "never called: idle" in above
    assert "in evaluation mode, in a model in training mode: dropout" in above


def test_parameters_without_a_gradient_are_named(shown: Any) -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(2, 2), nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.other(x)
            return self.one(x)

    above = " ".join(shown(torchtally.count(Half(), torch.zeros(1, 2))))
    assert "trainable, and without a gradient: 9 parameters: other" in above


def test_attention_s_projection_is_not_idle(shown: Any) -> None:
    """It is never called, and used by the module around it."""
    for backward in (True, False):
        run = torchtally.count(nn.TransformerEncoderLayer(8, 2, 16), torch.zeros(3, 2, 8), backward=backward)
        assert "never called" not in "".join(shown(run))


def test_the_dearest_module(shown: Any) -> None:
    lines = shown(trained())
    conv = 2 * 2 * N * OUT * SIDE * SIDE * C * 9
    linear = 3 * 2 * N * OUT * SIDE * SIDE * CLASSES + N * CLASSES
    relu = 2 * N * OUT * SIDE * SIDE
    assert lines[0].startswith(f"most FLOPs: 0, {conv / (conv + linear + relu):.1%} of ")


def test_nothing_is_said_of_an_ordinary_run(shown: Any) -> None:
    assert len([line for line in shown(trained())[:3] if line and "module" not in line]) == 1


# Notebooks ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags, and the words of each cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


HOSTILE = "<script>alert(1)</script>\"'&"


def hostile() -> Run:
    kind = type(HOSTILE, (nn.Module,), {"forward": lambda self, x: x * 2})
    return torchtally.count(nn.Sequential(kind(), nn.Linear(2, 2)), torch.zeros(1, 2))


@pytest.mark.parametrize("run", [hostile, trained])
def test_a_notebook_s_table(run: Any) -> None:
    text = run()._repr_html_()
    page = Page(text)
    assert page.tags == {"div", "p", "table", "thead", "tbody", "tfoot", "tr", "th", "td"}
    assert "forward FLOPs" in page.cells


def test_names_stay_text() -> None:
    text = hostile()._repr_html_()
    assert "<script" not in text and html.escape(HOSTILE) in text
    assert HOSTILE in Page(text).cells


def test_a_comparison_in_a_notebook() -> None:
    assert "<table" not in trained().compare()._repr_html_(), "all agree"
    run = trained()
    other = torchtally.theory.Linear(in_features=OUT * SIDE * SIDE, out_features=CLASSES + 1)
    wrong = Run(run.trace, layers={**run.layers, "3": other})
    page = Page(wrong.compare()._repr_html_())
    assert page.tags == {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert {"unexplained", f"{N}x{CLASSES}", f"{N}x{CLASSES + 1}"} <= set(page.cells)


def test_a_run_that_has_not_ended_shows_its_state() -> None:
    assert torchtally.profile(network())._repr_html_() is None
