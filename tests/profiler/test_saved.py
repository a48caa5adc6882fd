"""What autograd keeps for backward: every storage once, at the module that kept it first, and known only where seen.

The other witness packs what autograd saves (`saved_tensors_hooks`) in a run of its own, without torchtally, and looks
at what is still alive when backward would begin.
"""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torchvision import models as vision

import torchtally
from torchtally import Profile
from torchtally.models.cnn import CNN, CNNConfig
from torchtally.profiler.capture.storage import held_storages
from torchtally.profiler.records import SAVED_ROLES

from .running import Calling, seeded, step
from .test_backward import chain

Forward = Callable[[Any], Tensor]
Kept = Counter[tuple[str | None, int]]
"""(path, or None for the loss; bytes of a storage) -> how many such storages."""


class Packed:
    """What the graph holds in a saved tensor's place: gone when the graph is."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()


def enter(running: list[str | None], path: str, *_: Any) -> None:
    running.append(path)


def packed(model: nn.Module, forward: Forward) -> Kept:
    """The storages that the graph of `forward(model)` holds, with the innermost module that ran when each was saved."""
    running: list[str | None] = [None]
    packs: list[tuple[weakref.ref[Packed], str | None]] = []

    def pack(tensor: Tensor) -> Packed:
        packs.append((weakref.ref(found := Packed(tensor)), running[-1]))
        return found

    def leave(*_: Any) -> None:
        running.pop()

    for path, module in model.named_modules():
        module.register_forward_pre_hook(partial(enter, running, path))
        module.register_forward_hook(leave)
    with saved_tensors_hooks(pack, lambda found: found.tensor):
        loss = forward(model)
    met = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: Kept = Counter()
    for reference, path in packs:
        found = reference()
        if found is not None and (storage := found.tensor.untyped_storage())._cdata not in met:
            met.add(storage._cdata)
            kept[path, storage.nbytes()] += 1
    assert loss.requires_grad
    return kept


def given(run: Profile) -> Kept:
    """The same as the trace has it."""
    kept: Kept = Counter()
    for fact in run.trace.saved:
        kept[fact.path if fact.phase == "forward" else None, fact.bytes] += fact.times
    return kept


def by_path(kept: Kept) -> dict[str | None, int]:
    sums: dict[str | None, int] = {}
    for (path, nbytes), times in kept.items():
        sums[path] = sums.get(path, 0) + nbytes * times
    return {path: total for path, total in sums.items() if total}


def profiled(model: nn.Module, forward: Forward, seed: int = 1) -> Profile:
    torch.manual_seed(seed)
    with torchtally.profile(model) as run:
        forward(model).backward()
    return run


def saved(run: Profile) -> dict[str, int | None]:
    """Path -> saved_bytes of forward rows of modules that were called, but zeros."""
    rows = [row for row in run.ledger.rows if row.phase == "forward" and row.calls]
    return {row.path: row.saved_bytes for row in rows if row.saved_bytes != 0}


def roles(run: Profile, path: str) -> dict[str, int]:
    """Role -> bytes of one module, but zeros; the ledger's columns and the trace's facts must say the same."""
    row = run.ledger.row(path)
    columns = {role: getattr(row, f"saved_{role}_bytes") for role in SAVED_ROLES}
    facts: dict[str, int] = {}
    for fact in run.trace.saved:
        if (fact.path, fact.phase) == (path, "forward") and fact.bytes:
            facts[fact.role] = facts.get(fact.role, 0) + fact.bytes * fact.times
    assert sum(columns.values()) == row.saved_bytes
    assert facts == {role: size for role, size in columns.items() if size}
    return facts


# Ordinary models ------------------------------------------------------------------------------------------------------

PICTURES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SEQUENCE = torch.randn(7, 2, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([1, 2])
SEGMENTS = torch.randint(5, (2, 32, 32), generator=torch.Generator().manual_seed(0))


def classified(model: nn.Module) -> Tensor:
    return functional.cross_entropy(model(PICTURES), LABELS)


def segmented(model: nn.Module) -> Tensor:
    return functional.cross_entropy(model(PICTURES), SEGMENTS)


def first_output(model: nn.Module) -> Tensor:
    result = model(SEQUENCE)
    return (result if isinstance(result, Tensor) else result[0]).square().mean()


def last_state(model: nn.Module) -> Tensor:
    return model(SEQUENCE)[1].square().mean()  # type: ignore[no-any-return]


class UNet(nn.Module):
    """Skips by concatenation; transposed convolution up, and interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = self.block(3, 4), self.block(4, 8), self.block(8, 8)
        self.up2, self.after2 = nn.ConvTranspose2d(8, 8, 2, 2), self.block(16, 4)
        self.up1, self.after1 = nn.Upsample(scale_factor=2, mode="bilinear"), self.block(8, 4)
        self.pool, self.out, self.drop = nn.MaxPool2d(2), nn.Conv2d(4, 5, 1), nn.Dropout2d(0.2)

    @staticmethod
    def block(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(2, after), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(self.pool(first))
        deep = self.drop(self.middle(self.pool(second)))
        deep = self.after2(torch.cat([self.up2(deep), second], 1))
        result: Tensor = self.out(self.after1(torch.cat([self.up1(deep), first], 1)))
        return result


def swin() -> nn.Module:
    small: nn.Module = vision.SwinTransformer([2, 2], 16, [1, 1], [2, 2], [4, 4], num_classes=10)
    return small


def vit() -> nn.Module:
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}
    small: nn.Module = vision.VisionTransformer(**sizes, dropout=0.1, attention_dropout=0.1, num_classes=10)
    return small


