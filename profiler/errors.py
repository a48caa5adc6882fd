"""The error tree: everything torchtally raises on purpose is a `TallyError`, and says what, where and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .memory import Memory


class TallyError(Exception):
    """Base of all errors raised by torchtally itself; errors of the user's own step pass through untouched."""


class UsageError(TallyError, ValueError):
    """An option or a call that cannot work as given."""


class NotAModuleError(UsageError, TypeError):
    """Something other than a `torch.nn.Module` was given to be profiled."""


class RunStateError(TallyError, RuntimeError):
    """The run is not in the state that the call needs: still active, not started, or already used."""


class PricingError(TallyError, ValueError):
    """A formula was registered twice, or its result is not a cost."""


class FileFormatError(UsageError):
    """A file that is not what it should be. The message says which file, where in it, and what was expected there."""


class MeasurementError(TallyError, RuntimeError):
    """What was measured contradicts itself, or cannot be measured now."""


class MachineError(TallyError, RuntimeError):
    """A machine's calibration that there is not, that cannot be read, or that could not be made or kept."""


class StepsDifferError(TallyError, ValueError):
    """Steps that were to be the same were not: what was measured of one does not hold for the others."""


class StepOutOfMemoryError(TallyError, MemoryError):
    """A step asked for more memory than there was. `memory` has what was live by then, event by event."""

    def __init__(self, message: str, memory: Memory) -> None:
        super().__init__(message)
        self.memory = memory


class PredictionError(TallyError, RuntimeError):
    """A step that cannot be replayed without computing: what it does next depends on values."""
