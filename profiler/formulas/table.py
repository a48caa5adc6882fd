"""Operator -> formula: one literal table, and the list of operators that are free.

Theory, the other side of the comparison, prices layers; neither imports the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import algorithms, attention, products, recurrent, windows
from . import elementwise as each
from .price import Formula

# Views, allocation and metadata: these compute nothing and move nothing.
FREE = frozenset(
    """
    aten.alias aten.as_strided aten.as_strided_ aten.chunk aten.detach aten.detach_ aten.diagonal aten.expand
    aten.expand_as aten.imag aten.lift aten.lift_fresh aten.movedim aten.narrow aten.permute aten.real
    aten._reshape_alias aten.select aten.slice aten.split aten.split_with_sizes aten.squeeze aten.squeeze_
    aten.swapaxes aten.t aten.t_ aten.transpose aten.transpose_ aten.unbind aten.unfold aten.unsafe_split
    aten.unsafe_split_with_sizes aten.unsqueeze aten.unsqueeze_ aten.view aten.view_as aten.view_as_complex
    aten.view_as_real aten._unsafe_view aten._conj aten._neg_view aten._fw_primal aten._make_dual aten.values
    aten.indices aten._values aten._indices aten.crow_indices aten.col_indices aten.ccol_indices aten.row_indices
    aten.empty aten.empty_like aten.empty_strided aten.new_empty aten.new_empty_strided aten.empty_permuted
    aten.set_ aten.resize_ aten.resize_as_ aten.is_same_size aten.sym_size aten.sym_stride aten.sym_numel
    aten.sym_storage_offset aten.is_contiguous aten.is_pinned aten.dim aten.size aten.stride aten.numel
    aten.storage_offset aten._version aten._has_compatible_shallow_copy_type aten._has_same_storage_numel
    aten.sym_is_contiguous aten.is_strides_like_format aten.is_non_overlapping_and_dense aten.is_coalesced
    aten.is_set_to aten.dense_dim aten.sparse_dim aten._nnz aten._dimI aten._dimV aten.record_stream
    aten._use_cudnn_ctc_loss aten._use_miopen_ctc_loss aten._cufft_get_plan_cache_size aten._fused_sdp_choice
    aten.sym_constrain_range aten.sym_constrain_range_for_size aten._assert_tensor_metadata aten._assert_scalar
    prim.device prim.layout
    profiler._record_function_enter profiler._record_function_enter_new profiler._record_function_exit
    """.split()
)

# Data is made, moved, drawn at random, sorted or compared as integers: bytes, but no floating-point arithmetic.
_MOVED = """
    aten.alias_copy aten.arange aten.as_strided_copy aten.as_strided_scatter aten.block_diag aten.cat aten.clone
    aten._chunk_cat aten.constant_pad_nd aten.contiguous aten._conj_copy aten.copy aten.copy_ aten._copy_from
    aten.detach_copy aten.diag_embed aten.diagonal_backward aten.diagonal_copy aten.diagonal_scatter
    aten._efficientzerotensor aten.embedding aten.expand_copy aten.eye aten.fill aten.flip aten.full aten.full_like
    aten.gather aten.index aten.index_copy aten.index_fill aten.index_select aten.isin aten._lazy_clone
    aten.lift_fresh_copy aten.linspace aten.logspace aten.lu_unpack aten.masked_fill aten.masked_scatter
    aten.masked_scatter_backward aten.masked_select aten.narrow_copy aten._neg_view_copy aten.new_full aten.new_ones
    aten.new_zeros aten.nonzero aten.nonzero_static aten.ones aten.ones_like aten.permute_copy aten._pin_memory
    aten.range aten.repeat aten._reshape_alias_copy aten._reshape_copy aten.roll aten.rot90 aten.scalar_tensor
    aten.select_backward aten.select_copy aten.select_scatter aten.slice_backward aten.slice_copy
    aten.slice_scatter aten.split_copy aten.split_with_sizes_copy aten.squeeze_copy aten._stack aten.stack aten.t_copy
    aten.take aten._to_copy aten._to_dense aten.transpose_copy aten.tril aten.tril_indices aten.triu
    aten.triu_indices aten.unbind_copy aten._unsafe_index aten._unsafe_masked_index aten.unfold_copy
    aten.unsqueeze_copy aten.view_as_complex_copy aten.view_as_real_copy aten.view_copy aten.where aten.zero
    aten.zeros aten.zeros_like
    aten._mkldnn_reshape aten._mkldnn_transpose aten.mkldnn_reorder_conv2d_weight aten.mkldnn_reorder_conv3d_weight
    aten.to_mkldnn aten._cudnn_rnn_flatten_weight aten._pack_padded_sequence
    aten._padded_dense_to_jagged_forward aten._jagged_to_padded_dense_forward aten.to_padded_tensor
    aten._nested_tensor_from_mask aten._nested_tensor_from_mask_left_aligned aten._nested_from_padded
    aten.channel_shuffle aten.native_channel_shuffle aten.pixel_shuffle aten.pixel_unshuffle aten.im2col
    aten.max_unpool2d aten.max_unpool3d aten.reflection_pad1d aten.reflection_pad2d aten.reflection_pad3d
    aten.replication_pad1d aten.replication_pad2d aten.replication_pad3d aten.upsample_nearest1d
    aten.upsample_nearest2d aten.upsample_nearest3d aten._upsample_nearest_exact1d aten._upsample_nearest_exact2d
    aten._upsample_nearest_exact3d
    aten._assert_async aten._functional_assert_async aten.equal aten._is_all_true aten._is_any_true aten.item
    aten._local_scalar_dense aten._linalg_check_errors aten.is_nonzero
    aten.argsort aten.bincount aten.bucketize aten.one_hot aten.repeat_interleave aten.searchsorted aten.sort
    aten.topk aten.unique_consecutive aten.unique_dim aten._unique aten._unique2 aten.unique_dim_consecutive
    aten.bernoulli aten.binomial aten.cauchy aten._cudnn_init_dropout_state aten.exponential aten.geometric
    aten.log_normal aten.multinomial aten.normal aten.normal_functional aten.poisson aten.rand aten.rand_like
    aten.randint aten.randint_like aten.randn aten.randn_like aten.random aten.randperm aten.uniform
    aten._sample_dirichlet aten._standard_gamma
    aten._foreach_clone aten._foreach_copy aten._foreach_zero
