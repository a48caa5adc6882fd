"""The vocabulary of claims: every quantity, its unit and the one thing it means; and every rule.

Gradients are of the loss; the input's gradient is what backward hands on. `parameters` are learnable. Memory
is in bytes: the walkthrough prints "MB" and "KB" for MiB (1024 * 1024 bytes) and KiB. FLOPs are by the
convention in `theory.cost`.
"""

from __future__ import annotations

from typing import Literal

Unit = Literal[
    "shape", "elements", "positions", "bytes", "parameters", "FLOPs", "operations", "ratio", "percent", "rule"
]

# Each unit's quantities, each with its meaning.
MEANINGS: dict[Unit, dict[str, str]] = {
    "shape": {
        "input_shape": "of the layer's input, forward",
        "output_shape": "of the layer's output, forward",
        "output_spatial_size": "height and width that are left of each channel",
        "weight_shape": "of the weight",
        "gradient_shape": "of the input's gradient",
        "output_gradient_shape": "of the output's gradient, which backward is given",
        "weight_gradient_shape": "of the weight's gradient",
        "bias_gradient_shape": "of the bias's gradient",
        "weight_gradient_left_shape": "left factor of the product that is the weight's gradient",
        "weight_gradient_right_shape": "right factor of it",
        "input_gradient_left_shape": "left factor of the product that is the input's gradient",
        "input_gradient_right_shape": "right factor of it",
    },
    "positions": {
        "output_height": "H_out",
        "output_width": "W_out",
        "window_travel": "H_in + 2p - k: how far the window can move down from its first place",
    },
    "elements": {
        "window_elements": "elements of one pooling window; of the map, for global pooling",
        "elements": "of the output",
        "running_mean": "of the buffer of that name",
        "running_var": "of the buffer of that name",
        "gradient_elements": "of the input's gradient",
        "weight_gradient_elements": "of the weight's gradient",
        "bias_gradient_elements": "of the bias's gradient",
        "parameter_gradient_elements": "of all parameters' gradients",
    },
    "bytes": {
        "activation_bytes": "of the output; the network's input is no activation of its total",
        "itemsize": "of one element",
        "parameter_bytes": "of the parameters; phase training: held for forward and for backward",
        "gradient_bytes": "of the input's gradient",
        "weight_gradient_bytes": "of the weight's gradient",
        "bias_gradient_bytes": "of the bias's gradient",
        "parameter_gradient_bytes": "of all parameters' gradients",
        "all_gradient_bytes": "of the gradients of input and parameters together",
        "activation_and_gradient_bytes": "activations and their gradients, as if all were alive",
        "memory_bytes": "forward: activations, parameters; backward: all gradients, parameters; both",
    },
    "parameters": {
        "weights": "elements of the weight (gamma, for BatchNorm)",
        "biases": "elements of the bias (beta, for BatchNorm)",
        "parameters": "learnable elements, weight and bias together",
        "dense_alternative_parameters": "of one dense layer from the flattened image to 128",
        "gap_parameters_saved": "that a classifier on the flattened last map has more",
        "extra_block_parameters": "that a fourth block of 256 channels adds",
    },
    "FLOPs": {
        "flops": "of the phase",
        "weight_gradient_flops": "of the weight's gradient",
        "bias_gradient_flops": "of the bias's gradient",
        "input_gradient_flops": "of the input's gradient",
        "flops_per_output_element": "of the product behind one output element",
        "flops_per_element": "that an elementwise layer spends on each element",
        "flops_per_channel": "of one channel, over batch and map",
        "affine_flops_per_element": "of BatchNorm's scale and shift, per element",
        "flops_per_multiply_add": "that one multiply-add counts for",
        "extra_block_flops": "forward, that a fourth block of 256 channels adds",
    },
    "percent": {
        "flops_share": "of a kind in the phase's FLOPs; of a phase in the step's",
    },
    "operations": {
        "multiplications_per_output": "multiplications of one output element's dot product",
        "multiply_adds_per_output": "multiply-adds of that dot product",
        "additions_per_output": "additions of that dot product, from zero; of a mean, from its first",
        "bias_additions_per_output": "additions of the bias",
        "divisions_per_output": "divisions of a mean",
    },
    "ratio": {
        "backward_to_forward_flops": "backward FLOPs per forward FLOP",
        "adam_memory_ratio": "bytes of parameters and Adam's state per byte of parameters",
        "depthwise_separable_flops_reduction": "forward FLOPs of convolutions, standard / separable",
        "half_precision_memory_reduction": "bytes of a training step, float32 / float16",
        "resolution_doubled_memory_ratio": "bytes of a training step at 64x64 per byte at 32x32",
        "resolution_doubled_flops_ratio": "forward FLOPs at 64x64 per FLOP at 32x32",
        "channels_doubled_parameters_ratio": "parameters with all channels doubled / as they are",
        "channels_doubled_flops_ratio": "forward FLOPs with all channels doubled / as they are",
    },
    "rule": {
        "rule": "a statement about what is computed, named by the value (RULES): for a run to decide",
    },
}

