"""Who may import whom, what the package shows, and what no file of the repository may say.

Every rule is a function from one parsed file to what breaks it, and is tried on a planted breach.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import torchtally

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("theory", "models", "profiler")
STDLIB = set(sys.stdlib_module_names)


@dataclass(frozen=True)
class Import:
    """One import: its absolute dotted name, whether it was written relative, whether it runs at import time."""

    name: str
    relative: bool
    eager: bool
    line: int

    def under(self, *packages: str) -> bool:
        return any(self.name == package or self.name.startswith(package + ".") for package in packages)


def imports(path: str, source: str) -> list[Import]:
    """All imports of a file, `path` relative to the repository ("theory/cost.py")."""
    package = ["torchtally", *Path(path).parent.parts]
    return list(_imports(ast.parse(source), package, eager=True))


def _imports(node: ast.AST, package: list[str], eager: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = eager and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inside = False
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, False, eager, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = package[: len(package) - child.level + 1] if child.level else []
            base = [*base, child.module] if child.module else base
            for alias in child.names:
                yield Import(".".join([*base, alias.name]), bool(child.level), eager, child.lineno)
        yield from _imports(child, package, inside)


# The rules ------------------------------------------------------------------------------------------------------------

COMMANDS = ("profiler/cli.py", "profiler/commands/")
READS_MODELS = (*COMMANDS, "profiler/audit/", "profiler/workload.py")
FORMATS = (*COMMANDS, "profiler/report/")
WORDS = ("tensor", "phase", "stream")
FACTS = ("records", "ledger", "pricing", "formulas", "errors", "run", "memory", "diff")
WITHOUT_TORCH = (*FACTS, "contracts", "pytest_plugin", "commands")


def breaches(path: str, source: str) -> list[str]:
    """What is wrong with a file's imports, in words."""
    return [
        f"{path}:{found.line}: {why} ({found.name})"
        for found in imports(path, source)
        for why in _breaches(path, found)
    ]


def _breaches(path: str, found: Import) -> Iterator[str]:
    outside = not found.under("torchtally") and found.name.partition(".")[0] not in STDLIB
    if found.under("torchtally") and not found.relative:
        yield "imports between the folders are relative"
    if path.startswith("theory/") and (outside or found.under("torchtally.models", "torchtally.profiler")):
        yield "theory imports the standard library and itself only"
    if path.startswith("models/"):
        if found.under("torchtally.theory", "torchtally.profiler"):
            yield "models imports neither theory nor profiler"
        if outside and not found.under("torch", "torchvision"):
            yield "models imports torch and torchvision only"
    if path.startswith(("profiler/pricing", "profiler/formulas")) and found.under("torchtally.theory"):
        yield "operators are priced without looking at theory"
    if path.startswith("profiler/capture/"):
        if found.under("torchtally.theory") and not found.under(*(f"torchtally.theory.{word}" for word in WORDS)):
            yield "capture takes nothing from theory but the words for tensors, phases and streams"
        if found.under("torchtally.profiler") and not found.under(
            "torchtally.profiler.capture", "torchtally.profiler.records", "torchtally.profiler.errors"
        ):
            yield "capture stores facts, and knows nothing of what is made of them"
    if found.under("torchtally.models") and not path.startswith((*READS_MODELS, "models/")):
        yield "only the command line, the audit and workloads know models"
    if found.eager and not path.startswith(FORMATS):
        if found.under("rich", "pandas"):
            yield "only report formats"
        if found.under("torchtally.profiler.report"):
            yield "nothing below report imports it, but in a function that prints"
    if found.under("click") and not path.startswith(COMMANDS):
        yield "only the command line is one"
    if found.under("pytest") and path != "profiler/pytest_plugin.py":
        yield "only the plugin is pytest's"
    if found.eager and Path(path).parts[1].partition(".")[0] in WITHOUT_TORCH and found.under("torch"):
        yield "facts and prices are read without torch"


