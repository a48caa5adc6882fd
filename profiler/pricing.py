"""Operator -> formula: one literal table. The other side of the comparison, theory, prices layers; neither imports
the other.

An operator is looked up as `aten.add.Tensor`, then without its overload as `aten.add`, then, where it works in place,
as the same without the underscore. It is priced, or on the free list, or unpriced: named, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from . import formulas as f
from .errors import PricingError
from .formulas import Formula, Price
from .records import Signature

# Views, allocation and metadata: these compute nothing and move nothing.
FREE = frozenset(
    """
    aten.alias aten.as_strided aten.chunk aten.detach aten.diagonal aten.expand aten.expand_as aten.imag aten.lift
    aten.lift_fresh aten.movedim aten.narrow aten.permute aten.real aten.reshape_alias aten._reshape_alias aten.select
    aten.slice aten.split aten.split_with_sizes aten.squeeze aten.swapaxes aten.t aten.transpose aten.unbind
    aten.unfold aten.unsafe_split aten.unsqueeze aten.view aten.view_as aten.view_as_complex aten.view_as_real
    aten._unsafe_view aten._conj aten._neg_view aten.resolve_conj aten.resolve_neg
    aten.empty aten.empty_like aten.empty_strided aten.new_empty aten.new_empty_strided aten.empty_permuted
    aten.set_ aten.resize_ aten.is_same_size aten.sym_size aten.sym_stride aten.sym_numel aten.sym_storage_offset
    aten.is_contiguous aten.is_pinned aten.dim aten.size aten.stride aten.numel aten.storage_offset
    aten._version aten._has_compatible_shallow_copy_type aten._nested_tensor_from_mask_left_aligned
    aten.sym_is_contiguous aten.is_strides_like_format aten.is_non_overlapping_and_dense aten.is_nonzero
    aten._use_cudnn_ctc_loss aten._cufft_get_plan_cache_size
    prim.device prim.layout
    profiler._record_function_enter profiler._record_function_enter_new profiler._record_function_exit
    """.split()
)

# Data is made, moved, compared as integers, or drawn at random: bytes, but no floating-point arithmetic.
_MOVED = """
    aten.arange aten.cat aten.clone aten.constant_pad_nd aten.copy aten.copy_ aten.embedding aten.eye aten.fill
    aten.flip aten.full aten.full_like aten.gather aten.index aten.index_copy aten.index_fill aten.index_put
    aten.index_select aten.linspace aten.masked_fill aten.masked_scatter aten.masked_select aten.new_full
    aten.new_ones aten.new_zeros aten.nonzero aten.one_hot aten.ones aten.ones_like aten.pixel_shuffle
    aten.pixel_unshuffle aten.channel_shuffle aten.native_channel_shuffle aten.put aten.reflection_pad1d
    aten.reflection_pad2d aten.reflection_pad3d aten.repeat aten.replication_pad1d aten.replication_pad2d
    aten.replication_pad3d aten.roll aten.rot90 aten.scalar_tensor aten.scatter aten.select_scatter
    aten.slice_scatter aten.as_strided_scatter aten.diagonal_scatter aten.select_backward aten.slice_backward
    aten.diagonal_backward aten.unfold_backward aten.stack aten.take aten.to _to_copy aten._to_copy aten.tril
    aten.triu aten.tril_indices aten.triu_indices aten.where aten.zero aten.zeros aten.zeros_like
    aten._local_scalar_dense aten.item aten._assert_async aten._assert_tensor_metadata aten.im2col aten.col2im
    aten.max_unpool2d aten.max_unpool3d aten.view_copy aten.split_copy aten.repeat_interleave aten._pin_memory
    aten.contiguous aten.sort aten.topk aten.argsort aten.unique_consecutive aten._unique2 aten.bincount
    aten.searchsorted aten.bucketize aten.randperm aten.bernoulli aten.normal aten.uniform aten.rand aten.randn
    aten.rand_like aten.randn_like aten.randint aten.randint_like aten.exponential aten.multinomial
    aten.masked_scatter_backward aten.value_selecting_reduction_backward aten.reflection_pad2d_backward
    aten.reflection_pad1d_backward aten.replication_pad2d_backward aten._efficientzerotensor
    aten._fused_moving_avg_obs_fq_helper aten.upsample_nearest1d aten.upsample_nearest2d aten.upsample_nearest3d
    torchvision.nms