UNITS: dict[str, Unit] = {quantity: unit for unit, meanings in MEANINGS.items() for quantity in meanings}

RULES = {
    "convolution.output_size": "floor((size + 2p - k) / s) + 1, in height and in width",
    "convolution.flops": "two per multiply-add of the dense product; the bias is left out",
    "convolution.weight_gradient": "dL/dW is the input convolved with dL/dy",
    "convolution.bias_gradient": "dL/db sums dL/dy over batch and map",
    "convolution.input_gradient": "dL/dx is dL/dy convolved, in full, with the transposed filters",
    "batchnorm.forward": "gamma * (x - mean) / sqrt(variance + epsilon) + beta, over batch and map",
    "batchnorm.running_statistics": "running mean and variance are updated in training and get no gradient",
    "batchnorm.weight_gradient": "dL/dgamma sums dL/dy times the normalized input over batch and map",
    "batchnorm.bias_gradient": "dL/dbeta sums dL/dy over batch and map",
    "batchnorm.input_gradient": "dL/dx also goes through mean and variance",
    "relu.forward": "max(0, x)",
    "relu.input_gradient": "dL/dx is dL/dy where x > 0, else 0",
    "maxpool.input_gradient": "dL/dx is dL/dy at the maximum of each window, else 0",
    "gap.forward": "the mean over height and width",
    "gap.input_gradient": "dL/dx is dL/dy / (H * W) at every position",
    "linear.input_times_weight": "y = xW + b: a weight of (in, out)",
    "linear.weight_times_input": "y = Wx + b: a weight of (out, in)",
    "linear.weight_gradient": "dL/dW = x^T dL/dy",
    "linear.weight_gradient_shape": "dL/dW is shaped as W",
    "linear.bias_gradient": "dL/db sums dL/dy over the batch",
    "linear.bias_gradient_shape": "dL/db is shaped as b",
    "linear.input_gradient": "dL/dx = dL/dy W^T",
    "linear.input_gradient_shape": "dL/dx is shaped as x",
    "loss.softmax": "probabilities are exp(z_i) / sum_j exp(z_j) over the classes",
    "loss.cross_entropy": "the loss is the batch's mean of -log of the true class's probability",
    "backward.parameters_and_inputs": "backward costs twice forward as it computes both kinds of gradients",
    "backward.weight_updates": "backward costs twice forward as it also updates the weights",
    "convolution.dominates": "most computation is convolution",
    "convolution.bottlenecks": "Conv2 and Conv3 cost most, though their maps are smaller",
    "convolution.flops_scale_with_channels": "a convolution's FLOPs go with C_in * C_out, and with the map",
    "convolution.early_layers": "block 1 has the larger map, fewer channels and less computation",
    "convolution.middle_layers": "blocks 2 and 3 have smaller maps, more channels and more computation",
    "training.stores_both_passes": "training holds the memory of forward and of backward together",
    "checkpointing.trades_computation_for_memory": "recomputing activations saves memory, costs FLOPs",
}  # fmt: skip