""".split()

# One per output element, whatever the function.
_ELEMENTWISE = """
    aten.abs aten.acos aten.acosh aten.add aten.angle aten.asin aten.asinh aten.atan aten.atan2 aten.atanh
    aten.bitwise_and aten.bitwise_left_shift aten.bitwise_not aten.bitwise_or aten.bitwise_right_shift
    aten.bitwise_xor aten.ceil aten.celu aten.clamp aten.clamp_max aten.clamp_min aten.complex aten.conj_physical
    aten._conj_physical aten.copysign aten.cos aten.cosh aten.deg2rad aten.digamma aten.elu aten.eq aten.erf
    aten.erfc aten.erfinv aten.exp aten.exp2 aten.expm1 aten.floor aten.floor_divide aten.fmax aten.fmin aten.fmod
    aten.frac aten.frexp aten.gcd aten.ge aten.gelu aten.glu aten.gt aten.hardshrink aten.hardsigmoid
    aten.hardswish aten.hardtanh aten.heaviside aten.hypot aten.i0 aten.igamma aten.igammac aten.isfinite aten.isinf
    aten.isnan aten.isneginf aten.isposinf aten.lcm aten.ldexp aten.le aten.leaky_relu aten.lgamma aten.log
    aten.log10 aten.log1p aten.log2 aten.log_sigmoid_forward aten.logaddexp aten.logaddexp2 aten.logical_and
    aten.logical_not aten.logical_or aten.logical_xor aten.logit aten.lt aten._masked_scale aten.max.other
    aten.maximum aten.min.other aten.minimum aten.mish aten.mvlgamma aten.nan_to_num aten.ne aten.neg
    aten.nextafter aten.polar aten.polygamma aten.pow aten._prelu_kernel aten.rad2deg aten.reciprocal aten.relu
    aten.relu6 aten.remainder aten.round aten.rrelu_with_noise aten.rrelu_with_noise_functional aten.rsqrt
    aten.rsub aten.selu aten.sgn aten.sigmoid aten.sign aten.signbit aten.silu aten.sin aten.sinc aten.sinh
    aten.softplus aten.softshrink aten.sqrt aten.square aten.sub aten.tan aten.tanh aten.threshold aten.trunc
    aten.xlogy
    aten.special_airy_ai aten.special_bessel_j0 aten.special_bessel_j1 aten.special_bessel_y0 aten.special_bessel_y1
    aten.special_chebyshev_polynomial_t aten.special_chebyshev_polynomial_u aten.special_chebyshev_polynomial_v
    aten.special_chebyshev_polynomial_w aten.special_entr aten.special_erfcx aten.special_hermite_polynomial_h
    aten.special_hermite_polynomial_he aten.special_i0e aten.special_i1 aten.special_i1e
    aten.special_laguerre_polynomial_l aten.special_legendre_polynomial_p aten.special_log_ndtr
    aten.special_modified_bessel_i0 aten.special_modified_bessel_i1 aten.special_modified_bessel_k0
    aten.special_modified_bessel_k1 aten.special_ndtri aten.special_scaled_modified_bessel_k0
    aten.special_scaled_modified_bessel_k1 aten.special_shifted_chebyshev_polynomial_t
    aten.special_shifted_chebyshev_polynomial_u aten.special_shifted_chebyshev_polynomial_v
    aten.special_shifted_chebyshev_polynomial_w aten.special_spherical_bessel_j0 aten.special_xlog1py
    aten.special_zeta
    aten.elu_backward aten.gelu_backward aten.glu_backward aten.hardshrink_backward aten.hardsigmoid_backward
    aten.hardswish_backward aten.hardtanh_backward aten.leaky_relu_backward aten.log_sigmoid_backward
    aten.logit_backward aten.mish_backward aten._prelu_kernel_backward aten.rrelu_with_noise_backward
    aten.sigmoid_backward aten.silu_backward aten.softplus_backward aten.softshrink_backward aten.tanh_backward
    aten.threshold_backward
    aten.native_dropout aten.native_dropout_backward aten._fused_dropout
    aten._cummax_helper aten.cummax aten._cummin_helper aten.cummin aten.cumprod aten.cumsum aten.logcumsumexp
    aten._logcumsumexp aten._dirichlet_grad aten._standard_gamma_grad aten._amp_update_scale