""".split()

# One per output element, whatever the function.
_ELEMENTWISE = """
    aten.abs aten.acos aten.acosh aten.add aten.angle aten.asin aten.asinh aten.atan aten.atan2 aten.atanh
    aten.bitwise_and aten.bitwise_not aten.bitwise_or aten.bitwise_xor aten.ceil aten.celu aten.clamp aten.clamp_max
    aten.clamp_min aten.complex aten.conj_physical aten.cos aten.cosh aten.deg2rad aten.digamma aten.div aten.elu
    aten.eq aten.erf aten.erfc aten.erfinv aten.exp aten.exp2 aten.expm1 aten.floor aten.floor_divide aten.fmax
    aten.fmin aten.fmod aten.frac aten.ge aten.gelu aten.gt aten.hardshrink aten.hardsigmoid aten.hardswish
    aten.hardtanh aten.heaviside aten.hypot aten.isfinite aten.isinf aten.isnan aten.le aten.leaky_relu aten.lgamma
    aten.log aten.log10 aten.log1p aten.log2 aten.log_sigmoid_forward aten.logaddexp aten.logical_and aten.logical_not
    aten.logical_or aten.logical_xor aten.logit aten.lt aten.maximum aten.minimum aten.mish aten.mul aten.nan_to_num
    aten.ne aten.neg aten._prelu_kernel aten.pow aten.rad2deg aten.reciprocal aten.relu aten.relu6 aten.remainder
    aten.round aten.rrelu_with_noise aten.rsqrt aten.rsub aten.selu aten.sgn aten.sigmoid aten.sign aten.signbit
    aten.silu aten.sin aten.sinc aten.sinh aten.softplus aten.softshrink aten.special_erfcx aten.special_i0e aten.sqrt
    aten.square aten.sub aten.tan aten.tanh aten.threshold aten.trunc aten.xlogy aten.polar aten.view_as_complex_copy
    aten.elu_backward aten.gelu_backward aten.hardshrink_backward aten.hardsigmoid_backward aten.hardswish_backward
    aten.hardtanh_backward aten.leaky_relu_backward aten.log_sigmoid_backward aten.logit_backward aten.mish_backward
    aten._prelu_kernel_backward aten.rrelu_with_noise_backward aten.sigmoid_backward aten.silu_backward
    aten.softplus_backward aten.softshrink_backward aten.tanh_backward aten.threshold_backward
    aten.native_dropout aten.native_dropout_backward
    aten.cumsum aten.cumprod aten.logcumsumexp aten.cummax aten.cummin
    aten.huber_loss aten.l1_loss aten.mse_loss aten.smooth_l1_loss aten.binary_cross_entropy aten.soft_margin_loss
    aten.affine_grid_generator
""".split()

# One per element of the first argument.
_REDUCTIONS = """
    aten.sum aten.mean aten.amax aten.amin aten.aminmax aten.max aten.min aten.argmax aten.argmin aten.prod aten.all
    aten.any aten.count_nonzero aten.nansum aten.median aten.mode aten.kthvalue aten.trace
