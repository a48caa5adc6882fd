"""The file as text: one file, nothing in it that fetches, and names that stay names. Needs no browser."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler.environment import environment
from torchtally.profiler.errors import RunStateError, UsageError
from torchtally.profiler.report.html.page import Card, Page, Section, as_json, html

HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    '"><svg onload="window.pwned = 1">',
    "<!--",
    "{{ page }}",
    "&lt;b&gt;",
    "\u2028",
)


class Elements(HTMLParser):
    """Tags with their attributes, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.open = tag
            self.inside.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open:
            self.inside[-1] = (self.open, self.inside[-1][1] + data)


def page(word: str) -> Page:
    return Page(
        title=word,
        setting=word,
        cards=(Card(label=word, value=word, exact=word),),
        remarks=(word,),
        sections=(Section(id="ledger", title="Ledger", about="", data={"word": word}),),
    )


def elements(content: bytes) -> Elements:
    return Elements(content.decode("utf-8"))


@pytest.mark.parametrize("word", HOSTILE)
def test_a_name_makes_no_element(word: str) -> None:
    plain, hostile = elements(html(page("Net"))), elements(html(page(word)))
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in plain.found]
    assert [sorted(found) for _, found in hostile.found] == [sorted(found) for _, found in plain.found]


@pytest.mark.parametrize("word", HOSTILE)
def test_a_name_comes_back_out_of_the_data(word: str) -> None:
    text = as_json({word: [word]})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {word: [word]}


def test_a_figure_that_is_no_number_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_json({"seconds": float("nan")})


def test_half_a_surrogate_pair_can_be_written() -> None:
    assert b"Net?" in html(page("Net\udc80"))


def test_nothing_in_it_can_be_fetched() -> None:
    found = elements(html(page("Net"))).found
    addresses = [
        value for _, each in found for name, value in each.items() if name in ("src", "href", "action", "data")
    ]
    assert addresses == ["data:,", "#content", "#ledger"]
    assert not {"iframe", "object", "embed", "base", "form", "img"} & {tag for tag, _ in found}


def test_the_policy_allows_what_the_page_was_made_with_and_nothing_else() -> None:
    found = elements(html(page("Net")))
    (policy,) = (each["content"] for tag, each in found.found if each.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy

    def hashes(tag: str) -> list[str]:
        texts = [text for name, text in found.inside if name == tag and not text.startswith("{")]
        return [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts]

    assert rules["script-src"].split() == hashes("script")
    assert rules["style-src"].split() == hashes("style")
    assert len(hashes("script")) == 2


def test_the_library_is_what_was_published_and_its_licence_goes_with_it() -> None:
    """The digest is of dist/d3.min.js in d3 7.9.2 as published."""
    folder = resources.files("torchtally.profiler.report.html") / "assets" / "vendor" / "d3"
    published = "912111098ea99503a6f4967361d2bbdc9dbf58cf9c678c8e27e5b02d1a07f0c1"
    assert sha256((folder / "d3.min.js").read_bytes()).hexdigest() == published
    licence = (folder / "LICENSE").read_text(encoding="utf-8")
    assert "Permission to use, copy, modify, and/or distribute" in licence
    assert licence in html(page("Net")).decode("utf-8")


# Of a run -------------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.second = nn.Linear(5, 2)

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x))


def data(path: Path) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    return json.loads(text)


def cells(table: Any, name: str) -> list[Any]:
    (column,) = (each for each in table["columns"] if each["name"] == name)
    return [column["words"][c] if "words" in column and c is not None else c for c in column["cells"]]


def test_a_runs_report_has_its_figures(tmp_path: Path) -> None:
    run = torchtally.count(Net(), torch.ones(4, 3))
    run.to_html(tmp_path / "run.html")
    found = data(tmp_path / "run.html")
    assert list(found) == ["modules", "theory", "ledger", "environment"]
    ledger = found["ledger"]
    flops = dict(
        zip(zip(cells(ledger, "path"), cells(ledger, "phase"), strict=True), cells(ledger, "flops"), strict=True)
    )
    # (4, 3) @ (3, 5) and (4, 5) @ (5, 2), 2 FLOPs for each multiply-add; a product's bias is left out by convention.
    assert flops["first", "forward"] == 2 * 4 * 3 * 5
    assert flops["second", "forward"] == 2 * 4 * 5 * 2
    theory = found["theory"]["table"]
    assert theory["length"] == len(run.compare().rows)
    assert set(cells(theory, "verdict")) == {"agrees"}
    facts = dict(zip(cells(found["environment"], "fact"), cells(found["environment"], "value"), strict=True))
    assert facts["torch"] == environment("cpu")["torch"]


def test_memory_beside_needs_memory(tmp_path: Path) -> None:
    run = torchtally.count(Net(), torch.ones(4, 3))
    with pytest.raises(RunStateError, match="memory"):
        run.to_html(tmp_path / "run.html", beside=run)
    assert not list(tmp_path.iterdir())


def build() -> torchtally.Workload:
    model, x = Net(), torch.ones(4, 3)
    return torchtally.Workload(model=model, step=lambda: model(x).sum().backward())


def test_memory_beside_is_shown_alone_where_this_run_has_none(tmp_path: Path) -> None:
    run, plan = torchtally.count(Net(), torch.ones(4, 3)), torchtally.predict(build, learn=False)
    run.to_html(tmp_path / "run.html", beside=plan, names=("the run", "the <plan>"))
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert data(tmp_path / "run.html")["memory"]["peak"]["bytes"] == plan.memory.peak_bytes
    assert '<h2 id="memory-title">Memory over the step (the &lt;plan&gt;)</h2>' in text
    assert "Peak memory (the &lt;plan&gt;)" in text
    assert "It leaves out workspaces" in text


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    run = torchtally.count(Net(), torch.ones(4, 3))
    with pytest.raises(UsageError, match="there is no folder"):
        run.to_html(tmp_path / "nowhere" / "run.html")


def test_the_old_report_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text("old")
    torchtally.count(Net(), torch.ones(4, 3)).to_html(path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [each.name for each in tmp_path.iterdir()] == ["run.html"]
