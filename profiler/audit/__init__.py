"""The walkthrough, audited."""

from .walkthrough import Audit, ClaimRow, audit

__all__ = ["Audit", "ClaimRow", "audit"]
