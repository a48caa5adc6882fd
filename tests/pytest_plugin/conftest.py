"""Runs inside this process forget what they import: what a check needs is imported before them."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler.contracts.peak import framework_peak


@pytest.fixture(scope="session", autouse=True)
def warm() -> None:
    for name in ("baseline", "budget", "contract"):
        import_module(f"torchtally.profiler.contracts.{name}")
    for name in ("checked", "files"):
        import_module(f"torchtally.profiler.report.{name}")
    model, x = nn.Linear(1, 1), torch.zeros(1, 1)
    framework_peak(torchtally.count(model, x), model, (x,), {})


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """To import them for each run would take most of the time."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
