"""What a convolution needs for itself on CPU: PyTorch's own kernel, or oneDNN's, as watched with one thread, float32,
AVX-512 and AVX2. N images of H x W, C_in and C_out channels, a kernel of k x k.

PyTorch's own unfolds the input into columns (N * C_in*k*k * H*W numbers; a 1 x 1 kernel needs none) and multiplies.

oneDNN's kernels want channels in blocks: source, weight and destination are copied into such a layout, their channels
rounded up, and the result is copied back. Where C_out is rounded up the bias is too, in a scratchpad of its own. Fewer
channels than a block in the source stay as they are in forward; in the weight's gradient only an image's do, else
blocks of eight serve.
"""

from __future__ import annotations

from math import prod

from ..convolution import Conv2d
from ..tensor import TensorSpec
from .calls import NoRuleError
from .script import Script, script

SCRATCHPAD_ALIGNMENT = 128
SMALL_INPUT = 20_480  # elements of a single image, up to which PyTorch's own kernel is quicker
SMALL_BATCH = 16  # below which it is for 1 x 1 kernels, with one thread
NARROW_BLOCK = 8
IMAGE_CHANNELS = 3

IN, OUT = "+source +weight +destination -weight -source", "-destination"
DATA = "+destination +weight +source -weight -destination =input -source"
WEIGHT = "+destination +source +weight +scratchpad +bias -scratchpad -source -destination =bias =weight -weight -bias"


def forward(layer: Conv2d, x: TensorSpec, block: int) -> Script:
    """Result "output". Raises NoRuleError for a convolution of a kind that was not watched."""
    _check(layer, x)
    if _is_native(layer, x):
        return script("+columns =output -columns", columns=_columns(layer, x))
    few = layer.groups == 1 and not _is_pointwise(layer) and layer.in_channels < block
    layout = _layout(layer, x, 1 if few else block, block) | ({"source": 0} if few else {})
    return script(f"+scratchpad {IN} -scratchpad =output {OUT}", **layout)


def backward(layer: Conv2d, x: TensorSpec, block: int, *, flows: bool) -> Script:
    """Results "input" (where the gradient `flows` on), "bias", "weight". Raises NoRuleError as `forward` does."""
    _check(layer, x)
    if _is_native(layer, x):
        return script("=input =bias =weight +columns -columns", columns=_columns(layer, x))
    weight = _weight_layout(layer, x, block)
    if not flows:
        return script(WEIGHT, **weight)
    return script(DATA, **_layout(layer, x, block, block)).then(script(WEIGHT, **weight))


def _weight_layout(layer: Conv2d, x: TensorSpec, block: int) -> dict[str, int]:
    if layer.groups > 1:
        return _layout(layer, x, block, block) | {"scratchpad": 0}
    if layer.in_channels >= block or _is_pointwise(layer):
        return _layout(layer, x, block, block)
    if _is_image(layer.in_channels, block):
        return _layout(layer, x, 1, block) | {"source": 0}
    return _layout(layer, x, NARROW_BLOCK, NARROW_BLOCK)


def _is_image(channels: int, block: int) -> bool:
    """Whether the weight's gradient has a kernel that reads a source of so few channels as it is."""
    return channels == IMAGE_CHANNELS if block == NARROW_BLOCK else channels <= IMAGE_CHANNELS


def _layout(layer: Conv2d, x: TensorSpec, source_block: int, block: int) -> dict[str, int]:
    """Bytes of each copy, with C_in and C_out rounded up to their blocks."""
    y, size = layer.output(x), x.itemsize
    c_in, c_out = _rounded_up(layer.in_channels, source_block), _rounded_up(layer.out_channels, block)
    per_output = prod(layer.kernel) * (c_in if layer.groups == 1 else 1)
    return {
        "source": x.nbytes // layer.in_channels * c_in,
        "weight": c_out * per_output * size,
        "destination": y.nbytes // layer.out_channels * c_out,
        "bias": layer.out_channels * size if layer.bias else 0,
        "scratchpad": c_out * size + SCRATCHPAD_ALIGNMENT if layer.bias and c_out > layer.out_channels else 0,
    }


def _rounded_up(channels: int, block: int) -> int:
    return -(-channels // block) * block


def _columns(layer: Conv2d, x: TensorSpec) -> int:
    """N * C_in*k*k * H_out*W_out numbers."""
    if _is_pointwise(layer):
        return 0
    positions = layer.output(x).elements // layer.out_channels
    return positions * layer.in_channels * prod(layer.kernel) * x.itemsize


def _is_pointwise(layer: Conv2d) -> bool:
    return set(layer.kernel) == {1}


def _is_native(layer: Conv2d, x: TensorSpec) -> bool:
    """PyTorch's choice of kernel: `use_mkldnn` in ATen's Convolution.cpp."""
    if layer.groups > 1:
        return False
    if _is_pointwise(layer) and x.shape[0] < SMALL_BATCH:
        return True
    return x.shape[0] == 1 and min(layer.kernel) <= 3 and x.elements <= SMALL_INPUT


def _check(layer: Conv2d, x: TensorSpec) -> None:
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    plain = {layer.stride, layer.dilation} == {(1, 1)} and layer.padding_mode == "zeros" and len(x.shape) == 4
    if not plain or x.dtype != "float32" or not (layer.groups == 1 or (depthwise and layer.kernel == (3, 3))):
        raise NoRuleError(
            f"the workspace is known of float32 convolutions with stride 1, dense or 3x3 depthwise, not of {layer} on "
            f"{x.dtype} {x.shape}; without a backend the step's own part is still exact"
        )
