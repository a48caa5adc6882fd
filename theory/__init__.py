"""Closed forms of what a network costs: integers from layer settings and input shapes, without torch."""

from .convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from .cost import Cost
from .dense import Linear
from .layer import Backward, Layer, Parameter, Saved, ShapeError, parameter_bytes, parameter_count
from .network import Named, Network
from .normalization import BatchNorm
from .optimizers import SGD, Adam, AdamW, Optimizer, state_bytes
from .pointwise import Activation, Dropout, Flatten, Identity, ReLU
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
from .tensor import TensorSpec

__all__ = [
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
    "Backward",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Cost",
    "Dropout",
    "Flatten",
    "GlobalAveragePool",
    "Identity",
    "Layer",
    "LayerPrediction",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Named",
    "Network",
    "Optimizer",
    "Parameter",
    "Prediction",
    "ReLU",
    "Saved",
    "ShapeError",
    "TensorSpec",
    "Totals",
    "parameter_bytes",
    "parameter_count",
    "state_bytes",
]
