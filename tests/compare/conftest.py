"""The variants that some claims speak of are really run once, not once for every planted error."""

from __future__ import annotations

from functools import cache

import pytest

from torchtally.profiler.audit import in_run
from torchtally.profiler.audit.runs import count_variants

_count_variants_once = cache(count_variants)


@pytest.fixture(autouse=True)
def variants_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_run, "count_variants", _count_variants_once)
