"""TARGET and the options that go with it, made into a workload."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ...theory.tensor import ITEMSIZE
from ..errors import TallyError, UsageError
from .options import LARGEST

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch._subclasses.fake_tensor import FakeTensorMode

    from ..workload import Build, Workload

    _InputBase = click.ParamType["Input"]
else:
    _InputBase = click.ParamType

_NEEDS_VALUES = ("DataDependentOutputException", "DynamicOutputShapeException")

OPTIMIZERS = ("none", "sgd", "adam", "adamw")
TORCHVISION_BATCH = 2  # BatchNorm refuses a single image where it is down to one pixel

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Input:
    """A tensor argument: 1x128:int64."""

    shape: tuple[int, ...]
    dtype: str = "float32"


class InputType(_InputBase):
    """32x3x224x224, or 1x128:int64."""

    name = "SHAPE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Input:
        if isinstance(value, Input):
            return value
        shape, colon, dtype = str(value).partition(":")
        sizes = shape.split("x")
        if not all(size.isascii() and size.isdigit() for size in sizes) or (colon and not dtype):
            self.fail(f"{value!r} is no input; give sizes such as 32x3x224x224, or 1x128:int64", param, ctx)
        if max(map(int, sizes)) > LARGEST:
            self.fail(f"{value!r} is larger than any tensor can be", param, ctx)
        if dtype and dtype not in ITEMSIZE:
            self.fail(f"no dtype is named {dtype!r}; there are {', '.join(ITEMSIZE)}", param, ctx)
        return Input(tuple(map(int, sizes)), dtype or "float32")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a target is to be run. None where the user said nothing."""

    batch_size: int | None = None
    inputs: tuple[Input, ...] = ()
    train: bool | None = None
    optimizer: str | None = None
    amp: bool = False
    device: str = "cpu"
    fake: FakeTensorMode | None = None
    """Active, where the device is "meta": nothing is computed, and only weights that are drawn take memory."""

    def computing(self) -> AbstractContextManager[Any]:
        """Outside the fake mode for a while."""
        from torch._subclasses.fake_tensor import unset_fake_temporarily

        return nullcontext() if self.fake is None else unset_fake_temporarily()

    def pretend(self, model: nn.Module) -> None:
        """Fake tensors for all that the model holds, shared ones shared."""
        if self.fake is None:
            return
        for module in model.modules():
            for held in (module._parameters, module._buffers):
                held.update({name: self.fake.from_tensor(t) for name, t in held.items() if t is not None})  # type: ignore[misc]


def targeted(command: Command) -> Command:
    """TARGET and the options of `Setup`, taken by the command as `target` and `**` options."""
    for option in reversed(
        (
            click.argument("target", metavar="TARGET"),
            click.option(
                "--batch-size",
                type=click.IntRange(1, LARGEST),
                help=f"Samples per step.  [default: {TORCHVISION_BATCH} for torchvision, else the factory's own]",
            ),
            click.option(
                "--input",
                "inputs",
                type=InputType(),
                multiple=True,
                metavar="SHAPE",
                help="An argument of the model: 32x3x224x224, 1x128:int64. Once for each.",
            ),
            click.option(
                "--train/--eval", "train", default=None, help="A training step, or inference.  [default: --train]"
            ),
            click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="After backward.  [default: none]"),
            click.option("--amp", is_flag=True, help="Forward under autocast, in bfloat16."),
            click.option(
                "--device",
                "device_name",
                default="cpu",
                show_default=True,
                help="cpu, cuda, cuda:1; meta computes nothing: fake tensors.",
            ),
        )
    ):
        command = option(command)
    return command


def workload(target: str, setup: Setup) -> Workload:
    """The step that `target` and its options describe. Raises UsageError, in one line, for what cannot be had."""
    from ...models.zoo import TargetError, is_torchvision

    try:
        return _of_torchvision(target, setup) if is_torchvision(target) else _of_factory(target, setup)
    except TargetError as error:
        raise UsageError(str(error)) from error


def build_of(target: str, setup: Setup) -> Build:
    """The same as a factory of workloads, which `predict` calls on fake tensors."""

    def build(batch_size: int | None = setup.batch_size) -> Workload:
        return workload(target, replace(setup, batch_size=batch_size))

    return build


def _of_torchvision(target: str, setup: Setup) -> Workload:
    from ...models.zoo import split, torchvision_inputs, torchvision_model

    name = split(target)[1]
    with setup.computing():  # some draw their weights with the help of values, which fake tensors do not have
        model = torchvision_model(name).train(setup.train is not False)
    setup.pretend(model)
    if setup.inputs:
        return _step(model, _given_inputs(setup), setup)
    return _step(model, torchvision_inputs(name, model, setup.batch_size or TORCHVISION_BATCH), setup)


