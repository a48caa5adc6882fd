"""What hypothesis draws, and how much of it. All is small: the oracle does each product in plain Python."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

settings.register_profile(
    "oracle",
    deadline=None,
    derandomize="CI" in os.environ,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def examples(count: int) -> settings:
    """The oracle's profile with that many examples; ORACLE_EXAMPLES multiplies it for a longer search."""
    times = float(os.environ.get("ORACLE_EXAMPLES", "1"))
    return settings(settings.get_profile("oracle"), max_examples=max(1, round(count * times)))


@dataclass(frozen=True)
class Convolution:
    """Settings of one convolution and the shape it is given, without batch where `batch` is None."""

    dimensions: int
    batch: int | None
    in_channels: int
    out_channels: int
    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (*(() if self.batch is None else (self.batch,)), self.in_channels, *self.sizes)

    def settings(self, *, transposed: bool = False) -> dict[str, object]:
        """As nn.ConvNd and theory name them, all but the channels and dtype."""
        chosen: dict[str, object] = {
            "kernel_size": self.kernel,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "bias": self.bias,
        }
        return chosen | ({"output_padding": self.output_padding} if transposed else {})


# The largest kernel, stride, dilation and image by number of dimensions.
TINY = {1: (4, 3, 3, 9), 2: (3, 3, 3, 6), 3: (2, 2, 2, 4)}
MEDIUM = {1: (9, 5, 4, 60), 2: (6, 4, 3, 24), 3: (4, 3, 2, 9)}


@st.composite
def convolutions(
    draw: st.DrawFn,
    *,
    transposed: bool = False,
    limits: dict[int, tuple[int, int, int, int]] = TINY,
    width: int = 2,
) -> Convolution:
    """Uneven kernels, strides, images; groups, depthwise too; "same" and "valid"; no batch, or of 0, 1, 2."""
    dimensions = draw(st.integers(1, 3))
    most_kernel, most_stride, most_dilation, most_size = limits[dimensions]

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(dimensions))

    groups = draw(st.integers(1, 3 if limits is TINY else 6))
    depthwise = draw(st.booleans())
    in_channels = groups * (1 if depthwise else draw(st.integers(1, width)))
    out_channels = groups * draw(st.integers(1, width))
    kernel, dilation, sizes = each(1, most_kernel), each(1, most_dilation), each(1, most_size)
    stride = each(1, most_stride)
    padding: tuple[int, ...] | str = each(0, most_kernel)
    if not transposed:
        padding = draw(st.sampled_from([padding, padding, "same", "valid"]))
    if padding == "same":
        stride = (1,) * dimensions
    output_padding = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    return Convolution(
        dimensions=dimensions,
        batch=draw(st.sampled_from([None, 0, 1, 2, 2])),
        in_channels=in_channels,
        out_channels=out_channels,
        sizes=sizes,
        kernel=kernel,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        dtype=draw(st.sampled_from(["float32", "float64"])),
    )
