"""The plugin in projects of every kind: where it is not used, elsewhere, in parallel, beside names like ours."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from .projects import NETWORK, PLUGIN, SIMPLE, passed, project, run

pytest_plugins = ["pytester"]


def in_a_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest as a user starts it; this plugin alone, and xdist where it is asked for."""
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_it_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_nothing_is_loaded():\n"
        "    assert 'torchtally' in sys.modules\n"
        "    heavy = {'torch', 'pandas', 'numpy', 'rich', 'click'} & sys.modules.keys()\n"
        "    ours = {name for name in sys.modules if name.startswith('torchtally.profiler.')}\n"
        f"    assert (heavy, ours) == (set(), {{{PLUGIN!r}}})\n"
    )
    done = in_a_process(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_entry_point_is_this_module() -> None:
    import tomllib

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["project"]["entry-points"]["pytest11"] == {"torchtally": PLUGIN}


def test_a_project_with_names_like_ours(tmp_path: Path) -> None:
    """Its `models/` has no `__init__.py`, and its `profiler.py` is not ours."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(2, 3)\n")
    (tmp_path / "profiler.py").write_text("WHOSE = 'the user'\n")
    (tmp_path / "theory.py").write_text("WHOSE = 'the user'\n")
    (tmp_path / "test_net.py").write_text(
        "import torch, profiler, theory\n"
        "from models.net import net\n"
        "def test_cost(cost):\n"
        "    assert profiler.WHOSE == theory.WHOSE == 'the user'\n"
        "    assert cost.check(net(), torch.zeros(1, 2)).totals['parameters'] == 2 * 3 + 3\n"
    )
    done = in_a_process(tmp_path, "--cost-update")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "test_net.cost" / "test_cost.toml").exists()


def test_a_rootdir_elsewhere(pytester: pytest.Pytester) -> None:
    """Baselines are beside the test; the command to write them is as it is typed where pytest was started."""
    folder = pytester.mkdir("package") / "tests"
    folder.mkdir()
    (folder / "test_net.py").write_text(NETWORK + SIMPLE)
    elsewhere = str(pytester.mkdir("elsewhere"))
    where = ("--rootdir", elsewhere, "package/tests")
    result = run(pytester, *where)
    typed = os.path.join("package", "tests", "test_net.py") + "::test_cost"
    result.stdout.fnmatch_lines([f'*pytest --cost-update "{typed}"*'])
    passed(pytester, "--rootdir", elsewhere, "--cost-update", typed)
    assert (folder / "test_net.cost" / "test_cost.toml").exists()
    passed(pytester, *where)


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_every_way_of_importing_tests(pytester: pytest.Pytester, mode: str) -> None:
    project(pytester, SIMPLE)
    passed(pytester, f"--import-mode={mode}", "--cost-update")
    passed(pytester, f"--import-mode={mode}")


CASES = """
@pytest.mark.parametrize("hidden", range(2, 8))
def test_cost(cost, hidden):
    cost.check(network(hidden), X)
"""


@pytest.mark.skipif(find_spec("xdist") is None, reason="needs pytest-xdist")
def test_workers_share_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_net.py").write_text(NETWORK + CASES)
    parallel = ("-p", "xdist", "-n", "2")
    assert in_a_process(tmp_path, *parallel, "--cost-update").returncode == 0
    names = {path.name for path in (tmp_path / "test_net.cost").iterdir()}
    assert names == {f"test_cost[{hidden}].toml" for hidden in range(2, 8)}
    (tmp_path / "test_net.cost" / "test_gone.toml").write_text("schema = 1\n")
    done = in_a_process(tmp_path, *parallel)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("test_gone.toml: no test has it") == 1


def test_what_a_worker_found_stale_is_said_once(pytester: pytest.Pytester) -> None:
    """As xdist hands it over, without xdist."""
    from types import SimpleNamespace

    from torchtally.profiler import pytest_plugin

    stash = pytest.Stash()
    stash[pytest_plugin._STALE] = set()
    config = SimpleNamespace(stash=stash)
    for _ in range(2):
        output = {pytest_plugin._OUTPUT: ["a.toml"]}
        pytest_plugin.pytest_testnodedown(SimpleNamespace(config=config, workeroutput=output))
    pytest_plugin.pytest_testnodedown(SimpleNamespace(config=config))  # a worker that crashed
    assert stash[pytest_plugin._STALE] == {"a.toml"}


def test_a_test_that_fails_last_time_alone_leaves_no_others_stale(pytester: pytest.Pytester) -> None:
    tests = SIMPLE + "\ndef test_other(cost):\n    cost.check(network(), X)\n    assert FINE\n"
    project(pytester, "\nFINE = True\n" + tests)
    assert pytester.runpytest_inprocess("-p", PLUGIN, "--cost-update").ret == 0
    project(pytester, "\nFINE = False\n" + tests)
    assert pytester.runpytest_inprocess("-p", PLUGIN).ret == 1
    result = pytester.runpytest_inprocess("-p", PLUGIN, "--lf")
    assert "stale cost baselines" not in result.stdout.str()


def test_the_options_and_the_mark_are_documented(pytester: pytest.Pytester) -> None:
    run(pytester, "--help").stdout.fnmatch_lines(["*--cost-update*"])
    run(pytester, "--markers").stdout.fnmatch_lines(["@pytest.mark.cost(flops=*"])


def test_a_fixture_of_the_same_name_is_the_projects(pytester: pytest.Pytester) -> None:
    project(pytester, "\n@pytest.fixture\ndef cost():\n    return 3\n\ndef test_own(cost):\n    assert cost == 3\n")
    passed(pytester)
