"""Known defects of witnesses that are not ours: where they err, by how much, and why. The only excuse for a
disagreement."""

from __future__ import annotations

from ..theory.layer import Layer
from .records import Phase
from .verdict import Value

_GROUPS = (
    "FlopCounterMode's convolution backward ignores groups: it prices the weight's gradient as if every output "
    "channel met "
    "every input channel (torch.utils.flop_counter, seen in 2.11 to 2.15)"
)


def known_defect(layer: Layer | None, phase: Phase, *, right: Value | None, said: Value | None) -> str | None:
    """Why FlopCounterMode says `said` instead of `right` of this layer's products, if that is a known defect.

    The defect must explain the very figure. With g groups, the weight's gradient comes out g times too large: alone
    it makes g of 1, and together with the input's gradient, which costs the same and comes out right, 1 + g of 2.
    """
    groups: int = getattr(layer, "groups", 1)
    if phase != "backward" or groups == 1 or not isinstance(right, int) or not isinstance(said, int):
        return None
    return _GROUPS if said == groups * right or 2 * said == (1 + groups) * right else None
