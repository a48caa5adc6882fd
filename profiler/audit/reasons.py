"""Why a run differs from the walkthrough's own rules, where it rightly does."""

from __future__ import annotations

from ...theory.claims.records import Claim

_IMAGES = "the images need no gradient, so autograd computes none for the first convolution's input"
_LAYOUT = "PyTorch keeps a linear layer's weight as (out, in) and computes its gradient as dy^T x"
_ONCE = "both passes use the same parameters, which are held once"
_CONVENTION = "by convention a normalization is 5 FLOPs per element, whatever steps are listed"
UNKNOWN = "the run differs from the document's own rules, and nobody has said why"

_BY_QUANTITY = {
    "flops_per_element": _CONVENTION,
    "weight_gradient_shape": _LAYOUT,
    "weight_gradient_left_shape": _LAYOUT,
    "weight_gradient_right_shape": _LAYOUT,
    "weight_shape": _LAYOUT,
    "parameter_bytes": _ONCE,
}


def why_the_run_differs(claim: Claim) -> str:
    """In words; `UNKNOWN` where nobody has explained it yet, rather than a guess."""
    if claim.quantity in _BY_QUANTITY:
        return _BY_QUANTITY[claim.quantity]
    if claim.layer in ("", "block1", "block1.conv") and claim.phase in ("backward", "training", "forward"):
        return _IMAGES
    return UNKNOWN
