"""The framework's peak: held against the allocator's, and against a baseline; where it is not known, that is said."""

from __future__ import annotations

import threading
import tomllib
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import torchtally
from torchtally.profiler.contracts.peak import FrameworkPeak, framework_peak
from torchtally.profiler.count import backward_of_sum
from torchtally.profiler.measure import measure_memory
from torchtally.profiler.workload import Workload

from .projects import HIDDEN, IN, OUT, PEAK, SIMPLE, N, failed, passed, project

pytest_plugins = ["pytester"]


def peak_of(model: nn.Module, *args: Any, **kwargs: Any) -> FrameworkPeak:
    return framework_peak(torchtally.count(model, *args, **kwargs), model, args, kwargs)


# Held against the allocator -------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """Keeps a Python number for backward."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * 0.3


class Tied(nn.Module):
    """One weight in two layers, and a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head, self.idle = nn.Embedding(9, 6), nn.Linear(6, 9, bias=False), nn.Linear(50, 3)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embedding(x))


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 30), nn.Dropout(), nn.Linear(30, 6))

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, self.first(x), use_reentrant=False)


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)


STEPS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "layers": (lambda: nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3)), lambda: torch.randn(4, 6)),
    "input with a gradient": (lambda: nn.Linear(6, 10), lambda: torch.randn(4, 6, requires_grad=True)),
    "convolutions": (convolutions, lambda: torch.randn(2, 3, 12, 12)),
    "nothing to train": (lambda: convolutions().requires_grad_(False), lambda: torch.randn(2, 3, 12, 12)),
    "evaluation": (lambda: convolutions().eval(), lambda: torch.randn(2, 3, 12, 12)),
    "encoder": (encoder, lambda: torch.randn(2, 5, 16)),
    "bfloat16": (lambda: Scaled().bfloat16(), lambda: torch.randn(4, 6).bfloat16()),
    "a number": (Scaled, lambda: torch.randn(4, 6)),
    "tied": (Tied, lambda: torch.arange(8)),
    "checkpointed": (Checkpointed, lambda: torch.randn(4, 6)),
}


@pytest.mark.parametrize("name", STEPS)
def test_it_is_what_the_allocator_gave_out_without_workspaces(name: str) -> None:
    model, x = STEPS[name][0](), STEPS[name][1]()
    found = peak_of(model, x)

    def step() -> None:
        for leaf in (*model.parameters(), x):
            leaf.grad = None
        outputs = model(x)
        backward_of_sum(outputs)

    measured = measure_memory(Workload(model=model, step=step)).stream.without("workspace")
    assert (found.bytes, found.unknown) == (measured.peak_bytes, "")
    assert sum(found.by_path.values()) == found.bytes


def settings() -> dict[str, AbstractContextManager[Any]]:
    return {
        "nothing": nullcontext(),
        "no_grad": torch.no_grad(),
        "inference_mode": torch.inference_mode(),
        "autocast": torch.autocast("cpu", torch.bfloat16),
    }


@pytest.mark.parametrize("name", settings())
def test_what_is_turned_on_around_the_check(name: str) -> None:
    rows, inner, outer = 8, 40, 6
    model, x = nn.Sequential(nn.Linear(inner, outer, bias=False), nn.Tanh()), torch.randn(rows, inner)
    grads = name in ("nothing", "autocast")
    with settings()[name]:
        found = peak_of(model, x)
        assert torch.is_inference_mode_enabled() is (name == "inference_mode")
        assert torch.is_grad_enabled() is grads
        assert torch.is_autocast_enabled("cpu") is (name == "autocast")
    weight, given, result = inner * outer, rows * inner, rows * outer
    least = {
        # Tanh's output, its gradient of ones, the gradient before it, and that of the weight.
        "nothing": 3 * 4 * result + 4 * weight,
        # The layer's output and Tanh's.
        "no_grad": 2 * 4 * result,
        "inference_mode": 2 * 4 * result,
        # The weight in two bytes; Tanh's output and its gradient of ones; those of the weight, in both widths.
        "autocast": 2 * weight + 2 * 2 * result + (2 + 4) * weight,
    }
    assert found.bytes == 4 * (weight + given) + least[name]


def test_backward_and_arguments_are_those_of_the_count() -> None:
    class Named(nn.Linear):
        def forward(self, x: Tensor, *, device: float = 0.0) -> Tensor:
            return super().forward(x) + device

    model, x = Named(6, 3), torch.randn(4, 6)
    without = peak_of(model, x, backward=False, kwargs={"device": 2.0})
    # The layer's output and the sum's; no gradient.
    assert without.bytes == 4 * (7 * 3 + 4 * 6 + 2 * 4 * 3)
    assert (peak_of(model, x, kwargs={"device": 2.0}).bytes or 0) > without.bytes


def test_nothing_is_left_behind() -> None:
    model, x = convolutions(), torch.randn(2, 3, 12, 12, requires_grad=True)
    before = {name: (id(value), value.clone()) for name, value in model.state_dict(keep_vars=True).items()}
    run = torchtally.count(model, x)
    state = torch.get_rng_state()
    framework_peak(run, model, (x,), {})
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict(keep_vars=True).items():
        assert id(value) == before[name][0] and torch.equal(value, before[name][1]), name
    assert all(leaf.grad is None for leaf in (*model.parameters(), x))


# Not known ------------------------------------------------------------------------------------------------------------


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if x.sum() > 0 else x * self.inner.weight.sum()


class Masked(Choosing):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x[x[:, 0] > 0])


class Locked(Choosing):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Recurrent(Choosing):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


class Another(Locked):
    """Does other work where it is asked without values."""

    def __init__(self) -> None:
        super().__init__()
        del self.lock

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if type(x) is Tensor else self.inner(self.inner(x))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_way_chosen_by_a_value(sign: float) -> None:
    found = peak_of(Choosing(), torch.full((4, 6), sign))
    assert found == FrameworkPeak(unknown="(model), forward: reads a value, which fake tensors do not have")


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Masked, "the step cannot be replayed on fake tensors: DynamicOutputShapeException: aten.nonzero.default"),
        (Locked, "the step cannot be replayed on fake tensors: TypeError: cannot pickle '_thread.lock' object"),
        (Another, "the step is another one on fake tensors: inner: calls 1 -> 2 (+100.0%)"),
    ],
)
def test_what_cannot_be_replayed(model: type[nn.Module], why: str) -> None:
    assert peak_of(model(), torch.ones(4, 6)) == FrameworkPeak(unknown=why)


def test_what_a_library_keeps_for_itself() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("without oneDNN an LSTM keeps nothing of its own")
    found = peak_of(Recurrent(), torch.ones(4, 2, 6))
    assert found.bytes is None
    assert found.unknown.startswith("the step is another one on fake tensors: inner: saved_bytes ")


def test_addresses_are_no_reason() -> None:
    class Broken(Locked):
        def __deepcopy__(self, memo: Any) -> Any:
            raise ValueError(f"{object()}\nand more")

    (why,) = {peak_of(Broken(), torch.ones(4, 6)).unknown for _ in range(3)}
    assert why.endswith("ValueError: <object object at 0x...>")


def test_an_interrupt_passes_through() -> None:
    class Interrupted(Another):
        def forward(self, x: Tensor) -> Tensor:
            if type(x) is not Tensor:
                raise KeyboardInterrupt
            return self.inner(x)

    with pytest.raises(KeyboardInterrupt):
        peak_of(Interrupted(), torch.ones(4, 6))


def test_warnings_are_given_once() -> None:
    class Warned(Another):
        def forward(self, x: Tensor) -> Tensor:
            warnings.warn("deprecated", stacklevel=1)
            return self.inner(x)

    model, x = Warned(), torch.ones(4, 6)
    with pytest.warns(UserWarning, match="deprecated"):
        run = torchtally.count(model, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert framework_peak(run, model, (x,), {}).unknown == ""


# In a baseline --------------------------------------------------------------------------------------------------------


def baseline(pytester: pytest.Pytester) -> Path:
    return pytester.path / "test_net.cost" / "test_cost.toml"


def checks(pytester: pytest.Pytester) -> list[Any]:
    found: list[Any] = tomllib.loads(baseline(pytester).read_text(encoding="utf-8"))["check"]
    return found


def make_old(pytester: pytest.Pytester) -> None:
    """As files were before there was a peak in them."""
    text = baseline(pytester).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("# peak_bytes")]
    text = "".join(lines).replace("schema = 2", "schema = 1")
    for check in checks(pytester):
        for figures in (check["total"], *check["modules"].values()):
            text = text.replace(f", peak_bytes = {figures['peak_bytes']} }}", " }")
    assert "peak" not in text
    baseline(pytester).write_text(text, encoding="utf-8")


def test_the_modules_parts_add_up(pytester: pytest.Pytester) -> None:
    project(pytester, SIMPLE)
    passed(pytester, "--cost-update")
    (check,) = checks(pytester)
    assert sum(figures["peak_bytes"] for figures in check["modules"].values()) == check["total"]["peak_bytes"] == PEAK


def test_a_module_that_is_never_called_is_there(pytester: pytest.Pytester) -> None:
    tests = SIMPLE.replace("network()", "Net()") + (
        f"class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"        self.used, self.idle = nn.Linear({IN}, {OUT}), nn.Linear({HIDDEN}, 1)\n"
        "    def forward(self, x):\n        return self.used(x)\n"
    )
    project(pytester, tests)
    passed(pytester, "--cost-update")
    passed(pytester)
    assert checks(pytester)[0]["modules"]["idle"]["peak_bytes"] == 4 * (HIDDEN + 1)


def test_a_change_names_the_peak_before_and_after(pytester: pytest.Pytester) -> None:
    body = "\ndef test_cost(cost):\n    model = network()\n    {}\n    cost.check(model, X)\n"
    project(pytester, body.format("pass"))
    passed(pytester, "--cost-update")
    # The same layers, which keep one more result alive to the end: no other figure changes.
    held = "model[1].register_forward_hook(lambda m, i, o: setattr(m, 'last', o.detach().clone()))"
    project(pytester, body.format(held))
    kept = PEAK + 4 * N * HIDDEN
    words = [f"total: peak_bytes {PEAK:,} -> {kept:,} (+*%)", "(model): peak_bytes * -> *"]
    failed(pytester, words=words)


def test_an_old_baseline_holds_all_but_the_peak(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    project(pytester, SIMPLE)
    passed(pytester, "--cost-update")
    new = baseline(pytester).read_bytes()
    make_old(pytester)
    with monkeypatch.context() as patch:
        patch.setattr("torchtally.profiler.contracts.peak.framework_peak", None)  # nobody may ask for it
        passed(pytester)
    project(pytester, SIMPLE.replace("network()", f"network({HIDDEN + 1})"))
    assert "peak_bytes" not in failed(pytester, words=["0: parameters"]).stdout.str()
    project(pytester, '\n@pytest.mark.cost(peak="1 MiB")' + SIMPLE)
    passed(pytester)
    passed(pytester, "--cost-update")
    assert baseline(pytester).read_bytes() == new


CHOOSING = f"""
class Choosing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear({IN}, {OUT})

    def forward(self, x):
        return self.inner(x) if {{}} else x

