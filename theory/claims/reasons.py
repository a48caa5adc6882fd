"""What two figures do not say by themselves: why a claim is wrong, or what a right one leaves out.

By claim id. A claim that only takes over a wrong one needs no entry: its reason names that one.
"""

from __future__ import annotations

REASONS = {
    "L136.block1.conv.forward.additions_per_output": (
        "counted from zero; by its own count for the mean of 16 values, 15, they would be 26"
    ),
    "L139.block1.conv.forward.multiply_adds_per_output": "54 is FLOPs, 2 for each multiply-add",
    "L170.block1.batchnorm.forward.flops_per_element": (
        "its list names 7 operations: 1 for the mean, 2 for the variance, 2 to normalize, 2 to scale and "
        "shift; the 5 is approximate by its own word"
    ),
    "L795.network.forward.activation_bytes": (
        "its own rows add up to 22.77 MiB, and to 23.14 MiB with the input's 384 KiB"
    ),
    "L795.network.forward.flops": "they add up to 673.45 M, printed half to even",
    "L815.network.backward.flops": ("neither the exact sum, 1,334.3 M, nor that of its own rows as printed, 1,333.9 M"),
    "L823.kind:convolution.parameters": (
        "its own rows are 896 + 18,496 + 73,856; 64 are missing, as many as Conv2 has biases"
    ),
    "L823.kind:convolution.parameter_bytes": "4 bytes for each of 93,184 parameters, which are 93,248",
    "L826.network.parameters": "right, but the rows above it add up to 94,922",
    "L826.network.parameter_bytes": "right, but the rows above it add up to 379,688",
    "L833.network.training.parameter_bytes": "counts the same parameters twice, for forward and for backward",
    "L856.kind:pooling.forward.flops": (
        "max pooling alone; global average pooling's 65,536 FLOPs are in no row of the breakdown"
    ),
    "L872.network.adam_memory_ratio": "of the parameters alone, with 4 bytes of step count for each tensor",
    "L882.gap.gap_parameters_saved": (
        "flattening the 4 x 4 x 128 map into 10 classes takes 20,490 parameters instead of 1,290"
    ),
    "L885.kind:convolution.forward.depthwise_separable_flops_reduction": (
        "of all convolutions; 7.02x, 7.89x and 8.41x for one after the other; 9x only for endless channels"
    ),
    "L891.network.channels_doubled_flops_ratio": (
        "the first convolution only doubles, as do BatchNorm, ReLU and pooling"
    ),
    "L892.network.extra_block_parameters": (
        "74 K are block 3's own; a further block, 128 to 256 channels, has 295,168 + 512, and the classifier "
        "gains 1,280"
    ),
}

# Rules that are at odds with what the document itself says elsewhere, by name.
RULES_AT_ODDS = {
    "linear.weight_times_input": (
        "its own W is (128, 10), as its gradient's shape says, so that only xW is defined; it writes y = xW + b before"
    ),
    "backward.weight_updates": "none of its own backward figures has an update in it",
}
