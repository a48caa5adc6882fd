"""Seconds where a run is shown: columns, totals, and what is said of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler.errors import RunStateError
from torchtally.profiler.report.units import seconds_text, share_text
from torchtally.profiler.run import Run
from torchtally.profiler.seconds.timing import Place, Timing

MILLISECOND = 1_000_000  # nanoseconds

SPENT: dict[Place, int] = {
    ("0", "forward"): 10 * MILLISECOND,
    ("0", "backward"): 30 * MILLISECOND,
    ("1", "forward"): 5 * MILLISECOND,
    ("1", "backward"): 5 * MILLISECOND,
    ("", "loss"): 25 * MILLISECOND,
    ("", "optimizer"): 15 * MILLISECOND,
    ("", "python"): 10 * MILLISECOND,
}


@pytest.fixture
def counted() -> torchtally.Profile:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with torchtally.profile(model) as run:
        model(torch.randn(2, 4)).sum().backward()
    return run


def timed(counted: torchtally.Profile, **more: object) -> Run:
    timing = Timing(bare=(80 * MILLISECOND,), observed=(SPENT,), **more)  # type: ignore[arg-type]
    return Run(counted.trace, timing=timing)


def line(shown: str, beginning: str) -> str:
    return next(each for each in shown.splitlines() if each.strip().startswith(beginning))


@pytest.mark.parametrize("how", ["str", "show"])
def test_layers_have_their_time_and_share(
    counted: torchtally.Profile, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = timed(counted)
    if how == "show":
        run.show()
    shown = str(run) if how == "str" else capsys.readouterr().out
    assert line(shown, "0 ").split()[-3:] == ["40", "ms", "40.0%"]  # 10 forward, 30 backward, of 100
    assert line(shown, "1 ").split()[-3:] == ["10", "ms", "10.0%"]
    said = " ".join(shown.split())
    assert "a step takes 80 ms" in said
    assert "1.25 times" in said  # 100 observed, 80 bare
    assert "explain 90.0% of it" in said  # all but Python's 10


def test_the_largest_first(counted: torchtally.Profile, capsys: pytest.CaptureFixture[str]) -> None:
    timed(counted).show(sort="seconds")
    shown = capsys.readouterr().out
    assert shown.index("\n 0 ") < shown.index("\n 1 ")
    assert line(shown, "total").split()[-3:] == ["90", "ms", "90.0%"]  # loss and optimizer too


def test_a_prediction_says_that_it_is_one(counted: torchtally.Profile) -> None:
    said = " ".join(str(timed(counted, predicted=True, notes=("mine was not met",))).split())
    assert "a step takes 80 ms, as predicted" in said
    assert "note: mine was not met" in said
    assert "times that" not in said


def test_without_time_nothing_is_said_of_it(counted: torchtally.Profile) -> None:
    shown = str(counted)
    assert "time" not in shown
    assert "share" not in shown
    assert "seconds" not in counted.totals
    with pytest.raises(RunStateError, match="did not measure time"):
        _ = counted.timing


def test_the_total_is_the_bare_step(counted: torchtally.Profile) -> None:
    run = timed(counted)
    assert run.totals["seconds"] == pytest.approx(0.080)
    assert run.closure == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (1.5, "1.5 s"),
        (0.0283, "28.3 ms"),
        (0.0000042, "4.2 us"),
        (5e-9, "5 ns"),
        (0.0, "0 ns"),
        (60.0, "60 s"),
    ],
)
def test_seconds_in_words(seconds: float | None, said: str) -> None:
    assert seconds_text(seconds) == said


def test_shares_in_words() -> None:
    assert (share_text(0.285), share_text(None)) == ("28.5%", "")