def encoder(**settings: Any) -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, **settings), 2, enable_nested_tensor=False)


MODELS: dict[str, tuple[Callable[[], nn.Module], Forward]] = {
    "ResNet-18": (lambda: vision.resnet18(num_classes=10), classified),
    "ViT": (vit, classified),
    "Swin": (swin, classified),
    "MobileNetV3": (lambda: vision.mobilenet_v3_small(num_classes=10), classified),
    "DenseNet": (lambda: vision.DenseNet(4, (2, 2), 8, num_classes=10), classified),
    "GoogLeNet, its auxiliary heads unused": (
        lambda: vision.GoogLeNet(num_classes=10, init_weights=False),
        lambda model: functional.cross_entropy(model(PICTURES.repeat(1, 1, 2, 2))[0], LABELS),
    ),
    "U-Net": (UNet, segmented),
    "encoder": (encoder, first_output),
    "encoder, norms first, GELU": (lambda: encoder(norm_first=True, activation="gelu"), first_output),
    "encoder and decoder": (
        lambda: nn.Transformer(16, 2, 1, 1, 32),
        lambda model: model(SEQUENCE, SEQUENCE).square().mean(),
    ),
    "LSTM": (lambda: nn.LSTM(16, 8, 2, dropout=0.3), first_output),
    "LSTM, both ways": (lambda: nn.LSTM(16, 8, bidirectional=True), first_output),
    "GRU": (lambda: nn.GRU(16, 8, 2), first_output),
    "GRU, last state alone": (lambda: nn.GRU(16, 8, 2), last_state),
    "CNN": (CNN, classified),
    "CNN in place": (lambda: CNN(CNNConfig(in_place=True)), classified),
    "CNN separable": (lambda: CNN(CNNConfig(convolution="depthwise-separable")), classified),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("build, forward", MODELS.values(), ids=MODELS)
def test_rows_add_up_to_what_the_graph_holds(build: Callable[[], nn.Module], forward: Forward) -> None:
    model = seeded(build)
    torch.manual_seed(1)
    expected = packed(copy.deepcopy(model), forward)
    run = profiled(model, forward)
    rows = [row for row in run.ledger.rows if row.saved_bytes is not None]
    assert sum(row.saved_bytes for row in rows) == sum(by_path(expected).values())
    assert {(row.path if row.phase == "forward" else None): row.saved_bytes for row in rows if row.saved_bytes} == (
        by_path(expected)
    )
    assert given(run) == expected, "each storage at one row, and at the right one"
    assert run.totals["saved_bytes"] == sum(row.saved_bytes for row in rows if row.phase == "forward")
    assert not run.coverage.notes


@pytest.mark.parametrize("build", [swin, vit, UNet, CNN], ids=["Swin", "ViT", "U-Net", "CNN"])
def test_fake_tensors_keep_as_much(build: Callable[[], nn.Module]) -> None:
    model = seeded(build)
    real, fake = torchtally.count(model, PICTURES), torchtally.count(model, PICTURES, device="meta")
    assert saved(fake) == saved(real)


def test_the_audits_witness_sees_the_same_at_every_leaf() -> None:
    model = seeded(MODELS["MobileNetV3"][0])
    held = copy.deepcopy(model)
    seen = held_storages(held, lambda: classified(held).backward())
    run = profiled(model, classified)
    assert seen.saved_bytes == {path: run.ledger.row(path).saved_bytes for path in seen.saved_bytes}
    assert len(seen.saved_bytes) > 100


# What it is to the layer ----------------------------------------------------------------------------------------------

N, C, H, W, I, O = 2, 4, 6, 5, 3, 7  # noqa: E741
MAP = 4 * N * C * H * W

# layer, input's shape, and bytes by role; the input comes from a layer that keeps nothing of it
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, int]]] = {
    "BatchNorm": (lambda: nn.BatchNorm2d(C), (N, C, H, W), {"input": MAP, "statistics": 2 * 4 * C}),
    "BatchNorm, evaluating": (lambda: nn.BatchNorm2d(C).eval(), (N, C, H, W), {"input": MAP}),
    "LayerNorm": (lambda: nn.LayerNorm(W), (N, C, H, W), {"input": MAP, "statistics": 2 * 4 * N * C * H}),
    "GroupNorm": (lambda: nn.GroupNorm(2, C), (N, C, H, W), {"input": MAP, "statistics": 2 * 4 * N * 2}),
    "ReLU": (nn.ReLU, (N, C, H, W), {"output": MAP}),
    "Sigmoid": (nn.Sigmoid, (N, C, H, W), {"output": MAP}),
    "Tanh": (nn.Tanh, (N, C, H, W), {"output": MAP}),
    "GELU": (nn.GELU, (N, C, H, W), {"input": MAP}),
    "SiLU": (nn.SiLU, (N, C, H, W), {"input": MAP}),
    "RReLU": (nn.RReLU, (N, C, H, W), {"input": MAP, "mask": MAP}),
    "Softmax": (lambda: nn.Softmax(1), (N, C, H, W), {"output": MAP}),
    "LogSoftmax": (lambda: nn.LogSoftmax(1), (N, C, H, W), {"output": MAP}),
    "MaxPool": (lambda: nn.MaxPool2d(2), (N, C, H, W), {"input": MAP, "index": 8 * N * C * 3 * 2}),
    "AvgPool": (lambda: nn.AvgPool2d(2), (N, C, H, W), {"input": MAP}),
    "Dropout": (nn.Dropout, (N, C, H, W), {"mask": MAP}),
    "Dropout2d": (nn.Dropout2d, (N, C, H, W), {"mask": 4 * N * C}),
    "Dropout, evaluating": (lambda: nn.Dropout().eval(), (N, C, H, W), {}),
    "Linear": (lambda: nn.Linear(I, O), (N, I), {"input": 4 * N * I}),
    "Conv2d": (lambda: nn.Conv2d(C, O, 3), (N, C, H, W), {"input": MAP}),
    "Flatten": (nn.Flatten, (N, C, H, W), {}),
    "PReLU": (nn.PReLU, (N, C, H, W), {"input": MAP}),
    "Hardtanh": (nn.Hardtanh, (N, C, H, W), {"input": MAP}),
}