def _of_factory(target: str, setup: Setup) -> Workload:
    """The current folder can be imported from, as with `python -m`."""
    from torch import nn

    from ...models.zoo import factory, takes
    from ..workload import Workload

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with blamed(f"importing {target}"):
        build = factory(target)
    asked = {"batch_size": setup.batch_size} if setup.batch_size is not None else {}
    if asked and not takes(build, "batch_size"):
        raise UsageError(f"{target} takes no batch_size; leave --batch-size out, and give the sizes with --input")
    with blamed(f"{target}()"):
        product = build(**asked)
    if isinstance(product, Workload):
        return _as_it_is(target, product, setup)
    if not isinstance(product, nn.Module):
        raise UsageError(f"{target} must return a torchtally.Workload or a module, and returned {_a(product)}")
    if not setup.inputs:
        raise UsageError(f"{target} returns a module alone; say what it is called with, such as --input 32x3x224x224")
    return _step(product.train(setup.train is not False), _given_inputs(setup), setup)


def _as_it_is(target: str, found: Workload, setup: Setup) -> Workload:
    """A workload has its own step. Raises UsageError for options that would change it."""
    own = {
        "--input": bool(setup.inputs),
        "--train/--eval": setup.train is not None,
        "--optimizer": setup.optimizer is not None,
        "--amp": setup.amp,
        "--device": setup.device not in ("cpu", "meta"),
    }
    for option, given in own.items():
        if given:
            raise UsageError(f"{target} returns a workload, which has a step of its own; leave {option} out")
    return found


def _a(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _given_inputs(setup: Setup) -> tuple[Tensor, ...]:
    from ...models.zoo import made_input

    if setup.batch_size is not None:
        raise UsageError("--input has the batch size in it already; leave --batch-size out")
    return tuple(made_input(given.shape, given.dtype) for given in setup.inputs)


def _step(model: nn.Module, inputs: tuple[Any, ...], setup: Setup) -> Workload:
    from torch import Tensor
    from torch.utils._pytree import tree_map_only

    from ..workload import Workload

    if setup.device != "meta":  # fake tensors are made as such, and stay where they pretend to be
        model = model.to(setup.device)
        inputs = tree_map_only(Tensor, lambda tensor: tensor.to(setup.device), inputs)
    if setup.train is False:
        if setup.optimizer not in (None, "none"):
            raise UsageError("--optimizer belongs to a training step, and --eval has none")
        return Workload(model=model, step=lambda: _inference(model, inputs, setup))
    optimizer = _optimizer(model, setup.optimizer or "none")

    def step() -> None:
        model.zero_grad(set_to_none=True)
        _train(model, inputs, setup)
        if optimizer is not None:
            optimizer.step()

    return Workload(model=model, step=step, optimizer=optimizer)


def _optimizer(model: nn.Module, name: str) -> Any:
    """With PyTorch's own settings."""
    import torch

    if name == "none":
        return None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise UsageError("the model has no parameters to train; leave --optimizer out")
    made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return made(trained)


def _inference(model: nn.Module, inputs: tuple[Any, ...], setup: Setup) -> None:
    import torch

    with torch.no_grad(), _precision(setup):
        model(*inputs)


def _train(model: nn.Module, inputs: tuple[Any, ...], setup: Setup) -> None:
    """Forward, and the backward of the sum of all outputs: without a loss, whose cost would be an invention."""
    from ..count import backward_of_sum

    with _precision(setup):
        outputs = model(*inputs)
    backward_of_sum(outputs)


def _precision(setup: Setup) -> AbstractContextManager[Any]:
    import torch

    if not setup.amp:
        return nullcontext()
    return torch.autocast(torch.device("cpu" if setup.device == "meta" else setup.device).type, dtype=torch.bfloat16)


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Errors of the user's own code as one line that says where they were raised.

    Running out of memory passes through, as the command line knows what to say of it.
    """
    try:
        yield
    except (TallyError, MemoryError, click.ClickException):
        raise
    except Exception as error:
        if _out_of_memory(error) or type(error).__name__ == "TargetError":
            raise
        if type(error).__name__ in _NEEDS_VALUES or "FakeTensor" in str(error):
            raise UsageError(
                f"{what} needs the values of tensors, which --device meta has none of; use another device"
            ) from error
        raise UsageError(f"{what} failed{_place(error)}: {type(error).__name__}: {error}") from error


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in ("out of memory", "can't allocate", "not enough memory")
    )


def _place(error: Exception) -> str:
    """The innermost line of it that is in no installed package."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not {"site-packages", "torchtally", "importlib"} & _parts(frame.filename)]
    return f" at {os.path.relpath(own[-1].filename)}:{own[-1].lineno}" if own else ""


def _parts(filename: str) -> set[str]:
    return {part.strip("<>") for name in filename.replace("\\", "/").split("/") for part in name.split(".")[:1]}
