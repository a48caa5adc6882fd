"""Nothing here touches the user's cache; what one test learns the next one knows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from torchtally import Learner


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cache folder for all of these tests."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        yield folder


@pytest.fixture(autouse=True)
def in_that_cache(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", cache)


@pytest.fixture(scope="session")
def learner(cache: str) -> Iterator[Learner]:
    """One process that makes the isolated calls of all tests."""
    made = Learner(seconds=300)
    yield made
    made.close()
