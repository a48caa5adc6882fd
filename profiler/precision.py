"""TF32 on CUDA: whether products of float32 may be rounded to it, read and set for a while.

PyTorch has two sets of switches: `fp32_precision`, where there is one, and the older `allow_tf32`, which later versions
refuse to read once the two have been used side by side. The newer one is taken where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

_NEW, _OLD = "fp32_precision", "allow_tf32"
TF32 = "tf32"  # as a ceiling of its own, and as the newer switch has it


def tf32() -> dict[str, bool]:
    """Whether `matmul` and `convolution` of float32 run as TF32 where the device can."""
    return {name: getattr(switch, key) in (TF32, True) for name, (switch, key) in _switches().items()}


def set_tf32(allowed: Mapping[str, bool]) -> None:
    """Each switch, as `tf32` has read them."""
    for name, (switch, key) in _switches().items():
        setattr(switch, key, allowed[name] if key == _OLD else TF32 if allowed[name] else "ieee")


@contextmanager
def with_tf32(allowed: bool) -> Iterator[None]:
    """For a block, in both; afterwards as before."""
    switches = list(_switches().values())
    before = [getattr(switch, key) for switch, key in switches]
    try:
        set_tf32(dict.fromkeys(_switches(), allowed))
        yield
    finally:
        for (switch, key), value in zip(switches, before, strict=True):
            setattr(switch, key, value)


def _switches() -> dict[str, tuple[Any, str]]:
    """The object and the name of its attribute."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    if hasattr(cudnn, "conv") and hasattr(cudnn.conv, _NEW):
        return {"matmul": (matmul, _NEW), "convolution": (cudnn.conv, _NEW)}
    return {"matmul": (matmul, _OLD), "convolution": (cudnn, _OLD)}
