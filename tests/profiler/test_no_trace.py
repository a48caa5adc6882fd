"""However a block ends, model, torch and process are as they were, and the step computed what it would have."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import torchtally
from torchtally.models import CNN, CNNConfig, example

from .running import Calling, seeded, step

N = 4


class PlannedError(Exception):
    """The user's own error."""


class Net(nn.Module):
    """Convolution, in-place ReLU, batch statistics, dropout, tied layers, and a place for trouble."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.trouble: nn.Module = nn.Identity()
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 4)
        self.again = self.fc
        self.register_buffer("seen", torch.zeros(1))
        self.conv.bias.requires_grad_(False)
        self.norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.trouble(self.act(self.norm(self.conv(x))))
        return self.again(self.fc(self.drop(x.mean(dim=(2, 3)))))


def net() -> Net:
    return seeded(Net)


def images() -> Tensor:
    return torch.randn(N, 3, 8, 8, generator=torch.Generator().manual_seed(1))


# How a block can end --------------------------------------------------------------------------------------------------


def raises(error: type[BaseException]) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        raise error("as planned")

    return function


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, error: type[BaseException]) -> Tensor:
        ctx.error = error
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise ctx.error("as planned")


def train(model: nn.Module, steps: int = 1) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        model(images()).square().sum().backward()
        optimizer.step()


def after_success(model: Net, error: type[BaseException]) -> None:
    train(model)


def in_forward(model: Net, error: type[BaseException]) -> None:
    model.trouble = Calling(raises(error))
    train(model)


def in_backward(model: Net, error: type[BaseException]) -> None:
    model.trouble = Calling(lambda m, x: Backward.apply(x, error))
    train(model)


def in_a_forward_hook(model: Net, error: type[BaseException]) -> None:
    model.act.register_forward_hook(raises(error))
    train(model)


def in_a_forward_pre_hook(model: Net, error: type[BaseException]) -> None:
    model.act.register_forward_pre_hook(raises(error))
    train(model)


def in_a_tensor_hook(model: Net, error: type[BaseException]) -> None:
    model.norm.weight.register_hook(raises(error))
    train(model)


def in_the_optimizer(model: Net, error: type[BaseException]) -> None:
    class Broken(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            raise error("as planned")

    optimizer = Broken(model.parameters(), lr=0.1)
    model(images()).sum().backward()
    optimizer.step()


def between_the_steps(model: Net, error: type[BaseException]) -> None:
    train(model)
    raise error("as planned")


def with_the_graph_kept(model: Net, error: type[BaseException]) -> None:
    model.kept = [model(images()).sum()]
    model.kept[0].backward(retain_graph=True)


ENDINGS = [
    after_success,
    in_forward,
    in_backward,
    in_a_forward_hook,
    in_a_forward_pre_hook,
    in_a_tensor_hook,
    in_the_optimizer,
    between_the_steps,
    with_the_graph_kept,
]
CALM = (after_success, with_the_graph_kept)
ERRORS = [PlannedError, KeyboardInterrupt, SystemExit]


def run_to_its_end(
    model: Net, ending: Callable[..., None], error: type[BaseException], *, watched: bool = True
) -> torchtally.Profile | None:
    """The ending, in a block if `watched`; the user's error arrives unchanged."""
    run = torchtally.profile(model)
    try:
        if watched:
            with run:
                ending(model, error)
        else:
            ending(model, error)
    except BaseException as caught:
        assert type(caught) is error and caught.args == ("as planned",)
        assert caught.__cause__ is caught.__context__ is None, "nothing of ours went wrong on the way"
    else:
        assert ending in CALM
    return run


def attributes(model: nn.Module) -> dict[str, Any]:
    """Everything that hangs on modules and their tensors, tensors by content."""
    state: dict[str, Any] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            held = tuple(value) if isinstance(value, (dict, set)) else id(value) if name != "training" else value
            state[f"{path}.{name}"] = held
        state[f"{path} forward"] = type(module).forward
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        state[name] = (tensor.requires_grad, tensor._version, id(tensor), tensor._backward_hooks)
        state[f"{name} post"] = tensor._post_accumulate_grad_hooks
        state[f"{name} names"] = tuple(vars(tensor))
    return state


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_process_is_as_it_was(
    ending: Callable[..., None], error: type[BaseException], installed: Callable[[], dict[str, Any]]
) -> None:
    before = installed()
    run_to_its_end(net(), ending, error)
    assert installed() == before


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_model_is_as_the_step_alone_would_have_left_it(
    ending: Callable[..., None], error: type[BaseException]
) -> None:
    left = []
    for watched in (False, True):
        model = net()
        torch.manual_seed(7)
        before = set(attributes(model))
        run_to_its_end(model, ending, error, watched=watched)
        after = attributes(model)
        assert not {name for name in after if "_post" in name and after[name]}
        left.append(
            (
                before,
                {name: value for name, value in after.items() if name.endswith((".training", " names", " post"))},
                {name: len(after[name]) for name in after if name.endswith("_hooks") and after[name] is not None},
                {name: (p.requires_grad, p._version) for name, p in model.named_parameters()},
                {name: value.tolist() for name, value in model.state_dict().items()},
                {name: p.grad.tolist() for name, p in model.named_parameters() if p.grad is not None},
                torch.get_rng_state().tolist(),
            )
        )
    assert left[0] == left[1]


