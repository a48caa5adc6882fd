"""The walkthrough's claims of computing, asked of a clock in several processes: a table for `walkthrough.py`."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torchtally

Row = dict[str, Any]


def clocked(device: str) -> list[Row]:
    """Each such claim: what is claimed, what the run has of FLOPs or bytes, what the clock said, and its verdict."""
    found = torchtally.audit(device=device, seconds=True)
    counted = {entry.claim.id: entry.row for entry in found.claims}
    return [
        {
            "line": entry.claim.line,
            "layer": f"{entry.row.path or 'network'} {entry.row.phase or entry.row.quantity}",
            "claimed": entry.row.claim,
            "counted": _plain(counted[entry.claim.id].count, counted[entry.claim.id].measured),
            "clock": entry.row.measured,
            "verdict": entry.row.verdict,
            "reason": entry.row.reason,
        }
        for entry in found.seconds
    ]


def clocked_lines(processes: Sequence[Sequence[Row]]) -> list[str]:
    """Figures are medians over the processes; verdicts are counted. None without a process."""
    if not processes:
        return []
    lines = [
        "### The claims of computing, by the clock",
        "",
        "| line | layer | claimed | counted | clock | verdict |",
        "| ---: | --- | --- | ---: | ---: | --- |",
    ]
    for rows in zip(*processes, strict=True):
        first = rows[0]
        lines.append(
            f"| {first['line']} | {first['layer']} | {first['claimed']} | {_cell(first['counted'])} | "
            f"{_middle([row['clock'] for row in rows])} | {_counts([row['verdict'] for row in rows])} |"
        )
    return [*lines, ""]


def _plain(*answers: Any) -> Any:
    """The first that there is, as JSON has it."""
    answer = next((each for each in answers if each is not None), None)
    return answer if answer is None or isinstance(answer, str) else float(answer)


def _cell(figure: Any) -> str:
    return f"{figure:.4g}" if isinstance(figure, float) else str(figure)


def _middle(figures: Sequence[Any]) -> str:
    if all(isinstance(figure, float) for figure in figures):
        return f"{statistics.median(figures):.4g} ({min(figures):.4g} to {max(figures):.4g})"
    return _counts(figures)


def _counts(words: Sequence[str]) -> str:
    """Of one word the word; of several how often each."""
    counts = Counter(words)
    return words[0] if len(counts) == 1 else ", ".join(f"{count} {word}" for word, count in counts.most_common())