class Given(nn.Module):
    """x plus a parameter: its output needs a gradient, and nothing is kept for it."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


@pytest.mark.parametrize("build, shape, expected", LAYERS.values(), ids=LAYERS)
def test_roles_by_hand(build: Callable[[], nn.Module], shape: tuple[int, ...], expected: dict[str, int]) -> None:
    run = step(chain(before=Given(), layer=seeded(build)), torch.randn(shape))
    assert roles(run, "layer") == expected
    assert run.ledger.row("before").saved_bytes == 0
    assert not run.coverage.notes


def test_an_embedding_keeps_its_indices() -> None:
    run = step(nn.Embedding(9, 4), torch.tensor([[1, 2, 2], [0, 8, 1]]))
    assert roles(run, "") == {"index": 8 * 6}


def test_a_comparison_is_a_mask() -> None:
    model = Calling(lambda m, x: torch.where(x > 0, m.a(x), 0.0), a=nn.Linear(I, I))
    assert roles(step(model, torch.ones(N, I)), "") == {"mask": N * I}


# Shared, and whole ----------------------------------------------------------------------------------------------------


def test_a_shared_storage_belongs_to_the_first_that_keeps_it() -> None:
    model = Calling(lambda m, x: m.a(x) + m.b(x), a=nn.Linear(I, O), b=nn.Linear(I, O))
    assert saved(step(model, torch.ones(N, I))) == {"a": 4 * N * I}


def test_an_output_that_the_next_layer_keeps_as_well() -> None:
    model = chain(a=nn.Linear(I, O), act=nn.ReLU(), b=nn.Linear(O, I))
    assert saved(step(model, torch.ones(N, I))) == {"a": 4 * N * I, "act": 4 * N * O}


def test_views_count_whole_and_once() -> None:
    model = Calling(lambda m, x: m.a(x[:, :I]) + m.b(x[:, I:].flip(0)), a=nn.Linear(I, O), b=nn.Linear(I, O))
    run = step(model, torch.ones(N, 2 * I))
    assert saved(run) == {"a": 4 * N * 2 * I, "b": 4 * N * I}, "a view keeps all of x; the flipped half is a copy"


def test_an_expanded_tensor_keeps_what_it_has() -> None:
    model = Calling(lambda m, x: m.a(x).expand(100, O) * x.sum(), a=nn.Linear(I, O))
    assert roles(step(model, torch.ones(1, I)), "") == {"input": 4}, "the sum alone: x needs no gradient"


def test_parameters_buffers_and_their_views_are_not_counted() -> None:
    parts = {"a": nn.Linear(I, O), "norm": nn.BatchNorm1d(9)}
    model = Calling(lambda m, x: (x @ m.a.weight.t()) * m.norm.running_mean[:O], **parts)
    assert saved(step(model, torch.ones(N, I)))[""] == 4 * N * I


def test_a_weight_that_is_computed_is_counted() -> None:
    model = Calling(lambda m, x: functional.linear(m.a(x), m.a.weight.exp()), a=nn.Linear(I, I, bias=False))
    run = step(model, torch.ones(N, I))
    assert saved(run) == {"a": 4 * N * I, "": 4 * I * I + 4 * N * I}, "exp keeps its output, and linear both factors"


def test_python_numbers_are_no_tensors() -> None:
    model = Calling(lambda m, x: 1 / (m.a(x) * 0.5 + 2) * 3 / 7, a=nn.Linear(I, O))
    real = Calling(lambda m, x: m.a(x) * torch.tensor(0.5, dtype=torch.float64), a=nn.Linear(I, O))
    assert roles(step(model, torch.ones(N, I)), "") == {"output": 4 * N * O}, "the reciprocal's"
    assert roles(step(real, torch.ones(N, I)), "") == {"input": 8}, "a tensor of no dimensions is one"


def test_what_the_loss_keeps_is_not_the_models() -> None:
    run = profiled(nn.Linear(I, O), lambda model: functional.cross_entropy(model(torch.ones(N, I)), LABELS))
    loss = run.ledger.row("", "loss")
    assert run.totals["saved_bytes"] == 4 * N * I
    assert loss.saved_bytes == 4 * N * O + 8 * N + 4, "log-probabilities, labels, and the sum of weights"
    assert loss.saved_index_bytes == 8 * N


def test_frozen_layers_keep_only_what_later_gradients_need() -> None:
    frozen = nn.Linear(I, O).requires_grad_(False)
    model = chain(a=frozen, act=nn.ReLU(), b=nn.Linear(O, O), c=nn.Linear(O, O).requires_grad_(False))
    assert saved(step(model, torch.ones(N, I))) == {"b": 4 * N * O}


# Several passes -------------------------------------------------------------------------------------------------------


def model_of_two() -> Calling:
    return chain(a=nn.Linear(I, O), act=nn.Tanh(), b=nn.Linear(O, I))


ONE_STEP = {"a": 4 * N * I, "act": 4 * N * O}


def test_the_same_graph_twice_is_kept_once() -> None:
    with torchtally.profile(model := model_of_two()) as run:
        loss = model(torch.ones(N, I)).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    assert saved(run) == ONE_STEP


@pytest.mark.parametrize("retain", [False, True])
def test_two_steps_keep_twice_as_much(retain: bool) -> None:
    """On one and the same input as well: each step keeps it anew."""
    x = torch.ones(N, I)
    with torchtally.profile(model := model_of_two()) as run:
        for _ in range(2):
            model(x).sum().backward(retain_graph=retain)
    assert saved(run) == {path: 2 * size for path, size in ONE_STEP.items()}


def two_heads() -> Calling:
    def forward(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = model.trunk(x)
        return model.one(h), model.two(h)

    return Calling(forward, trunk=chain(a=nn.Linear(I, O), act=nn.Tanh()), one=nn.Linear(O, 1), two=nn.Linear(O, 1))


def test_two_losses_one_after_the_other_share_what_both_keep() -> None:
    with torchtally.profile(model := two_heads()) as run:
        one, two = model(torch.ones(N, I))
        one.sum().backward(retain_graph=True)
        two.sum().backward()
    assert saved(run) == {"trunk.a": 4 * N * I, "trunk.act": 4 * N * O}


def test_two_graphs_on_one_input_share_it_where_they_are_there_at_once() -> None:
    x = torch.ones(N, I)
    model = Calling(lambda m, x: (m.one(x), m.two(x)), one=nn.Linear(I, 1), two=nn.Linear(I, 1))
    with torchtally.profile(model) as run:
        for _ in range(3):
            one, two = model(x)
            one.sum().backward()
            two.sum().backward()
    assert saved(run) == {"one": 3 * 4 * N * I}


def test_what_was_freed_and_is_kept_again_counts_again() -> None:
    """Though the second pass also comes to nodes that were there before the first."""
    x = torch.ones(N, I)
    model = Calling(lambda m, x: None, early=nn.Linear(I, O), late=nn.Linear(I, O))
    with torchtally.profile(model) as run:
        early = model.early(torch.ones(N, I))
        model.late(x).sum().backward()
        (early + model.late(x)).sum().backward()
    assert saved(run) == {"early": 4 * N * I, "late": 2 * 4 * N * I}


def test_a_gradient_of_part_of_the_graph() -> None:
    """What hangs on nodes that no pass came to was not seen to be needed."""
    with torchtally.profile(model := two_heads()) as run:
        one, _ = model(torch.ones(N, I))
        torch.autograd.grad(one.sum(), model.one.weight)
    assert saved(run) == {"one": 4 * N * O}


def test_without_a_backward_nothing_is_known() -> None:
    for run in (step(model_of_two(), torch.ones(N, I), backward=False), no_gradients()):
        assert {row.saved_bytes for row in run.ledger.rows} == {None}
        assert "saved_bytes" not in run.totals


def no_gradients() -> Profile:
    with torch.no_grad():
        return step(model_of_two(), torch.ones(N, I), backward=False)


# What cannot be seen is missing, not nothing --------------------------------------------------------------------------


def part() -> Calling:
    return chain(a=nn.Linear(O, O), act=nn.Tanh(), b=nn.Linear(O, I))


def checkpointed(**settings: Any) -> Profile:
    model = Calling(
        lambda m, x: m.last(checkpoint(m.part, m.first(x), **settings)),
        first=nn.Linear(I, O),
        part=part(),
        last=nn.Linear(I, O),
    )
    return step(model, torch.ones(N, I))


def test_a_checkpoint_is_named() -> None:
    """Its modules keep nothing that shows; and the checkpoint its input, for whichever module called it."""
    run = checkpointed(use_reentrant=False)
    unknown = {"": None, "part": None, "part.a": None, "part.act": None, "part.b": None}
    assert saved(run) == {"first": 4 * N * I, "last": 4 * N * I, **unknown}
    assert run.ledger.row("part.a").saved_input_bytes is None
    assert run.totals["saved_bytes"] == 2 * 4 * N * I, "what was seen"
    assert not run.coverage.complete
    for path in ("part.a", "part.act", "part.b"):
        assert any(note.startswith(f"{path}: ") and "checkpointing" in note for note in run.coverage.notes)


def test_a_checkpoint_that_is_a_node_keeps_its_input() -> None:
    run = checkpointed(use_reentrant=True, preserve_rng_state=False)
    assert saved(run) == {"first": 4 * N * I, "": 4 * N * O, "last": 4 * N * I}
    again = {row.path: row.saved_bytes for row in run.ledger.rows if row.phase == "recompute" and row.saved_bytes}
    assert again == {"part.a": 4 * N * O, "part.act": 4 * N * O}, "as the pieces were run again"
    assert not run.coverage.notes


def test_random_states_that_a_checkpoint_keeps_are_named() -> None:
    run = checkpointed(use_reentrant=True)
    assert saved(run) == {"first": 4 * N * I, "": None, "last": 4 * N * I}
    (note,) = run.coverage.notes
    assert "CheckpointFunctionBackward keeps as attributes" in note


def test_what_cannot_be_seen_is_counted_once_however_the_graph_is_walked() -> None:
    """A checkpoint's own backward pass comes between two parts of the outer one's."""
    inner = Calling(lambda m, x: checkpoint(m.part, m.first(x), use_reentrant=True), first=nn.Linear(I, O), part=part())
    run = step(Calling(lambda m, x: m.inner(m.inner(m.inner(x))), inner=inner), torch.ones(N, I))
    (note,) = run.coverage.notes
    assert "(3x)" in note
    with torchtally.profile(
        model := chain(a=nn.Linear(I, O), flat=nn.Flatten(0), drop=nn.Dropout(inplace=True))
    ) as run:
        loss = model(torch.ones(N, I)).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    (note,) = run.coverage.notes
    assert "CopySlices" in note and "(1x)" in note


def test_the_walkthrough_checkpointed() -> None:
    run = profiled(CNN(CNNConfig(checkpoint=True)), classified)
    assert saved(run)["fc"] == 4 * N * 128
    seen = {row.path for row in run.ledger.rows if row.phase == "forward" and row.saved_bytes is not None}
    assert seen == {"gap", "fc"}


class Doubled(torch.autograd.Function):
    """x * x, with x kept in the way that it should not be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x = x.clone()
        return x * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return 2 * ctx.x * gradients[0]