"""
READS = "reads a value, which fake tensors do not have"


def test_a_peak_that_is_not_known(pytester: pytest.Pytester) -> None:
    by_value = CHOOSING.format("x.sum() == 0") + SIMPLE.replace("network()", "Choosing()")
    project(pytester, by_value)
    passed(pytester, "--cost-update")
    (check,) = checks(pytester)
    assert check["peak_unknown"] == f"(model), forward: {READS}"
    assert "peak_bytes" not in check["total"]
    assert all("peak_bytes" not in figures for figures in check["modules"].values())
    passed(pytester)
    project(pytester, by_value.replace("def test_cost", '@pytest.mark.cost(peak="1 GiB")\ndef test_cost'))
    words = [f"peak: the budget is 1 GiB, and this run does not say what it costs: (model), forward: {READS}"]
    failed(pytester, words=words)
    failed(pytester, "--cost-update", words=words)


def test_a_peak_that_comes_to_be_known_and_back(pytester: pytest.Pytester) -> None:
    tests = CHOOSING + SIMPLE.replace("network()", "Choosing()")
    by_shape, by_value = tests.format("x.shape[0] == 4"), tests.format("x.sum() == 0")
    project(pytester, by_value)
    passed(pytester, "--cost-update")
    project(pytester, by_shape)
    failed(pytester, words=[f"total: peak_bytes not known -> * ((model), forward: {READS})"])
    passed(pytester, "--cost-update")
    project(pytester, by_value)
    result = failed(pytester, words=[f"total: peak_bytes * -> not known ((model), forward: {READS})"])
    assert "inner: peak_bytes" not in result.stdout.str()


def test_a_reason_that_is_no_text_is_one_line(pytester: pytest.Pytester) -> None:
    project(pytester, SIMPLE)
    passed(pytester, "--cost-update")
    text = baseline(pytester).read_text(encoding="utf-8").replace("total =", "peak_unknown = 3\ntotal =")
    baseline(pytester).write_text(text, encoding="utf-8")
    failed(pytester, words=["check[[]0].peak_unknown: expected text*, found 3"])
