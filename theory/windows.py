"""Windows that slide over a feature map: how many fit, how large they are, and what they cost.

One FLOP per element of every window (see `cost`): kernel_1 * ... * kernel_d, also where a window hangs over
padding or the end; adaptive windows, which differ in size, are summed as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from .convolution import Sizes, per_dimension
from .cost import Cost
from .layer import ShapeError
from .parameterless import Parameterless
from .tensor import TensorSpec


def window_count(size: int, *, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """floor((H + 2p - d*(k-1) - 1) / s) + 1, or with ceil; then a last window must start within the input.

    `ceil_mode` keeps a window that hangs over the end, unless it would start in the padding at the right:
    (count - 1) * s >= H + p.
    """
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


def adaptive_elements(size: int, windows: int) -> int:
    """The sum of the sizes of all windows of an adaptive pooling along one dimension.

    Window i covers floor(i*H/O) up to, not including, ceil((i+1)*H/O): neighbours overlap by one where O does
    not divide H, so the sum is at least H. Over several dimensions the sums multiply, as each window is a
    product.
    """
    return sum(-(-(i + 1) * size // windows) - i * size // windows for i in range(windows))


@dataclass(frozen=True, kw_only=True)
class Pooling(Parameterless):
    """What poolings share: (N, C, *spatial) or the same without N; channels stay, spatial sizes change."""

    kind: ClassVar[str] = "pooling"
    dimensions: ClassVar[int]

    def _spatial(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        raise NotImplementedError

    def _sizes_of(self, x: TensorSpec) -> tuple[int, ...]:
        if len(x.shape) not in (self.dimensions + 1, self.dimensions + 2):
            raise ShapeError(
                f"{type(self).__name__} takes (N, C, {self.dimensions} spatial sizes) or the same without N, "
                f"got {x.shape}"
            )
        return x.shape[-self.dimensions :]

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """(N, C, *spatial), in the input's dtype. Raises ShapeError where no window fits."""
        (x,) = inputs
        spatial = self._spatial(self._sizes_of(x))
        if min(spatial) < 1:
            raise ShapeError(
                f"{type(self).__name__} has no output for the input {x.shape}: the output would be {spatial}"
            )
        return x.with_shape(*x.shape[: -self.dimensions], *spatial)

    def input_gradient(self, *inputs: TensorSpec) -> Cost:
        """As many FLOPs as forward, by convention."""
        return self.forward(*inputs)

    def forward(self, *inputs: TensorSpec) -> Cost:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WindowPooling(Pooling):
    """Windows of one size; `stride` is the kernel's unless given; `ceil_mode` keeps an overhanging window."""

    kernel_size: Sizes
    stride: Sizes | None = None
    padding: Sizes = 0
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel_size)
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            sizes = self._sizes(name)
            if min(sizes) < least:
                raise ValueError(f"{name} must be at least {least}, got {sizes}")
            object.__setattr__(self, name, sizes)
        # PyTorch's rule, dilation left aside: otherwise a window could lie in the padding as a whole.
        if any(2 * p > k for p, k in zip(self._sizes("padding"), self._sizes("kernel_size"), strict=True)):
            raise ValueError(f"padding {self.padding} must be at most half of the kernel size {self.kernel_size}")

    def _sizes(self, name: str) -> tuple[int, ...]:
        return per_dimension(getattr(self, name), self.dimensions, name)

    def _dilation(self) -> tuple[int, ...]:
        return (1,) * self.dimensions

    def _spatial(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        settings = zip(
            sizes,
            self._sizes("kernel_size"),
            self._sizes("stride"),
            self._sizes("padding"),
            self._dilation(),
            strict=True,
        )
        return tuple(
            window_count(size, kernel=k, stride=s, padding=p, dilation=d, ceil_mode=self.ceil_mode)
            for size, k, s, p, d in settings
        )

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Output elements times kernel elements."""
        return Cost.elementwise(self.output(*inputs).elements, prod(self._sizes("kernel_size")))


@dataclass(frozen=True, kw_only=True)
class AdaptivePooling(Pooling):
    """As many windows as `output_size` says (None: as the input has), of sizes that differ by one at most."""

    output_size: int | tuple[int | None, ...] | None

    def __post_init__(self) -> None:
        size = self.output_size
        sizes = (size,) * self.dimensions if size is None or isinstance(size, int) else tuple(size)
        if len(sizes) != self.dimensions:
            raise ValueError(f"output_size needs {self.dimensions} values, got {sizes}")
        if any(size is not None and size < 1 for size in sizes):
            raise ValueError(f"output_size must be at least 1, got {sizes}")
        object.__setattr__(self, "output_size", sizes)

    def _windows(self) -> tuple[int | None, ...]:
        assert isinstance(self.output_size, tuple)
        return self.output_size

    def _spatial(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        # An empty dimension has no windows: 0 makes `output` refuse it.
        return tuple(
            0 if size == 0 else size if windows is None else windows
            for size, windows in zip(sizes, self._windows(), strict=True)
        )

    def forward(self, *inputs: TensorSpec) -> Cost:
        """Channels times the elements of all windows: per dimension they add up, and the sums multiply."""
        (x,) = inputs
        windows = self.output(x).shape[-self.dimensions :]
        read = prod(adaptive_elements(size, count) for size, count in zip(self._sizes_of(x), windows, strict=True))
        return Cost.elementwise(prod(x.shape[: -self.dimensions]), read)
