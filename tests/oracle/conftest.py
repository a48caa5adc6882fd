from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(autouse=True, scope="session")
def hypothesis_has_started() -> None:
    """Before the first test: hypothesis hooks the garbage collector when it first runs, and stays there."""

    @settings(max_examples=1, database=None)
    @given(st.none())
    def first(_: None) -> None:
        pass

    first()