""".split()

_TABLE: dict[str, Formula] = {
    # products
    "aten.mm": f.mm,
    "aten.mv": f.mm,
    "aten.dot": f.mm,
    "aten.vdot": f.mm,
    "aten.addmm": f.addmm,
    "aten._addmm_activation": f.addmm,
    "aten.addmv": f.addmm,
    "aten.addr": f.outer,
    "aten.bmm": f.bmm,
    "aten.baddbmm": f.baddbmm,
    "aten.linear": f.linear,
    "aten.mkldnn_linear": f.linear,
    "aten.linear_backward": f.linear_backward,
    "mkldnn._linear_pointwise": f.linear,
    "aten.convolution": f.convolution,
    "aten._convolution": f.convolution,
    "aten.convolution_overrideable": f.convolution,
    "aten.mkldnn_convolution": f.convolution_without_transpose,
    "aten.cudnn_convolution": f.convolution_without_transpose,
    "aten._conv_depthwise2d": f.convolution_without_transpose,
    "aten.conv_depthwise3d": f.convolution_without_transpose,
    "aten.slow_conv3d": f.convolution_without_transpose,
    "aten.thnn_conv2d": f.convolution_without_transpose,
    "mkldnn._convolution_pointwise": f.convolution_without_transpose,
    "aten.convolution_backward": f.convolution_backward,
    # normalization and softmax: 5 per element, both ways
    "aten.native_batch_norm": f.per_input(5),
    "aten._native_batch_norm_legit": f.per_input(5),
    "aten._native_batch_norm_legit_no_training": f.per_input(5),
    "aten._batch_norm_with_update": f.per_input(5),
    "aten._batch_norm_no_update": f.per_input(5),
    "aten.cudnn_batch_norm": f.per_input(5),
    "aten.miopen_batch_norm": f.per_input(5),
    "aten.native_batch_norm_backward": f.per_input(5),
    "aten.batch_norm_backward": f.per_input(5),
    "aten.cudnn_batch_norm_backward": f.per_input(5),
    "aten.miopen_batch_norm_backward": f.per_input(5),
    "aten.native_layer_norm": f.per_input(5),
    "aten.native_layer_norm_backward": f.per_input(5),
    "aten._fused_rms_norm": f.per_input(5),
    "aten._fused_rms_norm_backward": f.per_input(5),
    "aten.native_group_norm": f.per_input(5),
    "aten.native_group_norm_backward": f.per_input(5),
    "aten._softmax": f.per_input(5),
    "aten._log_softmax": f.per_input(5),
    "aten._safe_softmax": f.per_input(5),
    "aten._masked_softmax": f.per_input(5),
    "aten._softmax_backward_data": f.per_input(5),
    "aten._log_softmax_backward_data": f.per_input(5),
    "aten._masked_softmax_backward": f.per_input(5),
    # windows
    "aten.max_pool1d": f.pooling(1),
    "aten.max_pool2d_with_indices": f.pooling(2),
    "aten.max_pool3d_with_indices": f.pooling(3),
    "aten.mkldnn_max_pool2d": f.pooling(2),
    "aten.avg_pool1d": f.pooling(1),
    "aten.avg_pool2d": f.pooling(2),
    "aten.avg_pool3d": f.pooling(3),
    "aten.max_pool2d_with_indices_backward": f.pooling_backward(2),
    "aten.max_pool3d_with_indices_backward": f.pooling_backward(3),
    "aten.avg_pool2d_backward": f.pooling_backward(2),
    "aten.avg_pool3d_backward": f.pooling_backward(3),
    "aten._adaptive_avg_pool2d": f.adaptive_pooling(2),
    "aten._adaptive_avg_pool3d": f.adaptive_pooling(3),
    "aten.adaptive_max_pool2d": f.adaptive_pooling(2),
    "aten.adaptive_max_pool3d": f.adaptive_pooling(3),
    "aten._adaptive_avg_pool2d_backward": f.adaptive_pooling_backward(2),
    "aten._adaptive_avg_pool3d_backward": f.adaptive_pooling_backward(3),
    "aten.adaptive_max_pool2d_backward": f.adaptive_pooling_backward(2),
    "aten.adaptive_max_pool3d_backward": f.adaptive_pooling_backward(3),
    # losses
    "aten.nll_loss_forward": f.nll_loss,
    "aten.nll_loss_backward": f.nll_loss_backward,
    "aten.nll_loss2d_forward": f.nll_loss,
    "aten.nll_loss2d_backward": f.nll_loss_backward,
    "aten.mse_loss_backward": f.per_input(1, position=1),
    "aten.huber_loss_backward": f.per_input(1, position=1),
    "aten.smooth_l1_loss_backward": f.per_input(1, position=1),
    "aten.binary_cross_entropy_backward": f.per_input(1, position=1),
    "aten.binary_cross_entropy_with_logits": f.per_input(1),
    # scattered additions: one per element added
    "aten.embedding_dense_backward": f.per_input(1),
    "aten.index_add": f.per_input(1, position=3),
    "aten.scatter_add": f.per_input(1, position=3),
    # two or three operations in one
    "aten.addcmul": f.per_output(2),
    "aten.addcdiv": f.per_output(2),
    "aten.lerp": f.per_output(3),
    "aten.dist": f.per_input(3),
    "aten.var": f.per_input(3),
    "aten.std": f.per_input(3),
    "aten.var_mean": f.per_input(3),
    "aten.std_mean": f.per_input(3),
    "aten.linalg_vector_norm": f.per_input(2),
    "aten.norm": f.per_input(2),
    "aten.logsumexp": f.per_input(3),
    # optimizers over lists of tensors
    "aten._foreach_add": f.per_listed(1),
    "aten._foreach_sub": f.per_listed(1),
    "aten._foreach_mul": f.per_listed(1),
    "aten._foreach_div": f.per_listed(1),
    "aten._foreach_neg": f.per_listed(1),
    "aten._foreach_sqrt": f.per_listed(1),
    "aten._foreach_pow": f.per_listed(1),
    "aten._foreach_reciprocal": f.per_listed(1),
    "aten._foreach_maximum": f.per_listed(1),
    "aten._foreach_addcmul": f.per_listed(2),
    "aten._foreach_addcdiv": f.per_listed(2),
    "aten._foreach_lerp": f.per_listed(3),
    "aten._foreach_norm": f.per_listed(2),
    "aten._foreach_copy": f.nothing,
    "aten._foreach_zero": f.nothing,
    **dict.fromkeys(_MOVED, f.nothing),
    **dict.fromkeys(_ELEMENTWISE, f.per_output(1)),
    **dict.fromkeys(_REDUCTIONS, f.per_input(1)),
}


class Prices(Mapping[str, Formula]):
    """An immutable table of formulas, with the free list.

    `prices[name]` finds a formula by full or short operator name; `price(signature)` applies it.
    """

    def __init__(self, table: Mapping[str, Formula], free: frozenset[str] = FREE) -> None:
        self._table = MappingProxyType(dict(table))
        self.free = free

    def __getitem__(self, name: str) -> Formula:
        for candidate in _names(name):
            if candidate in self._table:
                return self._table[candidate]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def is_free(self, name: str) -> bool:
        """Whether the operator is a view, an allocation, or metadata."""
        return any(candidate in self.free for candidate in _names(name, in_place=False))

    def price(self, signature: Signature) -> Price | None:
        """The cost of one dispatch; None where there is no formula.

        Raises PricingError where the formula does not fit the signature, naming the operator.
        """
        if self.is_free(signature.operator):
            return Price()
        try:
            formula = self[signature.operator]
        except KeyError:
            return None
        try:
            return formula(signature)
        except (TypeError, IndexError, AttributeError, ValueError) as error:
            raise PricingError(
                f"the formula for {signature.operator} does not fit the call {signature.arguments}: {error}"
            ) from error

    def extend(self, formulas: Mapping[Any, Formula]) -> Prices:
        """A new table with more formulas, by operator or its name ("mylib.my_op", "mylib::my_op").

        Raises PricingError for one that has a price, or is on the free list.
        """
        named = {str(operator).replace("::", "."): formula for operator, formula in formulas.items()}
        for name in named:
            if name in self._table or name in self.free:
                raise PricingError(f"{name} already has a price; a formula cannot be replaced, only added")
        return Prices({**self._table, **named}, self.free)


def _names(name: str, in_place: bool = True) -> Iterator[str]:
    """`aten.add_.Tensor` -> itself, `aten.add_`, `aten.add`."""
    yield name
    parts = name.split(".")
    if len(parts) == 3:
        short = ".".join(parts[:2])
        yield short
        if in_place and short.endswith("_"):
            yield short[:-1]


PRICES = Prices(_TABLE)
