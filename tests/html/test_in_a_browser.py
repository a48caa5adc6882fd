"""Reports opened in a headless Chromium: what they show, fetch, and do under click and key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torchvision
from torch import nn

import torchtally
from torchtally.models.cnn import CNN, CNNConfig, example
from torchtally.profiler.machine import Machine
from torchtally.profiler.report.units import bytes_text, flops_text, shape_text
from torchtally.theory.roofline import Ceilings

FIRST_PAINT = 2_000  # milliseconds
HOSTILE = ("<script>pwned=1</script>", "<img src=x onerror='pwned=1'>", "</script><b>x", "a\"'&lt;")


# Models ---------------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.act = nn.GELU()
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Any) -> Any:
        return x + self.down(self.act(self.up(self.norm(x))))


class Large(nn.Module):
    """1 model, 1 list, 20 lists of 20 blocks of 1 + 4 modules: 2,022."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.ModuleList(Block(8) for _ in range(20)) for _ in range(20))

    def forward(self, x: Any) -> Any:
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = block(x)
        return x


def resnet() -> torchtally.Run:
    with torch.device("meta"):
        return torchtally.count(torchvision.models.resnet50(), torch.empty(2, 3, 224, 224))


def large() -> torchtally.Run:
    model = Large()
    assert sum(1 for _ in model.modules()) == 1 + 1 + 20 + 20 * 20 * (1 + 4)
    return torchtally.count(model, torch.ones(2, 8))