def sources() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", [str(path.relative_to(ROOT)) for path in sources()])
def test_the_arrows(path: str) -> None:
    assert breaches(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("theory/cost.py", "import torch", "standard library and itself"),
        ("theory/cost.py", "from ..profiler.records import Trace", "standard library and itself"),
        ("theory/claims/reader.py", "from ...profiler import ledger", "standard library and itself"),
        ("theory/claims/reader.py", "def f():\n    import numpy as np", "standard library and itself"),
        ("theory/cost.py", "from torchtally.theory.tensor import TensorSpec", "relative"),
        ("models/cnn.py", "from ..theory import Conv2d", "neither theory nor profiler"),
        ("models/cnn.py", "import transformers", "torch and torchvision only"),
        ("profiler/pricing.py", "from ..theory.convolution import Conv2d", "without looking at theory"),
        ("profiler/pricing.py", "from .. import theory", "without looking at theory"),
        ("profiler/formulas.py", "def f():\n    from ..theory import cost", "without looking at theory"),
        ("profiler/formulas/products.py", "from ...theory.cost import Cost", "without looking at theory"),
        ("profiler/capture/modules.py", "from ...theory.layer import Layer", "takes nothing from theory"),
        ("profiler/capture/modules.py", "from ..pricing import PRICES", "stores facts"),
        ("profiler/compare.py", "from ..models.cnn import CNN", "know models"),
        ("profiler/profile.py", "def f():\n    from ..models import CNN", "know models"),
        ("profiler/ledger.py", "import pandas as pd", "only report formats"),
        ("profiler/compare.py", "from rich.table import Table", "only report formats"),
        ("profiler/compare.py", "class C:\n    from .report import terminal", "nothing below report"),
        ("profiler/report/frame.py", "import click", "command line"),
        ("profiler/contracts/contract.py", "import pytest", "only the plugin"),
        ("profiler/records.py", "from torch import Tensor", "without torch"),
        ("profiler/commands/profile.py", "import torch", "without torch"),
    ],
)
def test_a_planted_breach_is_found(path: str, source: str, why: str) -> None:
    (found,) = breaches(path, source)
    assert why in found
    assert found.startswith(f"{path}:{2 if chr(10) in source else 1}:")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("theory/cost.py", "from __future__ import annotations\nimport math\nfrom .tensor import TensorSpec"),
        ("theory/claims/reader.py", "from ..tensor import TensorSpec"),
        ("models/cnn.py", "from torch import nn\nimport torchvision.models"),
        ("profiler/profile.py", "if TYPE_CHECKING:\n    import pandas as pd"),
        ("profiler/profile.py", "def f():\n    from .report.frame import ledger_frame"),
        ("profiler/capture/tensors.py", "from ...theory.tensor import TensorSpec\nfrom ..records import Trace"),
        ("profiler/cli.py", "def f():\n    from ..models import CNN\n    import rich"),
        ("profiler/commands/target.py", "import click\ndef f():\n    import torch\n    from ...models import zoo"),
        ("profiler/pytest_plugin.py", "import pytest"),
        ("profiler/audit/runs.py", "from ...models.cnn import CNN"),
        ("profiler/compare.py", "from ..theory.network import Network"),
    ],
)
def test_what_is_allowed_is_not_found(path: str, source: str) -> None:
    assert breaches(path, source) == []


def test_the_walk_finds_the_files() -> None:
    found = {str(path.relative_to(ROOT)) for path in sources()}
    assert {"theory/cost.py", "theory/claims/reader.py", "models/cnn.py", "profiler/capture/modules.py"} <= found


# The public face ------------------------------------------------------------------------------------------------------


def test_the_public_face() -> None:
    types = ["Audit", "Comparison", "Learner", "Machine", "Price", "Profile", "Run", "Signature", "TallyError"]
    names = ["Workload", "audit", "calibrate", "count", "fits", "from_json", "largest_batch", "machine", "measure"]
    assert torchtally.__all__ == ["PRICES", *types, *names, "predict", "profile"]
    assert all(getattr(torchtally, name) is not None for name in torchtally.__all__)
    assert set(torchtally.__all__) <= set(dir(torchtally))
    with pytest.raises(AttributeError, match="no attribute 'profle'"):
        _ = torchtally.profle


def test_every_lazy_name_is_public_and_typed() -> None:
    """The names that checkers see, under TYPE_CHECKING, are those that are loaded at run time."""
    source = (ROOT / "src/torchtally/__init__.py").read_text(encoding="utf-8")
    typed = [found.name for found in imports("__init__.py", source) if found.relative and not found.eager]
    homes = {f"torchtally{home}.{name}" for name, home in torchtally._HOMES.items()}
    assert set(typed) == homes
    assert sorted(torchtally._HOMES) == sorted(torchtally.__all__)


@pytest.mark.parametrize(
    "module",
    ["torchtally", "torchtally.theory", "torchtally.theory.claims.reader", "torchtally.profiler.report.run_reader"]
    + [f"torchtally.profiler.{name}" for name in WITHOUT_TORCH],
)
def test_imported_without_torch(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'torch', 'pandas', 'rich', 'click', 'numpy'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# What no file says ----------------------------------------------------------------------------------------------------

# Written in parts, so that this file does not say it either.
PLACES = ("work", "tmp", "home", "root", "Users", "mnt")
MACHINE = re.compile(r"(?<![\w.~}])/(?:" + "|".join(PLACES) + r")/")
HOSTS = ("pypi" + ".", "pythonhosted" + ".", "download." + "pytorch", "index" + "-url", "PIP_" + "INDEX")
INDEX = re.compile("|".join(map(re.escape, HOSTS)), re.IGNORECASE)


def texts() -> list[tuple[str, str]]:
    """Every text file that git would keep, with its content."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listing.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink() and b"\0" not in (content := path.read_bytes()):
            found.append((name, content.decode("utf-8")))
    return found


def said(pattern: re.Pattern[str], files: list[tuple[str, str]]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in files
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_place_on_some_machine() -> None:
    assert said(MACHINE, texts()) == []


def test_no_file_names_a_package_index() -> None:
    assert said(INDEX, texts()) == []


@pytest.mark.parametrize("place", PLACES)
def test_a_place_would_be_found(place: str) -> None:
    assert said(MACHINE, [("a", f"fine\ncd /{place}/x")]) == [f"a:2: cd /{place}/x"]


@pytest.mark.parametrize("line", ["../shared/work/x", "N/A", "a/tmp/b", "https://example.org/home/x", "./tmp/x"])
def test_other_slashes_are_fine(line: str) -> None:
    assert said(MACHINE, [("a", line)]) == []


@pytest.mark.parametrize("host", HOSTS)
def test_an_index_would_be_found(host: str) -> None:
    assert said(INDEX, [("a", f"see {host}org")]) == [f"a:1: see {host}org"]
