"""The memory of real steps, as the allocator tells it: reference peaks, bills that add up, and who owns what."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import torchtally
from torchtally.models.cnn import CNN, CNNConfig
from torchtally.profiler.errors import RunStateError, StepOutOfMemoryError, StepsDifferError, UsageError
from torchtally.profiler.measure import measure

Optimizer = Callable[[Any], torch.optim.Optimizer]


def momentum(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def cnn(samples: int, optimizer: Optimizer = momentum, **settings: Any) -> torchtally.Workload:
    """The reference step: the logits live to its end."""
    model = CNN(CNNConfig(**settings))
    chosen = optimizer(model.parameters())
    images, labels = torch.randn(samples, 3, 32, 32), torch.randint(0, 10, (samples,))

    def step() -> None:
        chosen.zero_grad()
        logits = model(images)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        chosen.step()

    return torchtally.Workload(model=model, step=step, optimizer=chosen)


def of(model: nn.Module, *inputs: torch.Tensor, loss: Callable[[Any], torch.Tensor] = torch.sum) -> torchtally.Workload:
    optimizer = momentum(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss(model(*inputs)).backward()
        optimizer.step()

    return torchtally.Workload(model=model, step=step, optimizer=optimizer)


PARAMETERS = 379_944  # bytes of the walkthrough's 94,986 parameters


# Peaks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "optimizer", "peak"),
    [
        (8, momentum, 6_274_584),
        (32, momentum, 22_660_248),
        (8, torch.optim.Adam, 6_654_584),
        (8, lambda parameters: torch.optim.SGD(parameters, lr=0.1), 5_894_640),
    ],
)
def test_the_reference_peaks(samples: int, optimizer: Optimizer, peak: int) -> None:
    """Found before this was built, by another reader of the allocator's events."""
    memory = measure(cnn(samples, optimizer)).memory
    needs_onednn_blocks(memory)
    assert memory.peak_bytes == peak


def needs_onednn_blocks(memory: Any) -> None:
    """The reference machine reorders weights into blocks of 16 channels: padded, 3 * 9 * 32 * 4 bytes for block1."""
    if "workspace" not in set(memory.timeline.category):
        pytest.skip("this machine's convolutions need no workspace: the reference figures are of one whose do")


def test_the_bill_at_the_reference_peak() -> None:
    """N = 32, inside the backward of block3's BatchNorm."""
    memory = measure(cnn(32)).memory
    needs_onednn_blocks(memory)
    kinds = memory.bill.groupby("category").bytes.sum().to_dict()
    assert kinds == {
        "parameters": PARAMETERS,
        "optimizer state": PARAMETERS,
        "buffers": 1_816,
        "input": 32 * (3 * 32 * 32 * 4 + 8),
        # activations 15,205,636, pool indices 3,145,728 and statistics 1,792, but for the logits and the loss
        "saved": 15_205_636 + 3_145_728 + 1_792 - 32 * 10 * 4 - 4,
        "activations": 32 * 10 * 4 + 4,
        "activation gradients": 2_097_156,
        "parameter gradients": 6_184,
        "workspace": 1_048_576,
    }
    assert (memory.peak.path, memory.peak.phase) == ("block3.batchnorm", "backward")


# Bills that add up ----------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x).relu_())


class Recomputed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.reentrant = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8)), reentrant

    def forward(self, x: torch.Tensor) -> Any:
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shared(self.shared(x))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.lstm(x)[0]
        return output


X = torch.randn(4, 8)

MODELS: dict[str, Callable[[], torchtally.Workload]] = {
    "cnn": lambda: cnn(2),
    "cnn in place": lambda: cnn(2, in_place=True),
    "cnn checkpointed": lambda: cnn(2, checkpoint=True),
    "residual": lambda: of(Residual(), X),
    "checkpoint, reentrant": lambda: of(Recomputed(True), X.clone().requires_grad_()),
    "checkpoint, not reentrant": lambda: of(Recomputed(False), X),
    "shared": lambda: of(Pair(), X),
    "lstm": lambda: of(Recurrent(), torch.randn(2, 5, 8)),
    "encoder": lambda: of(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8)),
    "frozen": lambda: of(nn.Sequential(nn.Linear(8, 8).requires_grad_(False), nn.ReLU(), nn.Linear(8, 2)), X),
    "embedding": lambda: of(nn.Embedding(10, 4), torch.arange(6)),
    "double": lambda: of(nn.Linear(8, 8).double(), X.double()),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_byte_has_a_module_and_a_category(name: str) -> None:
    run = measure(MODELS[name]())
    memory = run.memory
    bill = memory.bill
    assert bill.bytes.sum() == memory.peak_bytes == run.totals["peak_bytes"] == memory.timeline.live_bytes.max()
    assert bill.bytes[bill.category == "unattributed"].sum() == 0
    assert set(bill.path) <= {module.path for module in run.trace.modules}
    assert memory.notes == ()


# Of the step's own data, what autograd keeps: images, labels, indices. The LSTM and the encoder keep copies of theirs.
KEPT_INPUT = {
    "cnn": 2 * (3 * 32 * 32 * 4 + 8),
    "cnn in place": 2 * (3 * 32 * 32 * 4 + 8),
    "residual": 4 * 8 * 4,
    "shared": 4 * 8 * 4,
    "lstm": 0,
    "encoder": 0,
    "frozen": 0,
    "embedding": 6 * 8,
    "double": 4 * 8 * 8,
}


