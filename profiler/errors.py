"""The error tree: everything torchtally raises on purpose is a `TallyError`, and says what, where and what to do."""

from __future__ import annotations


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
