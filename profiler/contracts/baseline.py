"""Exact costs in a file that people read: one line per module, so that a change shows in a diff as the lines it is of.

    schema = 2

    [[check]]
    mode = "training"
    inputs = "float32 4x3x8x8"
    total = { parameters = 448, forward_flops = 221184, ..., peak_bytes = 40708 }

    [check.modules]
    "conv" = { type = "Conv2d", output = "4x16x8x8", parameters = 448, forward_flops = 221184, ..., peak_bytes = 37636 }

It is TOML. A figure that is not there is not known, which is not zero. Where the peak is not known, `peak_unknown` says
why; files of schema 1 say nothing of it, and then it is not held.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileFormatError, UsageError
from ..ledger import Row
from ..records import Trace
from ..run import Run

if TYPE_CHECKING:
    from ..report.checked import At
    from .peak import FrameworkPeak

SCHEMA = 2

HEADER = """\
# What this test's models cost, exactly: held by torchtally's `cost.check`, written by `pytest --cost-update`.
# A line is what a module does itself, without those inside it; "" is the model. 1 multiply-add = 2 FLOPs.
# peak_bytes is the most that is live at once, by prediction, without workspaces inside operators.
"""

Figure = int | str
Figures = Mapping[str, Figure]

TOTALS = ("parameters", "forward_flops", "backward_flops", "saved_bytes")
PEAK = "peak_bytes"


@dataclass(frozen=True, slots=True)
class Check:
    """One call of `cost.check`: what was run, in all, and by module path; and why its peak is not known, where it was
    asked for."""

    setting: Figures
    total: Figures
    modules: Mapping[str, Figures]
    peak_unknown: str = ""

    @property
    def holds_peak(self) -> bool:
        """Whether anything is said of the peak."""
        return PEAK in self.total or bool(self.peak_unknown)


def check_of(run: Run) -> Check:
    """The exact figures of a run: none of them depends on a clock or an allocator."""
    modules: dict[str, dict[str, Figure]] = {}
    for row in run.ledger.rows:
        if row.phase == "forward":
            modules[row.path] = _forward(row)
    for row in run.ledger.rows:
        if row.phase == "backward" and row.flops is not None:
            modules[row.path] |= {"backward_flops": row.flops, **_unpriced("backward", row)}
    total = {name: run.totals[name] for name in TOTALS if name in run.totals}
    return Check(setting=_setting(run.trace), total=total, modules={path: _ordered(f) for path, f in modules.items()})


def with_peak(check: Check, peak: FrameworkPeak) -> Check:
    """With the peak, and each module's part of it: also of modules that did nothing, and hold parameters."""
    if peak.bytes is None:
        return replace(check, peak_unknown=peak.unknown)
    modules = {path: {**figures, PEAK: peak.by_path.get(path, 0)} for path, figures in check.modules.items()}
    idle = {path: {PEAK: size} for path, size in peak.by_path.items() if path not in modules}
    return replace(check, total={**check.total, PEAK: peak.bytes}, modules={**modules, **idle})


def _setting(trace: Trace) -> dict[str, Figure]:
    mode = "training" if trace.modules and trace.modules[0].training else "evaluation"
    call = next((call for call in trace.calls if call.path == "" and call.phase == "forward"), None)
    inputs = () if call is None else call.inputs
    return {"mode": mode, "inputs": ", ".join(f"{spec.dtype} {_shape(spec.shape)}" for spec in inputs)}


def _forward(row: Row) -> dict[str, Figure]:
    figures = {
        "type": row.type,
        "calls": row.calls,
        "output": None if row.output_shape is None else _shape(row.output_shape),
        "parameters": row.parameters,
        "forward_flops": row.flops,
        "saved_bytes": row.saved_bytes,
    }
    return {name: value for name, value in figures.items() if value is not None} | _unpriced("forward", row)


def _unpriced(phase: str, row: Row) -> dict[str, Figure]:
    return {f"{phase}_unpriced": " ".join(row.unpriced)} if row.unpriced else {}


_ORDER = ("type", "calls", "output", "parameters", "forward_flops", "backward_flops", "saved_bytes")


