"""The pytest plugin: the fixture `cost`, `--cost-update`, and the mark `cost` with a budget.

pytest loads this file in every project where torchtally is installed, so it imports nothing: not torch, not the rest of
torchtally, until a test asks for the fixture.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .contracts.contract import Contract

FOLDER = ".cost"
"""`test_model.py` has its baselines in `test_model.cost/`."""

_CONTRACT = pytest.StashKey["Contract"]()
_STALE = pytest.StashKey["set[str]"]()
_OUTPUT = "torchtally_stale_baselines"  # from a worker of xdist to its controller
_LONGEST = 120


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("torchtally").addoption(
        "--cost-update", action="store_true", help="write the baselines of cost.check instead of comparing with them"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STALE] = set()
    config.addinivalue_line(
        "markers",
        'cost(flops="2 GFLOP", forward_flops=..., backward_flops=..., parameters="1 M", saved="64 MiB", peak="1 GiB"): '
        "the most that each cost.check of this test may find (torchtally)",
    )


@pytest.fixture
def cost(request: pytest.FixtureRequest) -> Contract:
    """Hold a model's exact costs against a baseline beside the test: `cost.check(model, *args, **kwargs)`."""
    from .contracts.contract import Contract

    item = request.node
    contract = Contract(
        baseline(item), bounds=_bounds(item), update=item.config.getoption("cost_update"), command=_command(item)
    )
    item.stash[_CONTRACT] = contract
    return contract


def _bounds(item: pytest.Item) -> Any:
    """Of all marks; the one nearest to the test wins."""
    from .contracts.budget import bounds
    from .errors import UsageError

    budget: dict[str, object] = {}
    for mark in item.iter_markers("cost"):
        if mark.args or not mark.kwargs:
            pytest.fail(
                'the mark cost takes a budget by name, such as @pytest.mark.cost(flops="2 GFLOP")', pytrace=False
            )
        budget = {**mark.kwargs, **budget}
    try:
        return bounds(budget)
    except UsageError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """After a test that passed: is its contract kept to the end?"""
    contract = item.stash.get(_CONTRACT, None)
    if (contract is None or not contract.checks) and item.get_closest_marker("cost") is not None:
        pytest.fail(
            "the test is marked with a cost budget, and calls no cost.check that it would apply to", pytrace=False
        )
    if contract is not None:
        contract.finish()


# Where baselines are --------------------------------------------------------------------------------------------------


def baseline(item: pytest.Item) -> Path:
    """`tests/test_model.cost/TestNet.test_cost[8].toml`. Names that no file can have end with a hash."""
    name = _name(item)
    plain = re.sub(r"[^\w.,+=\[\]-]", "_", name, flags=re.ASCII)[:_LONGEST]
    if plain != name:
        plain += "-" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return _folder(item) / f"{plain}.toml"


def _name(item: pytest.Item) -> str:
    classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    return ".".join((*classes, item.name))


def _folder(item: pytest.Item) -> Path:
    return item.path.with_name(item.path.stem + FOLDER)


def _command(item: pytest.Item) -> str:
    """As it can be typed where pytest was started, wherever its rootdir is."""
    path = os.path.relpath(item.path, item.config.invocation_params.dir)
    classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    return f'pytest --cost-update "{"::".join((path, *classes, item.name))}"'


# Baselines of no test -------------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before anything is deselected, all tests of a file are here, unless some were chosen by name."""
    if any("::" in argument for argument in config.args) or config.getoption("lf", False):
        return
    expected = {baseline(item) for item in items if "cost" in getattr(item, "fixturenames", ())}
    folders = {_folder(item) for item in items}
    found = {path for folder in folders if folder.is_dir() for path in folder.glob("*.toml")}
    stale: set[str] = config.stash[_STALE]
    stale.update(map(str, found - expected))


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        stale: set[str] = session.config.stash[_STALE]
        output[_OUTPUT] = sorted(stale)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """xdist's workers collect, and its controller reports."""
    stale: set[str] = node.config.stash[_STALE]
    stale.update(getattr(node, "workeroutput", {}).get(_OUTPUT, ()))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    stale: set[str] = config.stash[_STALE]
    if stale:
        terminalreporter.section("stale cost baselines")
        for path in sorted(stale):
            terminalreporter.line(f"{os.path.relpath(path, config.invocation_params.dir)}: no test has it; delete it")
