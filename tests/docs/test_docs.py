"""Every example in `docs/` is run, and prints what the document says that it prints."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from torchtally.profiler import cli

pytest_plugins = ["pytester"]

DOCS = Path(__file__).parents[2] / "docs"
VERSION = re.compile(r"torch \d+\.\d+\.\d+\S*")


def blocks(name: str) -> Iterator[list[str]]:
    """Indented examples, without their indentation. A `$`, or a file's name after a blank line, begins a new one."""
    found: list[str] = []
    for line in (DOCS / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("    "):
            if found and (line.startswith("    $ ") or (not found[-1] and re.match(r"    # \S+\.py$", line))):
                yield _stripped(found)
                found = []
            found.append(line[4:])
        elif not line and found:
            found.append("")
        elif found:
            yield _stripped(found)
            found = []
    if found:
        yield _stripped(found)


def _stripped(lines: list[str]) -> list[str]:
    return "\n".join(lines).strip("\n").splitlines()


def printed_as_written(written: list[str], printed: str) -> None:
    """Line for line; `...` alone stands for any lines, within a line for any words."""
    lines = [VERSION.sub("torch", line.rstrip()) for line in printed.strip("\n").splitlines()]
    while written:
        expected = VERSION.sub("torch", written.pop(0))
        if expected == "...":
            while written and lines and not _alike(lines[0], VERSION.sub("torch", written[0])):
                lines.pop(0)
            lines = lines if written else []
            continue
        assert lines and _alike(lines.pop(0), expected), f"not printed: {expected}\n\n{printed}"
    assert lines == [], f"not in the document: {lines[0]}"


def _alike(line: str, expected: str) -> bool:
    return re.fullmatch(re.escape(expected).replace(r"\.\.\.", ".*"), line) is not None


def write(block: list[str], folder: Path) -> None:
    path = folder / block[0].removeprefix("# ")
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(block[1:]) + "\n", encoding="utf-8")


def examples(name: str) -> list[list[str]]:
    found = [block for block in blocks(name) if block[0].startswith("$ ") or re.match(r"# \S+\.py$", block[0])]
    assert len(found) > 4
    return found


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("FORCE_COLOR", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for block in examples("command-line.md"):
        if block[0].startswith("# "):
            write(block, tmp_path)
            continue
        command, *written = block
        program, *arguments = shlex.split(command.removeprefix("$ "))
        assert program == "torchtally"
        with pytest.raises(SystemExit):
            cli.main(arguments)
        captured = capsys.readouterr()
        if written:
            printed_as_written(written, captured.out + captured.err)
    for module in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[module]


def test_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # two versions of one file within a second
    for block in examples("pytest.md"):
        command, *written = block
        if command.startswith("# "):
            write(block, pytester.path)
            continue
        program, *arguments = shlex.split(command.removeprefix("$ "))
        if program == "cat":
            printed = (pytester.path / arguments[0]).read_text(encoding="utf-8")
        else:
            assert program == "pytest"
            plugin = ("-p", "torchtally.profiler.pytest_plugin")
            printed = pytester.runpytest_inprocess(*plugin, *arguments).stdout.str()
        printed_as_written(written, printed)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    torch.manual_seed(0)
    text = "\n".join("\n".join(block) for block in blocks("files.md") if block[0].startswith(">>> "))
    said: list[str] = []
    found = doctest.DocTestParser().get_doctest(text, {}, "files.md", None, 0)
    failures, tried = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(found, out=said.append)
    assert failures == 0, "".join(said)
    assert tried > 10


@pytest.mark.parametrize(
    ("written", "printed"),
    [(["a"], "a"), (["a", "...", "d"], "a\nb\nc\nd"), (["...", "c", "..."], "a\nb\nc\nd"), (["a...z 1"], "abcz 1")],
)
def test_examples_that_hold(written: list[str], printed: str) -> None:
    printed_as_written(written, printed)


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        (["a"], "b"),
        (["a"], "a\nb"),
        (["a", "b"], "a"),
        (["...", "x", "..."], "a\nb"),
        (["a", "...", "d"], "a\nb\nd\ne"),
    ],
)
def test_examples_that_do_not_hold(written: list[str], printed: Any) -> None:
    with pytest.raises(AssertionError):
        printed_as_written(written, printed)