def build(batch_size: int = 8) -> torchtally.Workload:
    model = CNN(CNNConfig())
    images, labels = example(CNNConfig(), batch_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return torchtally.Workload(model=model, step=step, optimizer=optimizer)


def hostile() -> torchtally.Run:
    model = nn.Sequential()
    for name in HOSTILE:
        model.add_module(name, type(name, (nn.Linear,), {})(4, 4))
    return torchtally.count(model, torch.ones(2, 4))


# Pages ----------------------------------------------------------------------------------------------------------------


@dataclass
class Opened:
    """A page, and what it said and asked for while it opened and was used."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def columns(self, section: str, table: int = 0) -> list[str]:
        headings = self.page.locator(f"#{section} table").nth(table).locator("thead th")
        return list(headings.evaluate_all("all => all.map(one => one.dataset.name)"))

    def rows(self, section: str, table: int = 0) -> list[list[str]]:
        rows = self.page.locator(f"#{section} table").nth(table).locator("tbody tr:not(.note)")
        return list(rows.evaluate_all("all => all.map(row => [...row.cells].map(cell => cell.textContent))"))

    def frame(self, section: str, table: int = 0) -> pd.DataFrame:
        return pd.DataFrame(self.rows(section, table), columns=self.columns(section, table), dtype=object)

    def show_all(self, section: str) -> None:
        button = self.page.locator(f"#{section} .more").first.get_by_role("button").last
        if button.count():
            button.click()

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.getAttribute('aria-label')"))

    def crumbs(self) -> list[str]:
        return list(self.page.locator("#modules .crumbs li").all_text_contents())


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a file and waits until all is drawn; afterwards nobody may have complained, and nothing may have been
    asked for but the file."""
    opened: list[tuple[Opened, str]] = []

    def opens(path: Path, **settings: Any) -> Opened:
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **settings})
        found = Opened(page)
        page.on("console", lambda message: found.complaints.append(message.text))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("request", lambda request: found.requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", timeout=20_000)
        opened.append((found, path.as_uri()))
        return found

    yield opens
    for found, address in opened:
        found.page.close()
        assert found.complaints == []
        assert found.requests == [address]


@pytest.fixture(scope="module")
def folder(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing is counted where there is no browser."""
    return tmp_path_factory.mktemp("reports")


@dataclass(frozen=True)
class Written:
    """A run and its report."""

    run: torchtally.Run
    path: Path


@pytest.fixture(scope="module")
def of_resnet(folder: Path) -> Written:
    run = resnet()
    run.to_html(folder / "resnet.html")
    return Written(run, folder / "resnet.html")


@pytest.fixture(scope="module")
def of_large(folder: Path) -> Written:
    run = large()
    run.to_html(folder / "large.html")
    return Written(run, folder / "large.html")


@pytest.fixture(scope="module")
def of_cnn(folder: Path) -> Written:
    """Measured, beside the same step of another batch size."""
    run = torchtally.measure(build(8), repeats=1)
    other = torchtally.measure(build(4), repeats=0)
    run.to_html(folder / "cnn.html", beside=other, names=("measured", "half the batch"))
    return Written(run, folder / "cnn.html")


@pytest.fixture(scope="module")
def audited(folder: Path) -> torchtally.Audit:
    found = torchtally.audit()
    found.to_html(folder / "audit.html")
    return found


@pytest.fixture
def written(request: pytest.FixtureRequest) -> Path:
    if request.param == "audit":
        folder: Path = request.getfixturevalue("folder")
        request.getfixturevalue("audited")
        return folder / "audit.html"
    found: Written = request.getfixturevalue(f"of_{request.param}")
    return found.path


# All reports ----------------------------------------------------------------------------------------------------------

EACH = pytest.mark.parametrize("written", ["audit", "resnet", "large", "cnn"], indirect=True)


@EACH
def test_it_opens_at_once_and_fetches_nothing(open_page: Callable[..., Opened], written: Path) -> None:
    page = open_page(written).page
    (painted,) = page.evaluate("performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)")
    assert painted < FIRST_PAINT
    for section in page.locator("section").all():
        assert section.locator(".body").inner_text().strip()


@EACH
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_never_wider_than_the_screen(open_page: Callable[..., Opened], written: Path, width: int) -> None:
    page = open_page(written, viewport={"width": width, "height": 844}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@EACH
def test_each_control_has_a_name(open_page: Callable[..., Opened], written: Path) -> None:
    page = open_page(written).page
    controls = page.locator(
        "input, select, button, svg[role=img], [role=region], [role=tree], [role=treeitem], section"
    )
    nameless = controls.evaluate_all(
        """all => all.filter(one => !(one.ariaLabel || one.textContent.trim() || one.labels?.length
                                      || one.getAttribute('aria-labelledby'))).map(one => one.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("table:not(:has(caption))").count() == 0


def test_dark_light_and_print(open_page: Callable[..., Opened], of_cnn: Written) -> None:
    page = open_page(of_cnn.path, color_scheme="dark").page
    lightness = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number))"
    assert page.evaluate(lightness) < 64
    page.emulate_media(color_scheme="light")
    assert page.evaluate(lightness) > 192
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate(lightness) > 192
    assert not page.locator("nav").is_visible()
    assert page.locator("#ledger table").is_visible()


def test_motion_is_reduced_for_who_asks(open_page: Callable[..., Opened], of_resnet: Written) -> None:
    page = open_page(of_resnet.path, reduced_motion="reduce").page
    duration = "parseFloat(getComputedStyle(document.querySelector('.cell')).transitionDuration)"
    assert page.evaluate(duration) == 0
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(duration) > 0


def test_nothing_can_be_fetched_or_run_even_on_purpose(browser: Any, of_resnet: Written) -> None:
    page = browser.new_page()
    refused: list[tuple[str, str]] = []
    answered: list[str] = []
    page.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
    page.on("response", lambda response: answered.append(response.url))
    page.goto(of_resnet.path.as_uri())
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'fetched', () => 'refused')") == "refused"
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.pwned = 1';
        document.body.append(script);
        const image = "<img src='http://127.0.0.1:9/x.png' onerror='window.pwned = 1'>";
        document.body.insertAdjacentHTML('beforeend', image);
    }""")
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert {why for _, why in refused} <= {"csp"}
    assert answered == [of_resnet.path.as_uri()]
    page.close()


def test_hostile_names_stay_text(open_page: Callable[..., Opened], folder: Path) -> None:
    run = hostile()
    run.to_html(folder / "hostile.html")
    opened = open_page(folder / "hostile.html")
    opened.show_all("ledger")
    ledger = opened.frame("ledger")
    assert set(HOSTILE) <= set(ledger["path"])
    assert set(HOSTILE) <= set(ledger["type"])
    assert set(HOSTILE) <= {cell.get_attribute("data-path") for cell in opened.page.locator(".cell").all()}
    assert opened.page.evaluate("window.pwned") is None
    assert opened.page.locator("img, b, script:not([id=data])").count() == 2  # the page's own two scripts
    opened.page.get_by_role("treeitem").nth(1).click()
    assert HOSTILE[0] in opened.page.locator("#modules .facts").inner_text()


# Figures --------------------------------------------------------------------------------------------------------------


def said(name: str, value: Any) -> str:
    """A cell of `to_frame()` as the ledger's exact table has it."""
    if name == "path":
        return value or "(model)"
    if name == "unpriced":
        return ", ".join(value) or "–"
    if value is None or value is pd.NA:
        return "–"
    return shape_text(value) if isinstance(value, tuple) else f"{value:,}" if isinstance(value, int) else str(value)