@pytest.mark.parametrize("name", KEPT_INPUT)
def test_what_autograd_keeps_is_what_was_counted(name: str) -> None:
    """Two witnesses: storages that saved-tensor hooks saw in the allocator's account, and attributes of autograd's
    nodes. Where autograd keeps the step's input, that is billed as input."""
    run = measure(MODELS[name]())
    saved = sum(block.bytes for block in run.memory.stream.blocks if block.category == "saved")
    counted = sum(row.saved_bytes or 0 for row in run.ledger.rows)
    assert saved == counted - KEPT_INPUT[name]


def test_memory_is_of_the_second_step_and_returns_to_where_it_began() -> None:
    stream = measure(cnn(2)).memory.stream
    assert stream.live_bytes[0] == stream.live_bytes[-1]


def test_gradients_belong_to_their_layer() -> None:
    stream = measure(cnn(2)).memory.stream
    gradients: dict[str, int] = {}
    for block in stream.live():
        if block.category == "parameters":
            gradients[block.path] = gradients.get(block.path, 0) + block.bytes
    left = {block.path: 0 for block in stream.live(0) if block.category == "parameter gradients"}
    for block in stream.live(0):
        if block.category == "parameter gradients":
            left[block.path] += block.bytes
    assert left == gradients


def test_accumulation_adds_in_place_and_gives_the_new_gradient_back() -> None:
    model = nn.Linear(8, 4, bias=False)

    def step() -> None:
        model(X).sum().backward()

    stream = measure(torchtally.Workload(model=model, step=step)).memory.stream
    of_weight = [(event.opens, event.phase) for event in stream.events if is_gradient(stream.blocks[event.block])]
    assert of_weight == [(True, "backward"), (False, "accumulation")]
    assert sum(block.bytes for block in stream.live(0) if is_gradient(block)) == 8 * 4 * 4


def is_gradient(block: Any) -> bool:
    return bool(block.category == "parameter gradients")


def test_without_gradients_nothing_is_saved() -> None:
    model = CNN().eval()
    images = torch.randn(2, 3, 32, 32)

    def step() -> None:
        with torch.no_grad():
            model(images)

    categories = set(measure(torchtally.Workload(model=model, step=step)).memory.timeline.category)
    assert categories <= {"activations", "workspace", "temporaries"}


def test_what_a_step_keeps_of_its_results_is_no_input() -> None:
    model, kept = nn.Linear(8, 8), []

    def step() -> None:
        kept.append(model(X))

    stream = measure(torchtally.Workload(model=model, step=step)).memory.stream
    assert stream.live_bytes[-1] - stream.live_bytes[0] == 4 * 8 * 4
    # The results of the watched step and of the one before it; X is the only input.
    assert sum(block.bytes for block in stream.live(len(stream.events)) if block.category == "input") == X.nbytes
    assert (
        sum(block.bytes for block in stream.live(len(stream.events)) if block.category == "activations") == 2 * X.nbytes
    )


def test_other_models_and_their_optimizers_are_billed_too() -> None:
    """A generator is watched; the discriminator that judges it has parameters and state of its own."""
    generator, judge = nn.Linear(8, 8, bias=False), nn.Linear(8, 1, bias=False)
    optimizers = [torch.optim.Adam(model.parameters()) for model in (generator, judge)]

    def step() -> None:
        judge(generator(X)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    memory = measure(torchtally.Workload(model=generator, step=step, optimizer=optimizers[0])).memory
    at_rest = dict.fromkeys(("parameters", "optimizer state"), 0)
    for block in memory.stream.live(0):
        if block.category in at_rest:
            at_rest[block.category] += block.bytes
    parameters = (8 * 8 + 8 * 1) * 4
    assert at_rest == {"parameters": parameters, "optimizer state": 2 * parameters + 2 * 4}


def test_work_in_other_threads_is_named() -> None:
    model = nn.Linear(8, 8)

    def step() -> None:
        thread = threading.Thread(target=model, args=(X,))
        thread.start()
        thread.join()

    memory = measure(torchtally.Workload(model=model, step=step)).memory
    assert any("other threads" in note for note in memory.notes)


# What can go wrong ----------------------------------------------------------------------------------------------------


def test_out_of_memory_yields_the_timeline_up_to_it() -> None:
    workload = cnn(2)

    def step() -> None:
        workload.step()
        torch.empty(2**45)

    with pytest.raises(StepOutOfMemoryError, match=f"asked for {4 * 2**45} bytes") as caught:
        measure(torchtally.Workload(model=workload.model, step=step))
    assert len(caught.value.memory.timeline) > 100
    assert f"{caught.value.memory.stream.live_bytes[-1]:,} bytes" in str(caught.value)


def test_other_errors_pass_through() -> None:
    def step() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        measure(torchtally.Workload(model=nn.Linear(1, 1), step=step))


def test_steps_of_different_shape_are_refused() -> None:
    model, sizes = nn.Linear(8, 8), iter(range(1, 10))

    def step() -> None:
        model(torch.randn(next(sizes), 8))

    with pytest.raises(StepsDifferError, match=r"step 1 the model was given .*\(1, 8\).* step 2 .*\(2, 8\)"):
        measure(torchtally.Workload(model=model, step=step))


def test_another_profiler_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")  # read once in a process, by whoever comes first
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as theirs:
        with pytest.raises(RunStateError, match="another profiler"):
            measure(cnn(2))
        torch.ones(3).add(1)
    assert any("aten::add" in event.name for event in theirs.events())


def test_something_else_is_refused() -> None:
    with pytest.raises(UsageError, match="Workload, or a factory"):
        measure(lambda batch_size=1: nn.Linear(1, 1))  # type: ignore[arg-type, return-value]


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    measure(cnn(2))
    assert capfd.readouterr() == ("", "")
