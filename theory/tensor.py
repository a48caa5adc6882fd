"""What theory knows of a tensor: its shape and its element type. No data, no device, no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

# Bytes per element, by PyTorch's own dtype names without the "torch." prefix.
ITEMSIZE = {
    "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "uint16": 2, "uint32": 4, "uint64": 8,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
    "complex32": 4, "complex64": 8, "complex128": 16,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's shape and dtype.

    `shape` is a tuple of non-negative integers, outermost dimension first (N, C, H, W for images);
    `dtype` is a name from `ITEMSIZE`. Raises ValueError for a negative dimension or an unknown dtype.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ITEMSIZE:
            raise ValueError(f"unknown dtype {self.dtype!r}; expected one of {', '.join(ITEMSIZE)}")
        if any(size < 0 for size in self.shape):
            raise ValueError(f"a tensor's dimensions must be >= 0, got {self.shape}")

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar (empty shape)."""
        return prod(self.shape)

    @property
    def is_floating(self) -> bool:
        """Whether it can have a gradient: real or complex floating-point numbers."""
        return self.dtype.startswith(("float", "bfloat", "complex"))

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return ITEMSIZE[self.dtype]

    @property
    def nbytes(self) -> int:
        """Elements times bytes per element: the payload, without allocator rounding."""
        return self.elements * self.itemsize

    def with_shape(self, *shape: int) -> TensorSpec:
        """The same dtype in another shape."""
        return replace(self, shape=shape)

    def with_dtype(self, dtype: str) -> TensorSpec:
        """The same shape in another dtype."""
        return replace(self, dtype=dtype)
