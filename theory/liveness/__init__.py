"""A training step's memory in closed form: the framework's part, and what a backend's operators need for themselves."""

from .backend import Backend
from .calls import NoRuleError
from .step import Step, step_stream
from .workspace import CPU, OneDNN

__all__ = ["CPU", "Backend", "NoRuleError", "OneDNN", "Step", "step_stream"]
