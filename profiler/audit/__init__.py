"""The walkthrough, audited."""

from .claim_row import ClaimRow
from .walkthrough import Audit, audit

__all__ = ["Audit", "ClaimRow", "audit"]