def _ordered(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    names = (*(name for name in _ORDER if name in figures), *(name for name in figures if name not in _ORDER))
    return {name: figures[name] for name in names}


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


# Differences ----------------------------------------------------------------------------------------------------------


def differences(before: Check, after: Check) -> list[str]:
    """What changed, a line each: the layer, the figure, before and after. Empty where nothing did."""
    before, after = _comparable(before, after), _comparable(after, before)
    lines = [*_changes("", before.setting, after.setting), *_changes("total", before.total, after.total)]
    lines = [_why_unknown(line, before, after) for line in lines]
    for path in dict.fromkeys((*before.modules, *after.modules)):
        name = path or "(model)"
        if path not in after.modules:
            lines.append(f"{name}: gone ({_said(before.modules[path])})")
        elif path not in before.modules:
            lines.append(f"{name}: new ({_said(after.modules[path])})")
        else:
            lines += _changes(name, before.modules[path], after.modules[path])
    return lines


def _comparable(check: Check, other: Check) -> Check:
    """Without a peak where the other says nothing of it; without the modules' parts of it where the other has none."""
    if PEAK not in check.total or PEAK in other.total:
        return check
    modules = {path: _without_peak(figures) for path, figures in check.modules.items()}
    modules = {path: figures for path, figures in modules.items() if figures}
    return replace(check, total=check.total if other.holds_peak else _without_peak(check.total), modules=modules)


def _without_peak(figures: Figures) -> Figures:
    return {name: value for name, value in figures.items() if name != PEAK}


def _why_unknown(line: str, before: Check, after: Check) -> str:
    why = before.peak_unknown or after.peak_unknown
    return f"{line} ({why})" if why and line.startswith(f"total: {PEAK} ") else line


def _changes(whose: str, before: Figures, after: Figures) -> Iterable[str]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield f"{whose}: {name} ".lstrip(": ") + f"{_text(old)} -> {_text(new)}{_by(old, new)}"


def _by(old: Figure | None, new: Figure | None) -> str:
    return f" ({new / old - 1:+.1%})" if isinstance(old, int) and isinstance(new, int) and old else ""


def _said(figures: Figures) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in figures.items())


def _text(value: Figure | None) -> str:
    return "not known" if value is None else f"{value:,}" if isinstance(value, int) else value


# The file -------------------------------------------------------------------------------------------------------------


def write(path: Path, checks: Sequence[Check]) -> bool:
    """Whether the file had to change. Raises UsageError where it cannot be written."""
    from ..report.files import write_atomically

    text = HEADER + f"schema = {SCHEMA}\n" + "".join(map(_section, checks))
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {path.parent}: {error.strerror}") from error
    write_atomically(path, text)
    return True


def _section(check: Check) -> str:
    unknown = {"peak_unknown": check.peak_unknown} if check.peak_unknown else {}
    setting = "".join(f"{name} = {_toml(value)}\n" for name, value in {**check.setting, **unknown}.items())
    modules = "".join(f"{_toml(path)} = {_inline(figures)}\n" for path, figures in check.modules.items())
    return f"\n[[check]]\n{setting}total = {_inline(check.total)}\n\n[check.modules]\n{modules}"


def _inline(figures: Figures) -> str:
    return "{ " + ", ".join(f"{name} = {_toml(value)}" for name, value in figures.items()) + " }" if figures else "{}"


_ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\\ud800-\udfff]')


def _toml(value: Figure) -> str:
    if isinstance(value, int):
        return str(value)
    return '"' + _ESCAPED.sub(lambda found: _escape(found[0]), value) + '"'


def _escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    code = ord(character)
    return "\\uFFFD" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04X}"


def read(path: Path) -> tuple[Check, ...]:
    """The checks of a file. Raises FileFormatError, in one line, for what is none."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path.name}: no baseline: {str(error) or 'nested too deeply'}") from error
    from ..report.checked import At

    at = At(path.name)
    if (schema := at["schema"].integer(content.get("schema"), 1)) > SCHEMA:
        at["schema"].fail(f"{schema} is of a newer torchtally; this one reads up to {SCHEMA}")
    found = at.fields(content, ("schema",), ("check",)).get("check", [])
    return tuple(_check(at["check"][n], check) for n, check in enumerate(at["check"].items(found)))


def _check(at: At, value: object) -> Check:
    found = at.fields(value, ("mode", "inputs", "total", "modules"), ("peak_unknown",))
    modules = found["modules"]
    if not isinstance(modules, dict):
        at["modules"].expected("a table", modules)
    return Check(
        setting={name: at[name].text(found[name]) for name in ("mode", "inputs")},
        total=_figures(at["total"], found["total"]),
        modules={path: _figures(at["modules"][path], figures) for path, figures in modules.items()},
        peak_unknown=at["peak_unknown"].text(found.get("peak_unknown", "")),
    )


def _figures(at: At, value: object) -> Figures:
    if not isinstance(value, dict):
        at.expected("a table of figures", value)
    return {name: at[name].of_type(figure, int | str) for name, figure in value.items()}