""".split()

# One per element of the first argument.
_REDUCTIONS = """
    aten.all aten.amax aten.amin aten.aminmax aten._aminmax aten.any aten.argmax aten.argmin aten.count_nonzero
    aten.histc
    aten.kthvalue aten.max aten.mean aten.median aten.min aten.mode aten.nanmedian aten.nansum aten.prod
    aten.segment_reduce aten.sum aten.trace
""".split()

# Losses in one operator, their reduction included.
_LOSSES = """
    aten.binary_cross_entropy aten.binary_cross_entropy_with_logits aten.huber_loss aten.l1_loss aten.mse_loss
    aten.multi_margin_loss aten.multilabel_margin_loss_forward aten.smooth_l1_loss aten.soft_margin_loss
""".split()

# grad_output, input, ...: one per element of the input.
_LOSS_GRADIENTS = """
    aten.binary_cross_entropy_backward aten.huber_loss_backward aten.mse_loss_backward
    aten.multi_margin_loss_backward aten.multilabel_margin_loss_backward aten.smooth_l1_loss_backward
    aten.soft_margin_loss_backward
""".split()

# Gradients that meet are added: one per element of the first argument.
_ADDED = """
    aten.col2im aten.embedding_dense_backward aten.fractional_max_pool2d_backward
    aten.fractional_max_pool3d_backward aten.reflection_pad1d_backward aten.reflection_pad2d_backward
    aten.reflection_pad3d_backward aten.replication_pad1d_backward aten.replication_pad2d_backward
    aten.replication_pad3d_backward aten.unfold_backward aten.upsample_nearest1d_backward
    aten.upsample_nearest2d_backward aten.upsample_nearest3d_backward aten._upsample_nearest_exact1d_backward
    aten._upsample_nearest_exact2d_backward aten._upsample_nearest_exact3d_backward
