"""What is surprising in a run, in words: what a reader of its table would want to know first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..ledger import Ledger
from ..records import ModuleFacts, Trace
from .units import bytes_text, count_text, flops_text, seconds_text

_NAMED = 4


def remarks(trace: Trace, ledger: Ledger) -> list[str]:
    """Lower bounds first, then what was not seen, then the model: its dearest module, what is frozen or unused."""
    found = (
        _unpriced(ledger),
        *(f"note: {note}" for note in ledger.coverage.notes),
        _dearest(ledger),
        *time_remarks(ledger),
        _frozen(trace),
        _without_gradient(trace),
        _never_called(trace, ledger),
        _mixed_modes(trace),
    )
    return [remark for remark in found if remark]


def _unpriced(ledger: Ledger) -> str:
    entries = ledger.coverage.unpriced
    if not entries:
        return ""
    said = [f"{entry.operator} ({entry.calls} calls, {bytes_text(entry.bytes)} in and out)" for entry in entries]
    return f"figures marked >= are lower bounds; no price for {_listed(said)}"


def _dearest(ledger: Ledger) -> str:
    """The module that does most itself, where it does more than its share."""
    own: dict[str, int] = {}
    for row in ledger.rows:
        if row.phase in ("forward", "backward"):
            own[row.path] = own.get(row.path, 0) + (row.flops or 0)
    whole, working = sum(own.values()), sum(1 for flops in own.values() if flops)
    if working < 2:
        return ""
    path = max(own, key=lambda each: own[each])
    phases = " and ".join(phase for phase in ("forward", "backward") if f"{phase}_flops" in ledger.totals)
    return f"most FLOPs: {_named(path)}, {own[path] / whole:.1%} of {flops_text(whole)} {phases}"


def time_remarks(ledger: Ledger) -> Iterable[str]:
    """How long a step takes, how sure that is, what observing it cost, and what is in it besides layers."""
    timing = ledger.timing
    if timing is None:
        return
    step = seconds_text(timing.seconds)
    if timing.predicted:
        yield f"a step takes {step}, as predicted from this machine's calibration"
    else:
        spread = timing.step.spread / timing.seconds
        steps = len(timing.bare)
        yield (
            f"a step takes {step} (median of {steps}, give or take {spread:.0%}), and {timing.overhead:.2f} times that "
            f"when observed, as below; layers, loss and optimizer explain {timing.closure:.1%} of it"
        )
        yield from timing.warnings
    yield from (f"note: {note}" for note in timing.notes)


def _frozen(trace: Trace) -> str:
    sizes = {p.identity: (p.tensor.elements, p.trainable) for m in trace.modules for p in m.parameters}
    frozen = sum(elements for elements, trainable in sizes.values() if not trainable)
    if not frozen:
        return ""
    paths = _topmost(trace.modules, lambda module: not any(p.trainable for p in module.parameters))
    where = f": {_listed(paths)}" if paths else ""
    return f"frozen: {count_text(frozen)} of {count_text(sum(n for n, _ in sizes.values()))} parameters{where}"


def _without_gradient(trace: Trace) -> str:
    """Trained, and nothing came to them although a backward ran."""
    given = {(g.path, g.name) for g in trace.gradients if g.of == "parameter"}
    if not given:
        return ""
    reached = {p.identity for m in trace.modules for p in m.parameters if (m.path, p.name) in given}
    left = {p.identity: p.tensor.elements for m in trace.modules for p in m.parameters if p.trainable}
    left = {identity: elements for identity, elements in left.items() if identity not in reached}
    if not left:
        return ""
    paths = _topmost(trace.modules, lambda module: all(p.identity in left for p in module.parameters))
    where = f": {_listed(paths)}" if paths else ""
    return f"trainable, and without a gradient: {count_text(sum(left.values()))} parameters{where}"


def _never_called(trace: Trace, ledger: Ledger) -> str:
    """Modules that neither ran nor were worked for by the module around them, as attention does for its projection."""
    called = {call.path for call in trace.calls}
    working = {row.path for row in ledger.rows if row.flops and row.phase == "forward"}
    if not called:
        return ""

    def unused(module: ModuleFacts) -> bool:
        return module.path not in called and not working & set(_with_parents(module.path)) - {""}

    paths = _topmost(trace.modules, unused)
    return f"never called: {_listed(paths)}" if paths else ""


def _mixed_modes(trace: Trace) -> str:
    """BatchNorm and Dropout left in the other mode change what a step computes."""
    if not trace.modules or len({module.training for module in trace.modules}) < 2:
        return ""
    mode = trace.modules[0].training
    other = [_named(module.path) for module in trace.modules if module.training is not mode]
    words = ("evaluation", "training") if mode else ("training", "evaluation")
    return f"in {words[0]} mode, in a model in {words[1]} mode: {_listed(_outermost(other))}"


def _topmost(modules: Sequence[ModuleFacts], holds: Callable[[ModuleFacts], bool]) -> list[str]:
    """Paths of the largest parts of the model that have parameters, and of which that holds throughout."""
    broken = {path for m in modules if m.parameters and not holds(m) for path in _with_parents(m.path)}
    whole = {path for m in modules if m.parameters for path in _with_parents(m.path)} - broken
    return [_named(m.path) for m in modules if m.path in whole and not (set(_with_parents(m.path)) - {m.path}) & whole]


def _outermost(paths: Sequence[str]) -> list[str]:
    known = set(paths)
    return [path for path in paths if not (set(_with_parents(path)) - {path}) & known]


def _with_parents(path: str) -> Iterable[str]:
    yield path
    while path:
        path = path.rpartition(".")[0]
        yield path


def _named(path: str) -> str:
    return path or "(model)"


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _NAMED
    return ", ".join(words[:_NAMED]) + (f" and {more} more" if more > 0 else "")
