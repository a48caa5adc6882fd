"""Known defects of witnesses that are not ours: where they err, and why. The only excuse for a disagreement."""

from __future__ import annotations

from ..theory.layer import Layer
from .records import Phase

_GROUPS = (
    "FlopCounterMode's convolution backward ignores groups: it prices the weight's gradient as if every output "
    "channel met "
    "every input channel (torch.utils.flop_counter, seen in 2.11 to 2.15)"
)


def known_defect(layer: Layer | None, phase: Phase) -> str | None:
    """Why FlopCounterMode errs on this layer in this phase, if it is known to."""
    if phase == "backward" and getattr(layer, "groups", 1) > 1:
        return _GROUPS
    return None
