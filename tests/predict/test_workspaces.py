"""Learning what happens inside operators: in a process that may crash, remembered in a file that may be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from torchtally import Learner, predict
from torchtally.profiler.prediction.inside import Inside
from torchtally.profiler.prediction.workspaces import cache_file

from .steps import cnn

FLOATS = ("tensor", "float32", (4, 4), (4, 1), "cpu")
ADD = ("call", "aten.add.Tensor", (FLOATS, ("float", 0.5)), (), False)
CAST = ("call", "aten._to_copy.default", (FLOATS,), (("keyword", "dtype", ("dtype", "float64")),), False)


def crashing(module: str) -> tuple[Any, ...]:
    """A call whose operator's library is that module."""
    return ("call", f"{module}.operator.default", (), (), False)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_call_s_inside(learner: Learner) -> None:
    """The number becomes a tensor of 8 bytes, and is cast to 4; the result has 16 floats."""
    learnt, why = learner.learn({ADD: 0, CAST: 0})
    assert not why
    assert learnt[ADD].sizes == (8, 4, 16 * 4)
    assert learnt[ADD].numbers == (0,)
    assert learnt[ADD].results == (2,)
    assert learnt[ADD].layouts == (("float32", (4, 4), (4, 1)),)
    assert set(learnt[ADD].events[3:]) == {-1, -2}
    assert learnt[CAST] == Inside((16 * 8,), (1,), (0,), (), (("float64", (4, 4), (4, 1)),))


def test_a_crash_is_named_and_the_rest_is_learnt(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashes_when_called.py").write_text("import os; os._exit(7)")
    monkeypatch.syspath_prepend(tmp_path)
    learner = Learner()
    learnt, why = learner.learn({crashing("crashes_when_called"): 0, ADD: 1, CAST: 2})
    learner.close()
    assert learnt.keys() == {ADD, CAST}
    assert why == {crashing("crashes_when_called"): "its process ended with code 7"}


def test_a_call_that_takes_too_long_is_named(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_returns.py").write_text("import time; time.sleep(600)")
    monkeypatch.syspath_prepend(tmp_path)
    learner = Learner(seconds=1)
    learnt, why = learner.learn({crashing("never_returns"): 0, ADD: 1})
    learner.close()
    assert why[crashing("never_returns")] == "took too long"
    assert not learnt and why[ADD] == "1 s were over"


def test_an_operator_that_raises_is_named(learner: Learner) -> None:
    wrong = ("call", "aten.mm.default", (FLOATS, ("tensor", "float32", (3, 3), (3, 1), "cpu")), (), False)
    learnt, why = learner.learn({wrong: 0})
    assert not learnt and why[wrong].startswith("RuntimeError: ")


def test_what_needs_too_much_or_cannot_be_repeated_is_not_tried(empty_cache: Path) -> None:
    learner = Learner(limit=1000)
    other = ("call", "aten.add.Tensor", (FLOATS, ("other", "ScriptObject")), (), False)
    learnt, why = learner.learn({ADD: 1001, other: 0})
    assert not learnt
    assert why == {
        ADD: "needs more than the limit of 1,000 B",
        other: "takes what another process cannot make again",
    }
    assert not cache_file().exists()


# The cache ------------------------------------------------------------------------------------------------------------


def test_what_was_learnt_once_is_known_for_good(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Learner()
    learnt, _ = first.learn({ADD: 0})
    first.close()
    assert cache_file().is_relative_to(empty_cache)
    monkeypatch.setattr("subprocess.Popen", None)  # no process is asked again
    assert Learner().learn({ADD: 0}) == (learnt, {})


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"calls": 3}', '{"calls": [[["call"], {}]]}', '{"calls": [[["call"], {"sizes": "x"}]]}', "\0"],
)
def test_a_broken_cache_is_one_note(content: str, empty_cache: Path) -> None:
    cache_file().parent.mkdir()
    cache_file().write_text(content)
    learner = Learner()
    assert learner.learn({}) == ({}, {})
    (note,) = learner.notes
    assert str(cache_file()) in note and "learnt anew" in note


def test_a_broken_cache_is_made_whole(empty_cache: Path) -> None:
    cache_file().parent.mkdir()
    cache_file().write_text("{")
    learner = Learner()
    learnt, why = learner.learn({ADD: 0})
    learner.close()
    assert learnt.keys() == {ADD} and not why
    assert len(json.loads(cache_file().read_text())["calls"]) == 1
    assert not Learner().learn({ADD: 0})[1]


def test_a_cache_that_cannot_be_written_is_one_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    learner = Learner()
    learnt, _ = learner.learn({ADD: 0})
    learner.close()
    assert learnt.keys() == {ADD}
    assert [note for note in learner.notes if "could not be kept" in note]


def test_another_process_s_learning_is_not_lost(empty_cache: Path) -> None:
    one, other = Learner(), Learner()
    assert not one.learn({})[0] and not other.learn({})[0]  # both have read the empty cache
    one.learn({ADD: 0})
    other.learn({CAST: 0})
    one.close()
    other.close()
    known, why = Learner().learn({ADD: 0, CAST: 0})
    assert known.keys() == {ADD, CAST} and not why


def test_settings_that_change_the_inside_have_a_cache_of_their_own(empty_cache: Path) -> None:
    before = cache_file()
    with torch.backends.mkldnn.flags(enabled=False):
        assert cache_file() != before
    assert cache_file() == before


def test_what_was_not_learnt_is_named_in_the_prediction(empty_cache: Path) -> None:
    run = predict(cnn(), learn=Learner(limit=0))
    (note,) = (note for note in run.memory.notes if "not learnt" in note)
    assert "limit of 0 B" in note
    assert "aten.convolution (3x)" in note  # three layers, three shapes


def test_the_other_process_runs_as_this_one(empty_cache: Path) -> None:
    """Switches that choose kernels, read here and set there; this process is left as it was."""
    from torchtally.profiler.precision import tf32, with_tf32
    from torchtally.profiler.prediction.isolated import _apply
    from torchtally.profiler.prediction.workspaces import _settings

    before = _settings(), cache_file()
    with with_tf32(not tf32()["matmul"]), torch.backends.cudnn.flags(benchmark=True, deterministic=True):
        chosen = _settings()
        assert cache_file() != before[1]
    assert (chosen["cudnn_benchmark"], chosen["cudnn_deterministic"]) == (True, True)
    assert chosen["tf32"] != before[0]["tf32"]
    _apply(chosen)
    try:
        assert _settings() == chosen
    finally:
        _apply(before[0])
    assert (_settings(), cache_file()) == before
