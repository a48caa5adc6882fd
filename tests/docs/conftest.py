"""pytest inside this process forgets what it imports, and PyTorch cannot be imported twice: what a check needs is
imported before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler.contracts.peak import framework_peak


@pytest.fixture(scope="session", autouse=True)
def warm() -> None:
    model, x = nn.Linear(1, 1), torch.zeros(1, 1)
    framework_peak(torchtally.count(model, x), model, (x,), {})
