"""What calls inside a call returned: known for as long as it lives, and not a moment longer."""

from __future__ import annotations

from weakref import ref

import torch
from torch import Tensor

from torchtally.profiler.capture.frames import Given


def given(tensors: list[Tensor]) -> Given:
    found = Given()
    for tensor in tensors:
        found.add(ref(tensor))
    return found


def test_the_very_tensors_are_known() -> None:
    tensors = [torch.ones(2) for _ in range(1000)]
    found = given(tensors)
    assert found.lacks(tensors) == (False,) * 1000
    tensors[0] += 1
    assert found.lacks([tensors[0], tensors[0].detach(), tensors[1].clone(), torch.ones(2)]) == (
        False,
        True,
        True,
        True,
    )


def test_the_address_of_one_that_died_is_no_other_tensors() -> None:
    tensors = [torch.ones(2) for _ in range(100)]
    found = given(tensors)
    tensors.clear()
    assert found.lacks([torch.ones(2) for _ in range(1000)]) == (True,) * 1000


def test_none_lives_longer_for_it() -> None:
    tensors = [torch.ones(2) for _ in range(100)]
    references = [ref(tensor) for tensor in tensors]
    found = given(tensors)
    tensors.clear()
    assert [reference() for reference in references] == [None] * 100
    assert found.lacks([]) == ()


def test_little_is_kept_of_those_that_died() -> None:
    found, most = Given(), 0
    for _ in range(300):
        tensors = [torch.ones(2) for _ in range(50)]
        for tensor in tensors:
            found.add(ref(tensor))
        most = max(most, len(found._recent) + len(found._older))
    assert most < 500
