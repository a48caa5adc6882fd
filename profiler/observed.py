"""A trace by module: what closed forms may know of a run. Its facts choose the form and its inputs; its counts stay
out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TypeVar

from ..theory.tensor import TensorSpec
from .records import CallFacts, GradientFacts, ModuleFacts, OperatorFacts, ParameterFacts, Phase, Trace


class NotComparableError(ValueError):
    """What a run shows does not decide what closed forms should say of it. The message says why."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One module's facts, and its children's parameters by their dotted names."""

    facts: ModuleFacts
    parameters: dict[str, ParameterFacts]
    calls: tuple[CallFacts, ...]
    recomputed: tuple[CallFacts, ...]
    arrivals: tuple[GradientFacts, ...]
    operators: tuple[OperatorFacts, ...]
    children: frozenset[str]
    inside: Mapping[str, tuple[CallFacts, ...]]
    """Paths, from here, of modules in this one; and the calls of those that were called."""
    first_held: frozenset[str]
    """Names of the parameters that no module before this one holds: there a shared one's gradient is on the books."""
    given: frozenset[str]
    """Names of the parameters whose gradient was accumulated, wherever that is on the books."""
    unseen: bool
    """Whether the run has nodes that cannot be looked into, as writes into views are."""

    @property
    def called_children(self) -> Set[str]:
        """Paths, from here, of the modules in this one that were called."""
        return self.inside.keys()

    @property
    def called_inside(self) -> bool:
        return bool(self.inside)

    @property
    def path(self) -> str:
        return self.facts.path

    def times(self, *fragments: str, phase: Phase = "forward") -> int:
        """How often operators ran whose names have one of these in them."""
        return sum(
            facts.times
            for facts in self.operators
            if facts.phase == phase and any(fragment in facts.signature.operator for fragment in fragments)
        )

    def always(self, *fragments: str) -> bool:
        """Whether every call of forward ran one such operator; False where none did.

        Raises NotComparableError where some did.
        """
        ran, calls = self.times(*fragments), sum(call.times for call in self.calls)
        if ran not in (0, calls):
            raise NotComparableError(f"{fragments[0]} ran {ran} times in {calls} calls: they differ in mode or kernel")
        return ran > 0

    def arrived(self, spec: TensorSpec) -> int:
        """How often the backward of calls with such a first output ran. One gradient of any output is enough for it."""
        positions: dict[str, int] = defaultdict(int)
        of_spec = {
            str(position)
            for call in (*self.calls, *self.recomputed)
            if call.outputs[:1] == (spec,)
            for position in range(len(call.outputs))
        }
        for gradient in self.arrivals:
            alone = gradient.name != "0" or gradient.tensor == spec
            if gradient.of == "output" and gradient.name in of_spec and alone:
                positions[gradient.name] += gradient.times
        return max(positions.values(), default=0)

    def reached(self, position: int) -> bool:
        """Whether this module gave its input at that position a gradient."""
        return any(gradient.of == "input" and gradient.name == str(position) for gradient in self.arrivals)


def observe(trace: Trace, paths: Container[str]) -> dict[str, Observed]:
    """The facts of those modules, by path."""
    calls, operators, arrivals = _by_path(trace.calls), _by_path(trace.operators), _by_path(trace.gradients)
    holders: dict[int, str] = {}
    for facts in trace.modules:
        for parameter in facts.parameters:
            holders.setdefault(parameter.identity, _joined(facts.path, parameter.name))
    accumulated = {_joined(g.path, g.name) for g in trace.gradients if g.of == "parameter"}
    below = _below(trace, paths)
    found = {}
    for facts in trace.modules:
        if facts.path not in paths:
            continue
        inside, start = below[facts.path], len(facts.path) + 1 if facts.path else 0
        parameters = {
            _joined(inner.path, parameter.name)[start:]: parameter
            for inner in (facts, *inside)
            for parameter in inner.parameters
        }
        holder = {name: holders[parameter.identity] for name, parameter in parameters.items()}
        found[facts.path] = Observed(
            facts=facts,
            parameters=parameters,
            calls=tuple(call for call in calls[facts.path] if call.phase == "forward"),
            recomputed=tuple(call for call in calls[facts.path] if call.phase == "recompute"),
            arrivals=tuple(arrivals[facts.path]),
            operators=tuple(operators[facts.path]),
            children=frozenset(inner.path[start:] for inner in inside),
            inside={inner.path[start:]: tuple(calls[inner.path]) for inner in inside if inner.path in calls},
            first_held=frozenset(name for name, full in holder.items() if full == _joined(facts.path, name)),
            given=frozenset(name for name, full in holder.items() if full in accumulated),
            unseen=bool(trace.saved_unknown),
        )
    return found


_Record = TypeVar("_Record", CallFacts, OperatorFacts, GradientFacts)


def _by_path(records: Iterable[_Record]) -> dict[str, list[_Record]]:
    found: dict[str, list[_Record]] = defaultdict(list)
    for record in records:
        found[record.path].append(record)
    return found


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _above(path: str) -> Iterable[str]:
    """The paths of the modules that this one is in: `a.b.c` -> `a.b`, `a` and "" """
    while path:
        path = path.rpartition(".")[0]
        yield path


def _below(trace: Trace, paths: Container[str]) -> dict[str, list[ModuleFacts]]:
    """Path -> the modules in that one, however deep."""
    found: dict[str, list[ModuleFacts]] = defaultdict(list)
    for facts in trace.modules:
        for above in _above(facts.path):
            if above in paths:
                found[above].append(facts)
    return found