class DoubledAsItShould(Doubled):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.x = x
        return x * x


def test_tensors_kept_as_attributes() -> None:
    hidden = step(chain(a=nn.Linear(I, O), own=Calling(lambda m, x: Doubled.apply(x))), torch.ones(N, I))
    assert saved(hidden) == {"a": 4 * N * I, "own": None}
    assert any("DoubledBackward keeps as attributes" in note for note in hidden.coverage.notes)
    shown = step(chain(a=nn.Linear(I, O), own=Calling(lambda m, x: DoubledAsItShould.apply(x))), torch.ones(N, I))
    assert saved(shown) == {"a": 4 * N * I, "own": 4 * N * O}
    assert not shown.coverage.notes


def test_writing_into_a_view() -> None:
    model = chain(a=nn.Linear(I, O), flat=nn.Flatten(0), drop=nn.Dropout(inplace=True))
    run = step(model, torch.ones(N, I))
    assert saved(run) == {"a": 4 * N * I, "drop": None}
    assert any("CopySlices" in note for note in run.coverage.notes)


def test_tensors_packed_by_the_user() -> None:
    with torchtally.profile(model := model_of_two()) as run:
        with torch.autograd.graph.save_on_cpu():
            loss = model(torch.ones(N, I)).sum()
        loss.backward()
    assert saved(run) == {"a": None, "act": None, "b": None}
    assert all("packed" in note and "checkpointing" not in note for note in run.coverage.notes)
