"""The examples of docs/time.md run as written, on a machine of round figures."""

from __future__ import annotations

import doctest
import math
from pathlib import Path

import pytest

from torchtally.profiler.machine.curves import Sample
from torchtally.profiler.machine.features import Features
from torchtally.profiler.machine.record import Machine
from torchtally.profiler.machine.store import save, this_machine
from torchtally.theory.roofline import Ceilings

from .test_docs import blocks


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    save(
        Machine(
            environment=this_machine(),
            ceilings=Ceilings(flops={"float32": 1e12}, bandwidth=((1, 1e11),), overhead=1e-7),
            samples=(
                Sample(Features("aten.mm float32", "product float32", 10**6, (0.0, 1.0, 1.0, 1.0)), 1e-5),
                Sample(Features("aten.copy float32", "moved", 10**6, (math.log(10**6), 0.0)), 1e-4),
            ),
            overheads={"python": 1e-5},
        )
    )


@pytest.mark.usefixtures("known")
def test_time_as_written() -> None:
    text = "\n".join("\n".join([*block, ""]) for block in blocks("time.md") if block[0].startswith(">>> "))
    said: list[str] = []
    found = doctest.DocTestParser().get_doctest(text, {}, "time.md", None, 0)
    failures, tried = doctest.DocTestRunner().run(found, out=said.append)
    assert failures == 0, "".join(said)
    assert tried > 12
