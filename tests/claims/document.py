"""The walkthrough as plain text: found where it lies, never copied here."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

VARIABLE = "TORCHTALLY_WALKTHROUGH"
BESIDE_THE_REPOSITORY = Path(__file__).parents[3] / "shared" / "seeds"
TITLE = "# CNN End-to-End Example"


def walkthrough() -> Path | None:
    """The document: named by the environment, or beside the repository; None where it is not at hand."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    found = [
        path
        for path in sorted(BESIDE_THE_REPOSITORY.glob("*.txt"))
        if path.read_text(encoding="utf-8").startswith(TITLE)
    ]
    return found[0] if found else None


# LaTeX and Markdown that dress a figure, as the plain text a reader sees; applied in this order.
_SYMBOLS = {
    r"\times": "×", r"\approx": "≈", r"\cdot": "·", r"\partial": "∂", r"\sum": "Σ", r"\sqrt": "√",
    r"\lfloor": "⌊", r"\rfloor": "⌋", r"\left": "", r"\right": "", r"\gamma": "γ", r"\beta": "β",
    r"\mu": "μ", r"\sigma": "σ", r"\epsilon": "ε", r"\max": "max", r"\log": "log", r"\_": "_",
    "**": "", "$": "", "&": "",
}  # fmt: skip
_WRAPPER = re.compile(r"\\(?:textcolor\{\w+\}|textbf|text|mathcal|mathbb)\{([^{}]*)\}")
_SCRIPT = re.compile(r"([_^])\{([^{}]*)\}")
_FRACTION = re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}")
_ROOT = re.compile(r"√\{([^{}]*)\}")


def _group(text: str) -> str:
    """Parentheses around what is more than one word, as in (H × W)."""
    return text if re.fullmatch(r"[\w∂,.^()']*", text.replace("∂ ", "∂")) else f"({text})"


def rendered(line: str) -> str:
    """One line of the document as plain text: colours, bold and dollar signs gone, fractions as a/b."""
    for symbol, plain in _SYMBOLS.items():
        line = line.replace(symbol, plain)
    before = None
    while line != before:  # from the innermost braces outwards
        before = line
        line = _WRAPPER.sub(r"\1", line)
        line = _SCRIPT.sub(lambda m: m[1] + (m[2] if len(m[2]) == 1 else f"({m[2]})"), line)
        line = _ROOT.sub(r"√(\1)", line)
        line = _FRACTION.sub(lambda m: f"{_group(m[1])}/{_group(m[2])}", line)
    return re.sub(r"(?<=\S) +", " ", line.replace("∂ ", "∂"))


def lines(text: str) -> dict[int, str]:
    """Every line of a document as plain text, by its number from 1."""
    return {number: rendered(line) for number, line in enumerate(text.splitlines(), start=1)}


def is_row(line: str) -> bool:
    """Whether a line is a table row: figures may stand in it."""
    return line.startswith("|") and not line.startswith("|--")


def cells(line: str) -> list[tuple[int, int]]:
    """Where each cell of a table row begins and ends, first column first."""
    bars = [place for place, sign in enumerate(line) if sign == "|"]
    return [(start + 1, end) for start, end in pairwise(bars)]


def sections(rendered_lines: dict[int, str]) -> dict[int, str]:
    """The headings that each line stands under, below the title, shortened at a colon or parenthesis."""
    found, headings = {}, {}
    for number, line in rendered_lines.items():
        if heading := re.match(r"(#+) (?:\d+\. )?([^:(]*[^:( ])", line):
            headings = {depth: name for depth, name in headings.items() if depth < len(heading[1])}
            headings[len(heading[1])] = heading[2]
        found[number] = " / ".join(name for name in headings.values() if not TITLE.endswith(name))
    return found
