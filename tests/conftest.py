"""After every test, nothing of ours is left installed anywhere in the process."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

torch.set_num_threads(1)  # tiny tensors gain nothing from more, and figures must not depend on it

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

NAMESPACES = (torch, torch.nn.functional, torch.Tensor, torch.nn.Module, torch.autograd, torch.optim.Optimizer)
# What others change: torch wraps the first when it imports torch._dynamo, and Python's pickling keeps the second.
BY_OTHERS = {"torch.manual_seed", "Tensor.__slotnames__"}


def _installed() -> dict[str, Any]:
    """Everything global that a profiler can leave behind, by name."""
    modules = {name: value for name, value in vars(torch.nn.modules.module).items() if name.startswith("_global_")}
    return {
        **{name: tuple(value) if isinstance(value, dict) else value for name, value in modules.items()},
        "optimizer hooks": (tuple(_global_optimizer_pre_hooks), tuple(_global_optimizer_post_hooks)),
        "dispatch modes": tuple(map(type, _get_current_dispatch_mode_stack())),
        "function modes": torch._C._len_torch_function_stack(),
        "saved-tensor hooks": torch._C._autograd._top_saved_tensors_default_hooks(True),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "garbage collector": (gc.isenabled(), gc.get_threshold()),
        "trace functions": (sys.gettrace(), sys.getprofile()),
    }


def _names() -> list[dict[str, Any]]:
    return [dict(vars(space)) for space in NAMESPACES]


def _renamed(before: list[dict[str, Any]]) -> list[str]:
    """Names of torch that now mean something else. A submodule imported meanwhile may be new, nothing else."""
    changed = set()
    for space, old, new in zip(NAMESPACES, before, _names(), strict=True):
        for name in old.keys() | new.keys():
            fresh = name not in old and isinstance(new[name], ModuleType)
            if not fresh and old.get(name) is not new.get(name):
                changed.add(f"{space.__name__}.{name}")
    return sorted(changed - BY_OTHERS)


@pytest.fixture
def installed() -> Callable[[], dict[str, Any]]:
    """The state that the fixture below compares, for tests that look at it themselves."""
    return _installed


@pytest.fixture
def renamed() -> Callable[[list[dict[str, Any]]], list[str]]:
    return _renamed


@pytest.fixture
def names() -> Callable[[], list[dict[str, Any]]]:
    return _names


@pytest.fixture(autouse=True)
def nothing_left_installed() -> Iterator[None]:
    before, spaces = _installed(), _names()
    yield
    assert _installed() == before
    assert not _renamed(spaces)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A benchmark by its name. They are scripts: loaded by their files, under names of their own, they find what they
    import beside them.
    """
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        full = f"benchmark_{name}"
        spec = spec_from_file_location(full, BENCHMARKS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, full, module)
        spec.loader.exec_module(module)
        return module

    return load
