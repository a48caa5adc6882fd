"""From a real run to verdicts: capture, then ledger, then comparison, then report."""