""".split()

# 5 per element of the input, both ways.
_NORMALIZATIONS = """
    aten.native_batch_norm aten._native_batch_norm_legit aten._native_batch_norm_legit_no_training
    aten._native_batch_norm_legit_functional aten._batch_norm_with_update aten._batch_norm_with_update_functional
    aten._batch_norm_no_update aten.cudnn_batch_norm aten.miopen_batch_norm aten.native_batch_norm_backward
    aten.batch_norm_backward aten.cudnn_batch_norm_backward aten.miopen_batch_norm_backward
    aten.native_layer_norm aten.native_layer_norm_backward aten._fused_rms_norm aten._fused_rms_norm_backward
    aten.native_group_norm aten.native_group_norm_backward
    aten._softmax aten._log_softmax aten.softmax aten.log_softmax aten._safe_softmax aten._masked_softmax
    aten._softmax_backward_data aten._log_softmax_backward_data aten._masked_softmax_backward
    aten._weight_norm_interface_backward
    aten.batch_norm_gather_stats aten.batch_norm_gather_stats_with_counts
""".split()

# One per element of every tensor in a list.
_LISTED = """
    abs acos add asin atan ceil clamp_max clamp_min cos cosh div erf erfc exp expm1 floor frac lgamma log log10 log1p
    log2 max maximum minimum mul neg pow reciprocal round rsqrt sigmoid sign sin sinh sqrt sub tan tanh trunc
