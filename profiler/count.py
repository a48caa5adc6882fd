"""A quick answer: one forward and backward of a model, counted, and the model left as it was."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from .capture.tensors import tensors_in
from .errors import UsageError
from .formulas import Formula
from .pricing import PRICES, Prices
from .profile import Profile, profile


def count(
    model: nn.Module,
    *args: Any,
    backward: bool = True,
    device: str | torch.device | None = None,
    prices: Prices = PRICES,
    formulas: Mapping[Any, Formula] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **named: Any,
) -> Profile:
    """Run `model(*args, **named)` and, with `backward`, the backward of the sum of its outputs; return the ended run.

    Keyword arguments of the model whose names are taken here (`device`, `backward`, `prices`, `formulas`, `kwargs`) go
    into the mapping `kwargs`, which is added to the named ones.

    Where nothing of the output needs a gradient (no trained parameters, `torch.no_grad()`), only forward runs. The
    model is left as it was: gradients, buffers and random state are put back.

    With `device="meta"` nothing is computed and nothing large allocated: the run goes over fake copies of model and
    inputs, which keep the device they pretend to be on, so that the same operators are chosen as in a real run.

    Raises UsageError for another `device` (move the model and inputs there instead) and for a keyword given twice,
    NotAModuleError for anything but a module; errors of the model itself pass through.
    """
    given = _together(named, kwargs)
    device = None if device is None else str(device)
    if device not in (None, "meta"):
        raise UsageError(
            f'device must be "meta" or left out, got {device!r}; move the model and its inputs there instead'
        )
    watched = profile(model, prices=prices, formulas=formulas)
    with ExitStack() as stack:
        if device == "meta":
            model, args, given = _pretended(model, args, given, stack)
            watched = profile(model, prices=prices, formulas=formulas)
        else:
            stack.enter_context(_undisturbed(model, tensors_in((args, given))))
        with watched:
            outputs = model(*args, **given)
            if backward:
                backward_of_sum(outputs)
    return watched


def _together(named: dict[str, Any], more: Mapping[str, Any] | None) -> dict[str, Any]:
    twice = sorted(named.keys() & (more or {}).keys())
    if twice:
        raise UsageError(f"{', '.join(twice)}: given by name and in kwargs; give each once")
    return {**named, **(more or {})}


def backward_of_sum(outputs: Any) -> None:
    """Backward of the sum of all outputs that need a gradient, without an operator of our own: each is given ones."""
    roots = [tensor for tensor in tensors_in(outputs) if tensor.requires_grad]
    if roots:
        torch.autograd.backward(roots, [torch.ones_like(tensor) for tensor in roots])


@contextmanager
def _undisturbed(model: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Put back gradients, of inputs too, buffers and random state."""
    leaves = (*model.parameters(), *(tensor for tensor in inputs if tensor.is_leaf))
    gradients = [(leaf, leaf.grad) for leaf in leaves]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=[device.index for device in devices]):
            for parameter, _ in gradients:
                parameter.grad = None
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _pretended(
    model: nn.Module, args: Any, kwargs: dict[str, Any], stack: ExitStack
) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Copies of model and inputs on fake tensors, inside an active FakeTensorMode."""
    on_meta = any(tensor.device.type == "meta" for tensor in (*model.parameters(), *model.buffers()))
    mode = nullcontext() if on_meta else FakeTensorMode(allow_non_fake_inputs=False)

    def fake(tensor: Tensor) -> Tensor:
        if on_meta:
            return tensor.detach().to("meta").requires_grad_(tensor.requires_grad)
        pretended: Tensor = mode.from_tensor(tensor)  # type: ignore[union-attr]
        if pretended.is_leaf:
            pretended.grad = None  # else the new gradient would be added to it
        return pretended

    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        memo[id(tensor)] = tensor if tensor.device.type == "meta" else fake(tensor)
    pretended = copy.deepcopy(model, memo)
    for parameter in pretended.parameters():
        parameter.grad = None
    stack.enter_context(mode)
    return pretended, tree_map_only(Tensor, fake, args), tree_map_only(Tensor, fake, kwargs)