def test_nothing_of_the_model_is_replaced() -> None:
    model = net()
    before = attributes(model)
    with torchtally.profile(model), torch.no_grad():
        model(images())
    after = attributes(model)
    assert after == before


# Facts up to an error -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS)
def test_facts_up_to_an_error_can_be_read(error: type[BaseException]) -> None:
    run = run_to_its_end(net(), in_forward, error)
    assert run.ledger.row("conv").flops == 2 * (N * 4 * 6 * 6) * (3 * 9)
    assert run.ledger.row("conv").calls == 1
    assert run.ledger.row("fc").calls == 0
    assert run.ledger.row("fc").flops is None
    assert "backward_flops" not in run.totals
    assert "conv" in str(run)


def test_facts_up_to_an_error_in_backward() -> None:
    run = run_to_its_end(net(), in_backward, PlannedError)
    assert run.ledger.row("fc", "backward").matmul_flops == 2 * (2 * (2 * N * 4 * 4))
    assert "conv" not in {row.path for row in run.ledger.rows if row.phase == "backward"}


@pytest.mark.parametrize("error", ERRORS)
def test_a_step_after_an_error_caught_inside_the_block(error: type[BaseException]) -> None:
    """A retry is counted like any step: what was open when the error came is closed."""
    model = net()
    with torchtally.profile(model) as run:
        with pytest.raises(error):
            in_forward(model, error)
        model.trouble = nn.Identity()
        model(images()).sum().backward()
    conv, fc = 2 * (N * 4 * 6 * 6) * (3 * 9), 2 * (2 * N * 4 * 4)
    assert run.ledger.row("conv").flops == 2 * conv
    assert run.ledger.row("fc").flops == fc
    assert run.ledger.row("").flops == N * 4 * 36, "the mean, and nothing of the loss"
    assert run.ledger.row("conv", "backward").flops == conv
    assert run.totals["loss_flops"] == N * 4, "the sum, whose backward only shows one number many times"


# The work itself ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"in_place": True}, {"checkpoint": True}])
def test_losses_and_gradients_are_bit_identical(settings: dict[str, Any]) -> None:
    results = []
    for watched in (False, True):
        model = seeded(CNN, CNNConfig(**settings))
        model.gap = nn.Sequential(model.gap, nn.Dropout(0.5))
        results.append(training(model, watched))
    compare(*results)


def test_dropout_batchnorm_and_ties_are_bit_identical() -> None:
    compare(training(net(), False, images()), training(net(), True, images()))


def test_attention_and_fused_layers_are_bit_identical() -> None:
    def make() -> nn.Module:
        return seeded(nn.TransformerEncoderLayer, 8, 2, 16, batch_first=True)

    x = torch.randn(N, 5, 8)
    compare(training(make(), False, x), training(make(), True, x))


def training(model: nn.Module, watched: bool, x: Tensor | None = None) -> dict[str, list[Tensor]]:
    """Three steps of Adam: losses, gradients, parameters, buffers, optimizer state and random state."""
    torch.manual_seed(3)
    x = example(CNNConfig(), N)[0] if x is None else x
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses, gradients = [], []

    def steps() -> None:
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            gradients.extend(p.grad.clone() for p in model.parameters() if p.grad is not None)
            losses.append(loss.detach())
            optimizer.step()

    if watched:
        with torchtally.profile(model):
            steps()
    else:
        steps()
    moments = [v for state in optimizer.state.values() for v in state.values()]
    return {
        "losses": losses,
        "gradients": gradients,
        "state": [*model.state_dict().values()],
        "optimizer": moments,
        "random": [torch.get_rng_state()],
    }


