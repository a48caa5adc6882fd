"""What a count cannot tell, and what it would take."""

from __future__ import annotations

_INSTRUCTIONS = "takes a count of the instructions that the hardware executes"

_TAKES = {
    "additions_per_output": _INSTRUCTIONS,
    "bias_additions_per_output": _INSTRUCTIONS,
    "divisions_per_output": _INSTRUCTIONS,
    "affine_flops_per_element": _INSTRUCTIONS,
}


def what_it_would_take(quantity: str) -> str:
    """In words, for a quantity that neither count nor allocator states."""
    return _TAKES.get(quantity, "takes a witness of the run that can state it; none here does")
