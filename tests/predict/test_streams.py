"""Predicted streams against the allocator's own account of the same steps: event by event, byte by byte."""

from __future__ import annotations

import pytest
import torch

from torchtally import Learner, predict
from torchtally.profiler.measure import measure_memory
from torchtally.profiler.memory import Memory
from torchtally.theory.stream import Stream

from .steps import STEPS

Pair = tuple[Memory, Memory]
_PAIRS: dict[str, Pair] = {}


@pytest.fixture
def pair(request: pytest.FixtureRequest, learner: Learner) -> Pair:
    """A step predicted, and the same step measured; each is run once for all tests."""
    name = request.param
    if name not in _PAIRS:
        torch.manual_seed(0)
        _PAIRS[name] = predict(STEPS[name], learn=learner).memory, measure_memory(STEPS[name]())
    return _PAIRS[name]


def sizes(stream: Stream) -> list[int]:
    return [stream.signed(event) for event in stream.events]


@pytest.mark.parametrize("pair", STEPS, indirect=True)
def test_a_predicted_step_makes_the_requests_of_a_real_one(pair: Pair) -> None:
    predicted, real = pair
    assert sizes(predicted.stream) == sizes(real.stream)
    assert predicted.stream.live_bytes == real.stream.live_bytes
    assert not [note for note in predicted.notes if "taken to be" not in note]


def bill(stream: Stream) -> dict[tuple[str, str], int]:
    """What is live at the peak. What no operator asked for, Python's numbers and random states, is told by its bytes:
    whether autograd keeps such a thing, only a replay can see."""
    found: dict[tuple[str, str], int] = {}
    for block in stream.live():
        unclear = not block.operator and block.category in ("saved", "temporaries")
        key = (block.path, "no operator" if unclear else block.category)
        found[key] = found.get(key, 0) + block.bytes
    return found


@pytest.mark.parametrize("pair", STEPS, indirect=True)
def test_whose_and_what_for(pair: Pair) -> None:
    predicted, real = pair
    assert bill(predicted.stream) == bill(real.stream)
    assert [(e.path, e.phase) for e in predicted.stream.events] == [(e.path, e.phase) for e in real.stream.events]


@pytest.mark.parametrize("name", ["the walkthrough's CNN", "transformer layer", "LSTM"])
def test_without_learning_the_framework_is_left(name: str, learner: Learner) -> None:
    """The same stream, but for what is opened and closed inside operators, and for sizes that only they know."""
    plain = predict(STEPS[name], learn=False).memory
    whole = predict(STEPS[name], learn=learner).memory.stream
    assert plain.peak_bytes <= whole.peak_bytes
    assert len(plain.stream.events) < len(whole.events)
    assert not any(block.category == "workspace" for block in plain.stream.blocks)
    (note,) = (note for note in plain.notes if "not learnt" in note)
    assert "learning being turned off" in note
