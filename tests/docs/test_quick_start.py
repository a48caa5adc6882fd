"""docs/quick-start.md works as it stands, from top to bottom, in one folder."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from pathlib import Path

import pytest

from torchtally.profiler import cli

from .test_docs import blocks, printed_as_written, write

pytest_plugins = ["pytester"]


@pytest.fixture
def in_one_folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the document's files are, with a cache of its own, and no plugin but torchtally's."""
    monkeypatch.chdir(pytester.path)
    monkeypatch.setattr(sys, "path", [str(pytester.path), *sys.path])
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("FORCE_COLOR", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return pytester.path


def test_it_works_from_top_to_bottom(
    in_one_folder: Path, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {}
    kinds = []
    for block in blocks("quick-start.md"):
        if re.match(r"# \S+\.py$", block[0]):
            write(block, in_one_folder)
            kinds.append("file")
        elif block[0].startswith(">>> "):
            names |= _typed(block, names)
            kinds.append("python")
        else:
            _in_a_shell(block, pytester, capsys)
            kinds.append("shell")
    sys.modules.pop("shop", None)
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {"file": 2, "python": 5, "shell": 3}


def _typed(block: list[str], names: dict[str, object]) -> dict[str, object]:
    """At Python's prompt, after what was typed before. The names that there are then."""
    said: list[str] = []
    typed = doctest.DocTestParser().get_doctest("\n".join(block) + "\n", names, "quick-start.md", None, 0)
    failures, tried = doctest.DocTestRunner().run(typed, out=said.append, clear_globs=False)
    assert failures == 0, "".join(said)
    assert tried > 0
    return typed.globs


def _in_a_shell(block: list[str], pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    command, *written = block
    program, *arguments = shlex.split(command.removeprefix("$ "))
    if program == "pytest":
        plugin = ("-p", "torchtally.profiler.pytest_plugin")
        printed_as_written(written, pytester.runpytest_inprocess(*plugin, *arguments).stdout.str())
        return
    assert program == "torchtally"
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code in (0, None)
    printed_as_written(written, capsys.readouterr().out)
