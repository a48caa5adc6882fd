"""Calls operators one by one under the allocator's account: what each asks for and gives back inside.

Run as `python -m torchtally.profiler.prediction.isolated`, in a process of its own that may crash without harm. The
first line of its input has the settings, each further one the form of a call, as JSON; each call is answered by one
line.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, TextIO

import torch
from torch import Tensor

from ..capture.allocator import Range, account
from ..capture.entries import Entry, Moment, Request
from ..capture.forms import Form, from_json, layout_of
from ..capture.tensors import tensors_in
from ..precision import set_tf32
from .inside import Inside

_CALL = "torchtally.call"


def observe(form: Form) -> Inside:
    """Make the call and read the account. Raises whatever the operator raises."""
    operator, arguments, keywords = _operator(form[1]), _values(form[2]), _keywords(form[3])
    with torch.set_grad_enabled(form[4]), account(_device(form)) as kept, Range(_CALL):
        result = operator(*arguments, **keywords)
    tensors = tensors_in(result)
    inside = read_account(kept.entries, [_pointer(tensor) for tensor in tensors])
    return replace(inside, layouts=tuple(layout_of(tensor) for tensor in tensors))


def read_account(entries: Iterable[Entry], results: Sequence[int]) -> Inside:
    """What happened inside the call, from the account; `results` are the addresses of what it returned.

    Blocks are in the order in which they were opened; those that were opened before the operator began are numbers.
    """
    sizes: list[int] = []
    events: list[int] = []
    numbers: list[int] = []
    live: dict[int, int] = {}
    inside = begun = False
    for entry in entries:
        if isinstance(entry, Moment):
            if entry.span.name == _CALL:
                inside = entry.what == "begins"
            else:
                begun = begun or inside
        elif isinstance(entry, Request) and inside and entry.bytes > 0:
            if not begun:
                numbers.append(len(sizes))
            live[entry.pointer] = len(sizes)
            sizes.append(entry.bytes)
            events.append(len(sizes))
        elif isinstance(entry, Request) and inside and entry.pointer in live:
            events.append(-1 - live.pop(entry.pointer))
    return Inside(tuple(sizes), tuple(events), tuple(live.get(pointer) for pointer in results), tuple(numbers))


def _device(form: Form) -> str:
    """Where the call allocates: on the first device that is not the CPU."""
    kinds = [part.partition(":")[0] for part in _devices(form)]
    return next((kind for kind in kinds if kind != "cpu"), "cpu")


def _devices(form: Any) -> Iterator[str]:
    if isinstance(form, tuple) and form[:1] in (("tensor",), ("device",)):
        yield form[-1]
    elif isinstance(form, tuple):
        for part in form:
            yield from _devices(part)


def _pointer(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


# Forms into values ----------------------------------------------------------------------------------------------------


def _operator(name: str) -> Any:
    namespace, operator, overload = name.split(".")
    if not hasattr(getattr(torch.ops, namespace), operator):
        importlib.import_module(namespace)  # torchvision registers its own when it is imported
    return getattr(getattr(getattr(torch.ops, namespace), operator), overload)


def _values(forms: Form) -> list[Any]:
    return [_value(form) for form in forms]


def _keywords(forms: Form) -> dict[str, Any]:
    return {name: _value(form) for _, name, form in forms}


def _value(form: Form) -> Any:
    kind, *rest = form
    match kind:
        case "tensor":
            return _tensor(*rest)
        case "result":
            call, position = rest
            with torch.set_grad_enabled(call[4]):
                return tensors_in(_operator(call[1])(*_values(call[2]), **_keywords(call[3])))[position]
        case "list":
            return _values(tuple(rest))
        case "none":
            return None
        case "dtype" | "layout" | "memory_format":
            return getattr(torch, rest[0])
        case "device":
            return torch.device(rest[0])
        case "generator":
            return torch.default_generator
        case _:
            return rest[0]


def _tensor(dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], device: str) -> Tensor:
    """Indices are 0, which is valid anywhere; other numbers one half, which is a probability too."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    kind: torch.dtype = getattr(torch, dtype)
    filled = torch.full((extent if 0 not in shape else 0,), 0.5 if kind.is_floating_point else 0, device=device)
    return filled.to(kind).as_strided(shape, strides)


# The process ----------------------------------------------------------------------------------------------------------


def _apply(settings: dict[str, Any]) -> None:
    torch.set_num_threads(settings["threads"])
    torch.use_deterministic_algorithms(settings["deterministic"])
    torch.backends.mkldnn.enabled = settings["mkldnn"]
    torch.backends.cudnn.benchmark = settings["cudnn_benchmark"]
    torch.backends.cudnn.deterministic = settings["cudnn_deterministic"]
    set_tf32(settings["tf32"])


def _answer(form: Form) -> dict[str, Any]:
    try:
        return asdict(observe(form))
    except Exception as error:  # whatever an operator raises is an answer
        words = str(error).splitlines()
        return {"why": f"{type(error).__name__}: {words[0] if words else ''}"[:200]}


def main(answers: TextIO) -> None:
    """Answer until the input ends."""
    _apply(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        print(json.dumps(_answer(from_json(json.loads(line)))), file=answers, flush=True)


if __name__ == "__main__":
    # Libraries may print: what they say goes where nobody takes it for an answer.
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with suppress(BrokenPipeError, KeyboardInterrupt):
        main(kept)
