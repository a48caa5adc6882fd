"""The examples in docs/reading-a-report.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "reading-a-report.md"


def examples(text: str) -> list[str]:
    """Indented blocks, without their indentation."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, flags=re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def test_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = examples(DOCUMENT.read_text(encoding="utf-8"))
    assert len(found) == 2
    names: dict[str, Any] = {}
    for example in found:
        exec(compile(example, DOCUMENT.name, "exec"), names)
    both = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert (tmp_path / "cost.html").is_file()
    assert '"names":["measured","predicted"]' in both
    assert '<section id="memory"' in both