def compare(bare: dict[str, list[Tensor]], watched: dict[str, list[Tensor]]) -> None:
    for name in bare:
        assert len(bare[name]) == len(watched[name]) > 0
        for a, b in zip(bare[name], watched[name], strict=True):
            assert torch.equal(a, b), name


def test_a_wrong_in_place_change_is_still_an_error() -> None:
    """Saved-tensor hooks would turn autograd's check off, and make wrong gradients in silence."""
    model = Calling(lambda m, x: m.layer(x).exp(), layer=nn.Linear(2, 2))
    with torchtally.profile(model), pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y = model(torch.ones(1, 2))
        y.add_(1.0)
        y.sum().backward()


def test_a_fast_path_stays_fast() -> None:
    """Hooks on the modules would take the encoder layer's fused operator apart."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad(), torchtally.profile(layer) as run:
        layer(torch.ones(N, 5, 8))
    names = {facts.signature.operator for facts in run.trace.operators}
    assert "aten._transformer_encoder_layer_fwd.default" in names


# Memory ---------------------------------------------------------------------------------------------------------------


class Mark:
    """Lives as long as the autograd node that it is put on; the node itself takes no weak reference."""


def marked(node: Any) -> Mark:
    node.metadata["mark"] = mark = Mark()
    return mark


def test_a_finished_run_keeps_nothing_alive() -> None:
    model, x = net(), images()
    with torchtally.profile(model) as run:
        y = model(x)
        y.sum().backward()
    watched = [weakref.ref(thing) for thing in (model, model.conv, model.fc.weight, x, y, marked(y.grad_fn))]
    del model, x, y
    gc.collect()
    assert [reference() for reference in watched] == [None] * len(watched)
    assert run.totals["parameters"] > 0


def test_an_unfinished_graph_is_not_kept_alive_by_the_run() -> None:
    """Forward without backward: the graph dies when the user lets go of it, inside the block too."""
    model = net()
    with torchtally.profile(model) as run:
        y = model(images())
        output, node = weakref.ref(y), weakref.ref(marked(y.grad_fn))
        del y
        assert output() is None and node() is None, "freed at once, without the garbage collector"
        activations: list[weakref.ref[Tensor]] = []
        model.conv.register_forward_hook(lambda m, i, o: activations.append(weakref.ref(o)))
        model(images()).sum().backward()
        assert activations[0]() is None
    assert run.ledger.row("conv").calls == 2


def test_a_run_that_was_never_entered_keeps_its_model_only_as_long_as_itself() -> None:
    model = net()
    run, reference = torchtally.profile(model), weakref.ref(model)
    del model, run
    gc.collect()
    assert reference() is None


def test_records_do_not_grow_with_the_number_of_steps() -> None:
    sizes = []
    for steps in (3, 30):
        run = torchtally.profile(model := net())
        with run:
            train(model, steps)
        trace = run.trace
        sizes.append((len(trace.calls), len(trace.operators), len(trace.gradients)))
    assert sizes[0] == sizes[1]


# Copies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_made_in_and_after_the_block(duplicate: Callable[[nn.Module], nn.Module]) -> None:
    model = seeded(CNN)
    x, _ = example(model.config, N)
    with torchtally.profile(model) as run:
        model(x).sum().backward()
        inside = duplicate(model)
        inside(x)
    after = duplicate(model)
    for made in (inside, after):
        hooks = [
            name for module in made.modules() for name, value in vars(module).items() if "_hooks" in name and value
        ]
        assert hooks == []
        assert all(not p._post_accumulate_grad_hooks and not p._backward_hooks for p in made.parameters())
        assert torch.equal(made.fc.weight, model.fc.weight)
        made(x).sum().backward()
    assert run.ledger.row("fc").calls == 1, "a copy is another model"


def test_state_dict_and_torch_save_in_the_block(tmp_path: Any) -> None:
    model = net()
    with torchtally.profile(model):
        model(images())
        torch.save(model.state_dict(), tmp_path / "weights.pt")
        names = list(model.state_dict())
    loaded = torch.load(tmp_path / "weights.pt")
    assert list(loaded) == names == list(net().state_dict())


# A graph that outlives the block --------------------------------------------------------------------------------------


def test_a_backward_after_the_block() -> None:
    gradients = []
    for watched in (False, True):
        model = net()
        torch.manual_seed(5)
        if watched:
            with torchtally.profile(model) as run:
                loss = model(images()).sum()
            loss.backward()
            assert "backward_flops" not in run.totals
        else:
            model(images()).sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_block_inside_one_that_fails() -> None:
    outer_model, inner_model = nn.Linear(2, 2), nn.Linear(2, 2)
    with pytest.raises(PlannedError), torchtally.profile(outer_model) as outer:
        outer_model(torch.ones(1, 2))
        with torchtally.profile(inner_model) as inner:
            inner_model(torch.ones(1, 2))
            raise PlannedError
    assert outer.totals["forward_flops"] == inner.totals["forward_flops"] == 2 * 2 * 2


def test_the_users_own_hooks_and_modes_stay() -> None:
    """Global ones too: ours are taken away, theirs are not."""
    calls: list[str] = []
    handle = nn.modules.module.register_module_forward_hook(lambda *_: calls.append("global"))
    model = net()
    own = model.fc.register_forward_hook(lambda *_: calls.append("own"))
    post = model.fc.weight.register_post_accumulate_grad_hook(lambda p: calls.append("post"))
    try:
        step(model, images())
        inside = len(calls)
        model(images()).sum().backward()
        assert len(calls) == 2 * inside
        assert {"global", "own", "post"} <= set(calls)
        assert len(model.fc.weight._post_accumulate_grad_hooks) == 1
    finally:
        for one in (handle, own, post):
            one.remove()


# The fixture that checks every test can fail --------------------------------------------------------------------------


def test_a_left_hook_or_mode_would_be_seen(installed: Callable[[], dict[str, Any]]) -> None:
    before = installed()
    handle = nn.modules.module.register_module_forward_hook(print, with_kwargs=True)
    assert installed() != before
    handle.remove()
    assert installed() != before, "torch's own handle forgets an entry"
    nn.modules.module._global_forward_hooks_with_kwargs.pop(handle.id)
    assert installed() == before
    with FlopCounterMode(display=False):
        assert installed() != before
    with torch.autograd.graph.save_on_cpu():
        assert installed() != before
    handle = register_optimizer_step_pre_hook(print)
    assert installed() != before
    handle.remove()
    assert installed() == before


def test_a_patched_function_would_be_seen(
    monkeypatch: pytest.MonkeyPatch, names: Callable[..., Any], renamed: Callable[..., list[str]]
) -> None:
    before = names()
    with monkeypatch.context() as patch:
        patch.setattr(nn.functional, "relu", print)
        patch.setattr(torch, "counted", 1, raising=False)
        assert renamed(before) == ["torch.counted", "torch.nn.functional.relu"]
    assert renamed(before) == []


class Listening(TorchFunctionMode):
    """Every function that is called with a tensor, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.heard.append(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


def test_function_modes_hear_what_they_would_have_heard() -> None:
    """Nor do they hear us look at tensors, on whichever side of the block they are."""
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Bilinear(4, 4, 2)), torch.ones(2, 4)

    def work() -> None:
        model[2](model[:2](x), model[0](input=x)).sum().backward()

    with Listening() as alone:
        work()
    with torchtally.profile(model) as run, Listening() as inside:
        work()
    with Listening() as outside, torchtally.profile(model) as other:
        work()
    assert alone.heard == inside.heard == outside.heard
    assert "linear" in alone.heard
    assert run.totals == other.totals
    assert run.totals["forward_flops"] > 0


