"""Models to profile: the walkthrough's CNN."""

from .cnn import CNN, CNNConfig, GlobalAveragePooling, example

__all__ = ["CNN", "CNNConfig", "GlobalAveragePooling", "example"]
