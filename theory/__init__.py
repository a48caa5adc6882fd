"""Closed forms of what a network costs: integers from layer settings and input shapes, without torch."""

from .activations import (
    ACTIVATIONS,
    GLU,
    LogSigmoid,
    LogSoftmax,
    PReLU,
    RReLU,
    Softmax,
    Softmin,
    Softsign,
    Tanhshrink,
    activation,
)
from .attention import ScaledDotProductAttention
from .convolution import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .cost import Cost
from .dense import Bilinear, Linear, TransposedLinear
from .embedding import Embedding, EmbeddingBag
from .experts import GatedExperts
from .instance_norm import InstanceNorm
from .layer import Backward, Layer, Parameter, Saved, ShapeError, parameter_bytes, parameter_count
from .local_response_norm import LocalResponseNorm
from .loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    PoissonNLLLoss,
    SmoothL1Loss,
    SoftMarginLoss,
)
from .multihead import MultiheadAttention
from .network import Named, Network
from .normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from .optimizers import SGD, Adam, AdamW, Optimizer, state_bytes
from .pointwise import Activation, Dropout, Flatten, Identity, ReLU, Residual
from .pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAveragePool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from .prediction import LayerPrediction, Prediction, Totals
from .projected_attention import MultiscaleAttention, ProjectedAttention
from .recurrent import GRU, LSTM, RNN
from .tensor import TensorSpec
from .transformer import TransformerEncoderLayer
from .window_attention import RelativePositionalAttention, ShiftedWindowAttention

__all__ = [
    "ACTIVATIONS",
    "GLU",
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "Backward",
    "BatchNorm",
    "Bilinear",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Cost",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "EmbeddingBag",
    "Flatten",
    "GatedExperts",
    "GlobalAveragePool",
    "GroupNorm",
    "HuberLoss",
    "Identity",
    "InstanceNorm",
    "KLDivLoss",
    "L1Loss",
    "Layer",
    "LayerNorm",
    "LayerPrediction",
    "Linear",
    "LocalResponseNorm",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MultiheadAttention",
    "MultiscaleAttention",
    "NLLLoss",
    "Named",
    "Network",
    "Optimizer",
    "PReLU",
    "Parameter",
    "PoissonNLLLoss",
    "Prediction",
    "ProjectedAttention",
    "RMSNorm",
    "RReLU",
    "ReLU",
    "RelativePositionalAttention",
    "Residual",
    "Saved",
    "ScaledDotProductAttention",
    "ShapeError",
    "ShiftedWindowAttention",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "Softmax",
    "Softmin",
    "Softsign",
    "Tanhshrink",
    "TensorSpec",
    "Totals",
    "TransformerEncoderLayer",
    "TransposedLinear",
    "activation",
    "parameter_bytes",
    "parameter_count",
    "state_bytes",
]