class Hearing(Tensor):
    """Tensors that hear of every function they are given to, by name."""

    heard: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.heard.append(getattr(func, "__name__", str(func)))
        return super().__torch_function__(func, types, args, kwargs or {})


class Giving(nn.Module):
    """Has a tensor of the kind made inside a module, and backward through plain ones."""

    def __init__(self, *, plain: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4, bias=False))
        self.head = nn.Bilinear(4, 4, 2)
        self.loss = nn.MSELoss()
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        x = x.as_subclass(Hearing)
        y: Tensor = self.head(self.body(x), x) * 2
        y = y.as_subclass(Tensor) if self.plain else y
        return self.loss(y, torch.zeros(2, 2))


@pytest.mark.parametrize("plain", [True, False])
def test_tensors_of_other_kinds_hear_what_they_would_have_heard(plain: bool) -> None:
    torch.manual_seed(0)
    model, x = Giving(plain=plain), torch.randn(2, 4)

    def heard(run: Any = None) -> list[str]:
        Hearing.heard.clear()
        with run or nullcontext():
            model(x).backward()
        model.zero_grad()
        return list(Hearing.heard)

    run = torchtally.profile(model)
    alone = heard()
    assert "linear" in alone
    assert heard(run) == alone
    assert run.totals["forward_flops"] > 0
    assert run.ledger.row("body.2", "backward").matmul_flops == 2 * 2 * 2 * 4 * 4
