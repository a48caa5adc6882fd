"""`cost.check`: a model's exact costs against what the test's baseline says, and against its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TallyError

if TYPE_CHECKING:
    from ..run import Run
    from .baseline import Check
    from .budget import Bound
    from .peak import FrameworkPeak

_MOST_LINES = 30


class ContractError(TallyError, AssertionError):
    """A cost that is not what it was to be. The message names the layer, the figure, before and after."""


class Contract:
    """What the fixture `cost` gives to a test: its checks so far, against one baseline file.

    `command` is what writes the baseline, for messages.
    """

    def __init__(
        self, baseline: Path, *, bounds: Sequence[Bound] = (), update: bool = False, command: str = ""
    ) -> None:
        self._path, self._bounds, self._update, self._command = baseline, bounds, update, command
        self._done: list[Check] = []

    @property
    def checks(self) -> int:
        """How often `check` was called."""
        return len(self._done)

    def check(self, model: Any, *args: Any, **kwargs: Any) -> Run:
        """Count `model(*args, **kwargs)` and its backward, and hold every exact figure against the baseline:
        parameters, FLOPs, output shapes, saved bytes and the framework's peak, module by module; and the totals against
        the mark's budget.

        The model is left as it was. For the peak a copy of it is run twice more, on fake tensors, where the baseline or
        the budget has a peak. Where nothing needs a gradient, only forward runs. Returns the run. Raises ContractError
        for what differs or is over its budget, and where there is no baseline yet.
        """
        __tracebackhide__ = True
        from ..count import count
        from .baseline import check_of, with_peak
        from .budget import Costs, excesses

        run = count(model, *args, **kwargs)
        peak = self._peak(run, model, args, kwargs)
        check = check_of(run)
        self._done.append(check if peak is None else with_peak(check, peak))
        failed = [*excesses(Costs(run, peak), self._bounds), *([] if self._update else self._changed())]
        if failed:
            raise ContractError("\n".join(failed))
        return run

    def _peak(self, run: Run, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> FrameworkPeak | None:
        """None where nobody asks for it."""
        asked = self._update or any(bound.name == "peak" for bound in self._bounds)
        if not asked and not self._baseline_holds_peak():
            return None
        from .peak import framework_peak

        return framework_peak(run, model, args, kwargs)

    def _baseline_holds_peak(self) -> bool:
        from .baseline import read

        kept = read(self._path) if self._path.exists() else ()
        return len(kept) > self.checks and kept[self.checks].holds_peak

    def finish(self) -> None:
        """At the end of a test that passed: write the baseline if so asked. Raises ContractError where it has more
        checks than the test."""
        __tracebackhide__ = True
        from .baseline import read, write

        if self._update and self._done:
            write(self._path, self._done)
        elif self._done and self.checks < (kept := len(read(self._path))):
            raise ContractError(
                f"{self._name} has {kept} checks, and the test made {self.checks}; write it anew: {self._command}"
            )

    @property
    def _name(self) -> str:
        return f"{self._path.parent.name}/{self._path.name}"

    def _changed(self) -> list[str]:
        from .baseline import differences, read

        if not self._path.exists():
            return [f"there is no baseline {self._name} yet; write it: {self._command}"]
        kept, number = read(self._path), self.checks
        if len(kept) < number:
            return [f"{self._name} has no check {number}; write it anew: {self._command}"]
        lines = differences(kept[number - 1], self._done[-1])
        if not lines:
            return []
        more = [f"... and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
        which = f", check {number}" if len(kept) > 1 else ""
        return [
            f"the model does not cost what {self._name}{which} says:",
            *(f"  {line}" for line in (*lines[:_MOST_LINES], *more)),
            f"if that is meant, write it anew: {self._command}",
        ]