""".split()

TABLE: Mapping[str, Formula] = {
    # products of matrices
    **dict.fromkeys(("aten.mm", "aten.mv", "aten.dot", "aten.vdot", "aten.bmm", "aten._int_mm"), products.mm),
    **dict.fromkeys(("aten.addmm", "aten._addmm_activation", "aten.addmv"), products.addmm),
    **dict.fromkeys(("aten.baddbmm", "aten.addbmm", "aten._scaled_addmm"), products.addmm),
    **dict.fromkeys(("aten._scaled_mm", "aten._scaled_mm_v2"), products.mm),
    **dict.fromkeys(("aten._grouped_mm", "aten._scaled_grouped_mm", "aten._scaled_grouped_mm_v2"), products.grouped),
    **dict.fromkeys(("aten.linear", "aten.mkldnn_linear", "mkldnn._linear_pointwise"), products.contraction),
    **dict.fromkeys(("aten._weight_int8pack_mm", "aten._dyn_quant_matmul_4bit"), products.contraction),
    **dict.fromkeys(("aten._weight_int4pack_mm", "aten._weight_int4pack_mm_for_cpu"), products.contraction),
    **dict.fromkeys(("aten.linear_backward", "aten.mkldnn_linear_backward"), products.linear_backward),
    "aten.addr": products.outer,
    "torch_nn._linear_cross_entropy_batch_chunked": products.linear_cross_entropy,
    "torch_nn._linear_cross_entropy_batch_chunked_no_reduction": products.linear_cross_entropy,
    "aten._foreach_mm": products.listed_mm,
    "aten._trilinear": products.trilinear,
    "aten.affine_grid_generator": products.affine_grid,
    "aten.cudnn_affine_grid_generator": products.affine_grid,
    # convolutions
    **dict.fromkeys(("aten.convolution", "aten._convolution", "aten.convolution_overrideable"), products.convolution),
    **dict.fromkeys(
        """
        aten.mkldnn_convolution aten.cudnn_convolution aten.cudnn_convolution_relu aten.cudnn_convolution_add_relu
        aten.miopen_convolution aten.miopen_depthwise_convolution aten._conv_depthwise2d aten.conv_depthwise3d
        aten._slow_conv2d_forward aten.slow_conv3d aten.slow_conv3d_forward aten.slow_conv_dilated2d
        aten.slow_conv_dilated3d aten.thnn_conv2d aten._nnpack_spatial_convolution aten._mps_convolution
        mkldnn._convolution_pointwise
        """.split(),
        products.convolution_without_transpose,
    ),
    **dict.fromkeys(
        """
        aten.cudnn_convolution_transpose aten.miopen_convolution_transpose aten.slow_conv_transpose2d
        aten.slow_conv_transpose3d aten._mps_convolution_transpose
        """.split(),
        products.convolution_transposed,
    ),
    "aten.conv_tbc": products.convolution_time_batch_channels,
    "aten.convolution_backward": products.convolution_backward,
    "aten.convolution_backward_overrideable": products.convolution_backward_overrideable,
    "torchvision.deform_conv2d": products.deformable_convolution,
    "torchvision._deform_conv2d_backward": products.deformable_convolution_backward,
    # attention in one operator
    **dict.fromkeys(
        """
        aten._scaled_dot_product_flash_attention aten._scaled_dot_product_flash_attention_for_cpu
        aten._scaled_dot_product_efficient_attention aten._scaled_dot_product_cudnn_attention
        aten._scaled_dot_product_fused_attention_overrideable aten._scaled_dot_product_attention_math_for_mps
        flex_attention
        """.split(),
        attention.attention,
    ),
    **dict.fromkeys(
        """
        aten._scaled_dot_product_flash_attention_backward aten._scaled_dot_product_flash_attention_for_cpu_backward
        aten._scaled_dot_product_efficient_attention_backward aten._scaled_dot_product_cudnn_attention_backward
        aten._scaled_dot_product_fused_attention_overrideable_backward
        """.split(),
        attention.attention_backward(first=1),
    ),
    "flex_attention_backward": attention.attention_backward(first=0),
    "aten._flash_attention_forward": attention.packed_attention(offsets=3),
    "aten._flash_attention_backward": attention.packed_attention_backward(offsets=6),
    "aten._efficient_attention_forward": attention.packed_attention(offsets=4),
    "aten._efficient_attention_backward": attention.packed_attention_backward(offsets=6),
    "aten._native_multi_head_attention": attention.multihead_attention,
    "aten._transformer_encoder_layer_fwd": attention.encoder_layer,
    "aten._transform_bias_rescale_qkv": attention.rescaled_queries,
    # recurrent layers in one operator
    "aten.mkldnn_rnn_layer": recurrent.layer,
    "aten.mkldnn_rnn_layer_backward": recurrent.layer_backward,
    "aten._cudnn_rnn": recurrent.stack,
    "aten._cudnn_rnn_backward": recurrent.stack_backward,
    "aten._thnn_fused_lstm_cell": recurrent.cell(mode=2, gates=4),
    "aten._thnn_fused_lstm_cell_backward_impl": recurrent.lstm_cell_backward,
    "aten._thnn_fused_gru_cell": recurrent.cell(mode=3, gates=3),
    "aten._thnn_fused_gru_cell_backward": recurrent.gru_cell_backward,
    # batch normalization in parts: statistics 3, the rest 2
    "aten.batch_norm_stats": each.per_input(3),
    "aten.batch_norm_elemt": each.per_input(2),
    "aten.batch_norm_backward_reduce": each.per_input(3),
    "aten.batch_norm_backward_elemt": each.per_input(2),
    "aten.batch_norm_update_stats": each.per_input(3),
    # windows
    "aten.max_pool1d": windows.pooling(1),
    "aten.max_pool2d_with_indices": windows.pooling(2),
    "aten.max_pool3d_with_indices": windows.pooling(3),
    "aten.mkldnn_max_pool2d": windows.pooling(2),
    "aten.mkldnn_max_pool3d": windows.pooling(3),
    "aten.fractional_max_pool2d": windows.pooling(2),
    "aten.fractional_max_pool3d": windows.pooling(3),
    "aten.avg_pool1d": windows.pooling(1),
    "aten.avg_pool2d": windows.pooling(2),
    "aten.avg_pool3d": windows.pooling(3),
    "aten.max_pool2d_with_indices_backward": windows.pooling_backward(2),
    "aten.max_pool3d_with_indices_backward": windows.pooling_backward(3),
    "aten.avg_pool2d_backward": windows.pooling_backward(2),
    "aten.avg_pool3d_backward": windows.pooling_backward(3),
    "aten.adaptive_avg_pool1d": windows.adaptive_pooling(1),
    "aten._adaptive_avg_pool2d": windows.adaptive_pooling(2),
    "aten._adaptive_avg_pool3d": windows.adaptive_pooling(3),
    "aten.mkldnn_adaptive_avg_pool2d": windows.adaptive_pooling(2),
    "aten.adaptive_max_pool2d": windows.adaptive_pooling(2),
    "aten.adaptive_max_pool3d": windows.adaptive_pooling(3),
    "aten._adaptive_avg_pool2d_backward": windows.adaptive_pooling_backward(2),
    "aten._adaptive_avg_pool3d_backward": windows.adaptive_pooling_backward(3),
    "aten.mkldnn_adaptive_avg_pool2d_backward": windows.adaptive_pooling_backward(2),
    "aten.adaptive_max_pool2d_backward": windows.adaptive_pooling_backward(2),
    "aten.adaptive_max_pool3d_backward": windows.adaptive_pooling_backward(3),
    "aten.upsample_linear1d": windows.interpolation(2),
    "aten.upsample_bilinear2d": windows.interpolation(4),
    "aten.upsample_trilinear3d": windows.interpolation(8),
    "aten.upsample_bicubic2d": windows.interpolation(16),
    "aten.upsample_linear1d_backward": windows.interpolation_backward(2),
    "aten.upsample_bilinear2d_backward": windows.interpolation_backward(4),
    "aten.upsample_trilinear3d_backward": windows.interpolation_backward(8),
    "aten.upsample_bicubic2d_backward": windows.interpolation_backward(16),
    "aten.grid_sampler_2d": windows.grid_sampler(2),
    "aten.grid_sampler_3d": windows.grid_sampler(3),
    "aten._grid_sampler_2d_cpu_fallback": windows.grid_sampler(2),
    "aten.cudnn_grid_sampler": windows.grid_sampler(2, mode=0),
    "aten.grid_sampler_2d_backward": windows.grid_sampler_backward(2),
    "aten.grid_sampler_3d_backward": windows.grid_sampler_backward(3),
    "aten._grid_sampler_2d_cpu_fallback_backward": windows.grid_sampler_backward(2),
    "aten.cudnn_grid_sampler_backward": windows.cudnn_grid_sampler_backward,
    "torchvision.roi_align": windows.region_align,
    "torchvision._roi_align_backward": windows.region_align_backward(ratio=9, height=7),
    "torchvision.ps_roi_align": windows.region_align,
    "torchvision._ps_roi_align_backward": windows.region_align_backward(ratio=6, height=9),
    "torchvision.nms": windows.non_maximum_suppression,
    # losses
    "aten.nll_loss_forward": each.nll_loss,
    "aten.nll_loss_backward": each.nll_loss_backward,
    "aten.nll_loss2d_forward": each.nll_loss,
    "aten.nll_loss2d_backward": each.nll_loss_backward,
    "aten._ctc_loss": algorithms.ctc_loss,
    "aten._ctc_loss_backward": algorithms.ctc_loss_backward,
    # scattered additions: one per element added
    "aten.index_add": each.per_input(1, position=3, keyword="source"),
    "aten.index_reduce": each.per_input(1, position=3, keyword="source"),
    "aten.scatter_add": each.scattered_additions,
    "aten.scatter": each.scattered,
    "aten.scatter_reduce": each.scattered,
    **dict.fromkeys(("aten.index_put", "aten._index_put_impl", "aten._unsafe_index_put"), each.put),
    "aten.put": each.put_flat,
    "aten._unsafe_masked_index_put_accumulate": each.per_input(1, position=3, keyword="values"),
    "aten._segment_reduce_backward": each.per_input(1, position=2, keyword="data"),
    "aten._embedding_bag": each.embedding_bag,
    "aten._embedding_bag_forward_only": each.embedding_bag,
    "aten._embedding_bag_backward": each.embedding_bag_backward(mode=8, weights=10, sparse=9),
    "aten._embedding_bag_dense_backward": each.embedding_bag_backward(mode=7, weights=8),
    "aten._embedding_bag_per_sample_weights_backward": each.looked_up(2, table=1, indices=2),
    "aten.embedding_renorm": each.looked_up(3, table=0, indices=1),
    # two or three operations in one
    "aten.mul": each.multiplication,
    "aten.div": each.multiplication,
    "aten._add_relu": each.per_output(2),
    "aten.addcmul": each.per_output(2),
    "aten.addcdiv": each.per_output(2),
    "aten.lerp": each.per_output(3),
    "aten.linalg_cross": each.per_output(3),
    "aten.dist": each.per_input(3),
    "aten.renorm": each.per_input(3),
    "aten.var": each.per_input(3),
    "aten.std": each.per_input(3),
    "aten.var_mean": each.per_input(3),
    "aten.std_mean": each.per_input(3),
    "aten.linalg_vector_norm": each.per_input(2),
    "aten.linalg__powsum": each.per_input(2),
    "aten.norm": each.per_input(2),
    "aten.logsumexp": each.per_input(3),
    "aten._weight_norm_interface": each.per_input(3),
    "aten._cdist_forward": algorithms.distances(3, vectors=0, pairs=None),
    "aten._cdist_backward": algorithms.distances(3, vectors=1, pairs=0),
    "aten._pdist_forward": algorithms.distances(3, vectors=0, pairs=None),
    "aten._pdist_backward": algorithms.distances(4, vectors=1, pairs=0),
    "aten._euclidean_dist": algorithms.euclidean_distances,
    # transforms and factorizations
    "aten._fft_c2c": algorithms.fft,
    "aten._fft_r2c": algorithms.fft_of_real,
    "aten._fft_c2r": algorithms.fft_to_real,
    "aten.linalg_cholesky_ex": algorithms.cubic(1),
    "aten.linalg_lu_factor_ex": algorithms.cubic(2),
    "aten.linalg_lu": algorithms.cubic(2),
    "aten._linalg_det": algorithms.cubic(2),
    "aten._linalg_slogdet": algorithms.cubic(2),
    "aten.linalg_inv_ex": algorithms.cubic(6),
    "aten._linalg_solve_ex": algorithms.solve,
    "aten.linalg_solve_triangular": algorithms.triangular(1),
    "aten.triangular_solve": algorithms.triangular(1, matrix=1, right=0),
    "aten.cholesky_solve": algorithms.triangular(2, matrix=1, right=0),
    "aten.linalg_lu_solve": algorithms.triangular(2, right=2),
    "aten.linalg_qr": algorithms.qr,
    "aten.geqrf": algorithms.householder,
    "aten.linalg_householder_product": algorithms.householder,
    # optimizers over lists of tensors
    **{f"aten._foreach_{name}": each.per_listed(1) for name in _LISTED},
    "aten._foreach_addcmul": each.per_listed(2),
    "aten._foreach_addcdiv": each.per_listed(2),
    "aten._foreach_lerp": each.per_listed(3),
    "aten._foreach_norm": each.per_listed(2),
    "aten._foreach_powsum": each.per_listed(2),
    "aten._amp_foreach_non_finite_check_and_unscale": each.per_listed(2),
    "aten._fused_adam": each.fused_adam(decay=0),
    "aten._fused_adamw": each.fused_adam(decay=1),
    "aten._fused_sgd": each.fused_sgd,
    "aten._fused_adagrad": each.per_listed(6),
    # by the element
    **dict.fromkeys(_MOVED, each.nothing),
    **dict.fromkeys(_ELEMENTWISE, each.per_output(1)),
    **dict.fromkeys(_REDUCTIONS, each.per_input(1)),
    **dict.fromkeys(_LOSSES, each.per_input(1)),
    **dict.fromkeys(_LOSS_GRADIENTS, each.per_input(1, position=1)),
    **dict.fromkeys(_ADDED, each.per_input(1, keyword="grad_output")),
    **dict.fromkeys(_NORMALIZATIONS, each.per_input(5)),
}