def holds_figures_of(shown: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Every cell but those of seconds, which are rounded. A column that is not shown has nothing in it."""
    assert len(shown) == len(frame)
    for name in frame:
        cells = [said(name, value) for value in frame[name].tolist()]
        if name not in shown:
            assert set(cells) == {"–"}, name
        elif name not in ("seconds", "share"):
            assert shown[name].tolist() == cells, name


@pytest.mark.parametrize("which", ["resnet", "large", "cnn"])
def test_the_ledger_is_to_frame(open_page: Callable[..., Opened], request: pytest.FixtureRequest, which: str) -> None:
    """All rows; of the large model, which takes a browser seconds to draw whole, the first 440."""
    written: Written = request.getfixturevalue(f"of_{which}")
    opened = open_page(written.path)
    opened.page.locator("#ledger").get_by_label("All columns").check()
    opened.page.locator("#ledger .more button").first.click()
    rows = min(440, len(written.run.to_frame()))
    holds_figures_of(opened.frame("ledger"), written.run.to_frame()[:rows])
    opened.page.locator("#ledger").get_by_label("With modules inside").check()
    holds_figures_of(opened.frame("ledger"), written.run.to_frame(inclusive=True)[:rows])


def test_seconds_are_those_of_to_frame(open_page: Callable[..., Opened], of_cnn: Written) -> None:
    units = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    opened = open_page(of_cnn.path)
    opened.show_all("ledger")
    for shown, seconds in zip(
        opened.frame("ledger")["seconds"], of_cnn.run.to_frame()["seconds"].tolist(), strict=True
    ):
        if shown == "–":
            assert seconds is pd.NA
        else:
            number, unit = shown.split()
            assert float(number) * units[unit] == pytest.approx(seconds, rel=1e-3)


def test_theory_against_run_is_to_frame(open_page: Callable[..., Opened], of_resnet: Written) -> None:
    opened = open_page(of_resnet.path)
    opened.show_all("theory")
    shown = opened.frame("theory")
    frame = of_resnet.run.compare().to_frame()

    def rows(found: pd.DataFrame) -> list[tuple[str, ...]]:
        names = ("path", "phase", "quantity", "theory", "count", "verdict")
        return sorted(
            tuple(said(name, value) for name, value in zip(names, row, strict=True))
            for row in found[[*names]].itertuples(index=False)
        )

    assert rows(shown) == rows(frame)


def test_the_headlines_are_totals(open_page: Callable[..., Opened], of_resnet: Written) -> None:
    page = open_page(of_resnet.path).page
    totals = of_resnet.run.totals
    text = page.locator(".cards").inner_text()
    for name in ("parameters", "forward_flops", "backward_flops"):
        assert f"{totals[name]:,}" in text
    for name in ("activation_bytes", "saved_bytes"):
        assert f"{totals[name]:,} B" in text


# Tables under click and key -------------------------------------------------------------------------------------------


def test_the_filter_by_words_and_menu(open_page: Callable[..., Opened], of_resnet: Written) -> None:
    opened = open_page(of_resnet.path)
    frame = of_resnet.run.to_frame()
    ledger = opened.page.locator("#ledger")
    ledger.get_by_label("Rows with").click()
    opened.page.keyboard.type("layer3 BN2")
    wanted = frame[frame["path"].str.contains("layer3") & frame["path"].str.contains("bn2")]
    assert opened.frame("ledger")["path"].tolist() == wanted["path"].tolist()[:40]
    assert f"{len(wanted)} of {len(frame)} rows" in ledger.get_by_role("status").inner_text()

    ledger.get_by_label("phase").focus()
    opened.page.keyboard.type("back")
    wanted = wanted[wanted["phase"] == "backward"]
    assert opened.frame("ledger")["path"].tolist() == wanted["path"].tolist()
    assert set(opened.frame("ledger")["phase"]) == {"backward"}

    ledger.get_by_label("Rows with").fill("no such module")
    assert opened.rows("ledger") == []


def test_sorting_by_a_heading(open_page: Callable[..., Opened], of_resnet: Written) -> None:
    opened = open_page(of_resnet.path)
    known = [f"{value:,}" for value in sorted(of_resnet.run.to_frame()["flops"].dropna().tolist())]
    heading = opened.page.locator("#ledger th[data-name=flops]")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert opened.frame("ledger")["flops"].tolist() == known[::-1][:40]
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert opened.frame("ledger")["flops"].tolist() == known[:40]
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "none"
    assert opened.frame("ledger")["path"].tolist()[0] == "(model)"


def test_more_rows(open_page: Callable[..., Opened], of_large: Written) -> None:
    opened = open_page(of_large.path)
    theory = opened.page.locator("#theory")
    assert len(opened.rows("theory")) == 40
    theory.get_by_role("button", name="Show 400 more").click()
    assert len(opened.rows("theory")) == 440


def test_the_audits_claims(open_page: Callable[..., Opened], audited: torchtally.Audit, folder: Path) -> None:
    opened = open_page(folder / "audit.html")
    verdicts = [entry.row.verdict for entry in audited.claims]
    contradicted = sorted(entry.claim.line for entry in audited.claims if entry.row.verdict == "contradicted")
    assert contradicted, "the walkthrough has claims that a run contradicts"
    claims = opened.page.locator("#claims")
    assert f"{len(verdicts)} rows" in claims.get_by_role("status").inner_text()
    claims.get_by_role("button", name=f"contradicted {len(contradicted)}").click()
    opened.show_all("claims")
    assert sorted(int(line.replace(",", "")) for line in opened.frame("claims")["line"]) == contradicted
    reasons = claims.locator("tr.note").all_text_contents()
    assert reasons == [e.row.reason for e in audited.claims if e.row.verdict == "contradicted" and e.row.reason]


# The icicle -----------------------------------------------------------------------------------------------------------


def inside(run: torchtally.Run, path: str, column: str) -> int:
    """What a module and all inside it have, in all phases."""
    frame = run.to_frame()
    own = frame["path"].map(lambda each: each == path or each.startswith(f"{path}.") or not path)
    return int(frame[own][column].sum())


def test_the_icicles_figures(open_page: Callable[..., Opened], of_resnet: Written) -> None:
    opened = open_page(of_resnet.path)
    cells = opened.page.locator(".cell:not(.own)").evaluate_all(
        "all => all.map(one => [one.dataset.path, one.getAttribute('aria-label')])"
    )
    single = {path: label for path, label in cells if "…" not in label}
    assert {"", "layer1", "layer2", "layer3", "layer4", "layer1.0", "layer1.0.conv2"} <= single.keys()
    whole = inside(of_resnet.run, "", "flops")
    for path, label in single.items():
        flops = inside(of_resnet.run, path, "flops")
        assert f": {flops_text(flops)} FLOPs, " in label, path
        share = re.search(r"([\d.]+) % of the model", label)
        assert share and float(share[1]) == pytest.approx(100 * flops / whole, abs=0.051)


def test_the_icicle_by_click(open_page: Callable[..., Opened], of_resnet: Written) -> None:
    opened = open_page(of_resnet.path)
    modules = opened.page.locator("#modules")
    modules.locator('.cell[data-path="layer3"]:not(.own)').click()
    assert opened.crumbs() == ["(model)", "layer3"]
    modules.locator('.cell[data-path="layer3.0"]:not(.own)').click()
    assert opened.crumbs() == ["(model)", "layer3", "0"]
    opened.page.mouse.move(0, 0)
    facts = modules.locator(".facts").inner_text()
    assert flops_text(inside(of_resnet.run, "layer3.0", "flops")) in facts
    modules.get_by_role("button", name="Saved bytes").click()
    assert opened.crumbs() == ["(model)", "layer3", "0"]
    label = modules.locator('.cell[data-path="layer3.0"]').first.get_attribute("aria-label")
    assert f": {bytes_text(inside(of_resnet.run, 'layer3.0', 'saved_bytes'))} Saved bytes" in label
    modules.get_by_role("button", name="(model)").click()
    assert opened.crumbs() == ["(model)"]
    assert modules.get_by_role("button", name="Seconds").is_disabled()


def test_the_icicle_in_one_phase(open_page: Callable[..., Opened], of_resnet: Written) -> None:
    opened = open_page(of_resnet.path)
    opened.page.locator("#modules").get_by_label("in", exact=True).select_option("backward")
    label = opened.page.locator('.cell[data-path=""]').first.get_attribute("aria-label")
    assert f": {flops_text(of_resnet.run.totals['backward_flops'])} FLOPs, 100.0 % of the model" in label


def test_the_icicle_by_key(open_page: Callable[..., Opened], of_resnet: Written) -> None:
    opened = open_page(of_resnet.path)
    keyboard = opened.page.keyboard
    assert opened.page.locator(".icicle [tabindex='0']").count() == 1
    opened.page.locator("#modules .crumbs").evaluate(
        "one => one.previousElementSibling.querySelector('select').focus()"
    )
    keyboard.press("Tab")
    assert opened.focused().startswith("(model), ResNet: ")
    keyboard.press("ArrowRight")
    assert opened.focused().startswith("conv1, Conv2d: ")
    for _ in range(9):
        if opened.focused().startswith("layer1"):
            break
        keyboard.press("ArrowDown")
    assert opened.focused().startswith("layer1, Sequential: ")
    keyboard.press("ArrowRight")
    assert opened.focused().startswith("layer1.0, Bottleneck: ")
    keyboard.press("ArrowLeft")
    keyboard.press("Enter")
    assert opened.crumbs() == ["(model)", "layer1"]
    assert opened.focused().startswith("layer1, Sequential: ")
    keyboard.press("End")
    keyboard.press("Escape")
    assert opened.crumbs() == ["(model)"]
    assert opened.focused().startswith("(model), ResNet: ")
    assert opened.page.locator(".icicle [tabindex='0']").count() == 1


def test_two_thousand_modules_can_all_be_reached(open_page: Callable[..., Opened], of_large: Written) -> None:
    """By way of bundles, where cells would be too small to see."""
    opened = open_page(of_large.path)
    modules = opened.page.locator("#modules")
    assert modules.locator(".cell").count() < 300
    for path, crumbs in (("stages.7", 3), ("stages.7.13", 4), ("stages.7.13.up", 4)):
        cell = modules.locator(f'.cell[data-path="{path}"]:not(.own)').first
        cell.click()
        assert len(opened.crumbs()) == crumbs
    assert modules.locator(".facts strong").inner_text() == "stages.7.13.up"


def test_a_flat_model_of_many_modules_is_bundled(open_page: Callable[..., Opened], folder: Path) -> None:
    run = torchtally.count(nn.Sequential(*(nn.Linear(4, 4) for _ in range(500))), torch.ones(2, 4))
    run.to_html(folder / "flat.html")
    opened = open_page(folder / "flat.html")
    modules = opened.page.locator("#modules")
    assert 10 < modules.locator(".cell").count() < 100
    bundle = modules.locator(".cell").nth(1)
    name = bundle.locator(".name").inner_text()
    count = int(re.search(r"\((\d+)\)", name)[1])  # type: ignore[index]
    bundle.click()
    assert modules.locator(".cell").count() == 1 + count
    assert opened.crumbs() == ["(model)", name.removesuffix(" ›")]


# The roofline ---------------------------------------------------------------------------------------------------------


def test_the_roofline(open_page: Callable[..., Opened], of_cnn: Written, folder: Path) -> None:
    ceilings = Ceilings(flops={"float32": 1e15}, bandwidth=((2**20, 1e14), (2**30, 1e13)), overhead=1e-9)
    machine = Machine(environment={}, ceilings=ceilings, samples=(), overheads={})
    of_cnn.run.to_html(folder / "roofline.html", machine=machine)
    opened = open_page(folder / "roofline.html")
    frame = of_cnn.run.roofline(machine)
    drawn = frame[(frame["flops"] > 0) & (frame["seconds"] > 0)]
    assert len(drawn) >= 3, "three convolutions at least"
    points = opened.page.locator("svg.roofline .point")
    assert sorted(points.evaluate_all("all => all.map(one => one.dataset.path)")) == sorted(drawn["path"])
    roofs = opened.page.locator("svg.roofline .roof").evaluate_all("all => all.map(one => one.textContent)")
    assert roofs == ["cache 90.9 TiB/s", "memory 9.09 TiB/s", "float32 1.00 P/s"]
    opened.page.locator("#roofline summary").click()
    opened.show_all("roofline details")
    table = opened.frame("roofline")
    assert sorted(table["bytes"]) == sorted(f"{size:,}" for size in frame["bytes"])
    assert sorted(table["flops"]) == sorted(f"{flops:,}" for flops in frame["flops"])


def test_no_machine_no_roofline(open_page: Callable[..., Opened], of_cnn: Written) -> None:
    assert open_page(of_cnn.path).page.locator("#roofline").count() == 0


# Memory ---------------------------------------------------------------------------------------------------------------


def test_the_moment_under_the_pointer_is_named(open_page: Callable[..., Opened], of_cnn: Written) -> None:
    opened = open_page(of_cnn.path)
    timeline = of_cnn.run.memory.timeline
    svg = opened.page.locator("svg.memory")
    svg.scroll_into_view_if_needed()
    for part in (0.2, 0.5, 0.9):
        svg.hover(position={"x": part * svg.bounding_box()["width"], "y": 100})
        text = opened.page.locator("#memory .facts").inner_text()
        event = int(re.search(r"event ([\d,]+)", text)[1].replace(",", ""))  # type: ignore[index]
        row = timeline.iloc[event - 1]
        assert text.startswith(f"{row.path or '(model)'}, {row.phase}")
        assert bytes_text(int(row.live_bytes)) in text


def test_the_moments_by_key(open_page: Callable[..., Opened], of_cnn: Written) -> None:
    opened = open_page(of_cnn.path)
    memory = of_cnn.run.memory
    slider = opened.page.get_by_label("Moment of the step")
    where = f"{memory.peak.path or '(model)'}, {memory.peak.phase}"
    assert f"{where}: {bytes_text(memory.peak_bytes)} live" in slider.get_attribute("aria-valuetext")
    slider.press("End")
    last = memory.timeline.iloc[-1]
    assert f"{bytes_text(int(last.live_bytes))} live" in slider.get_attribute("aria-valuetext")
    slider.press("ArrowLeft")
    before = memory.timeline.iloc[-2]
    assert f"event {len(memory.timeline) - 1:,}, {before.path or '(model)'}" in slider.get_attribute("aria-valuetext")
    slider.press("Home")
    assert "before the step" in slider.get_attribute("aria-valuetext")
    opened.page.get_by_role("button", name="Go to the peak").press("Enter")
    assert bytes_text(memory.peak_bytes) in slider.get_attribute("aria-valuetext")


def test_the_categories_and_the_bill(open_page: Callable[..., Opened], of_cnn: Written) -> None:
    opened = open_page(of_cnn.path)
    memory = of_cnn.run.memory
    drawn = opened.page.locator("svg.memory .area").evaluate_all("all => all.map(one => one.dataset.category)")
    assert set(drawn) == {block.category for block in memory.stream.blocks}
    opened.page.locator("#memory details summary").click()
    opened.show_all("memory details")
    bill = opened.frame("memory", table=1)
    assert [said("bytes", size) for size in memory.bill["bytes"].tolist()] == bill["bytes"].tolist()
    assert [path or "(model)" for path in memory.bill["path"]] == bill["path"].tolist()


def test_the_audits_memory(open_page: Callable[..., Opened], audited: torchtally.Audit, folder: Path) -> None:
    opened = open_page(folder / "audit.html")
    assert opened.page.locator("svg.memory path.beside").count() == 1
    drawn = opened.page.locator("svg.memory .area").evaluate_all("all => all.map(one => one.dataset.category)")
    assert set(drawn) == {block.category for block in audited.memory.stream.blocks}
    peaks = opened.frame("memory", table=0)
    first, last = peaks.iloc[0].tolist(), peaks.iloc[-1].tolist()
    assert first[1:] == [f"{audited.memory.peak_bytes:,}", f"{audited.foreseen.peak_bytes:,}"]
    assert last == ["the most without workspaces", *[f"{audited.foreseen.peak_bytes:,}"] * 2]


def test_the_other_run_is_laid_over(open_page: Callable[..., Opened], of_cnn: Written) -> None:
    opened = open_page(of_cnn.path)
    assert opened.page.locator("svg.memory path.beside").count() == 1
    assert "half the batch" in opened.page.locator("#memory .legend").inner_text()
    peaks = opened.frame("memory", table=0)
    assert peaks.iloc[0].tolist()[1] == f"{of_cnn.run.memory.peak_bytes:,}"
    at_peak = of_cnn.run.memory.bill.groupby("category")["bytes"].sum()
    shown = dict(zip(peaks["category"][1:], peaks["this"][1:], strict=True))
    assert {name: f"{size:,}" for name, size in at_peak.items()} == {name: shown[name] for name in at_peak.index}
