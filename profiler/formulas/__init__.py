"""What an operator costs, from its signature alone. Written from PyTorch's operator schemas and the stated convention;
shares nothing with the closed forms for layers, against which it is checked.

A formula sees shapes and integer settings, never data. Argument positions are those of the operator's schema.
"""

from .price import Formula, Price, argument, is_complex, is_floating

__all__ = ["Formula", "Price", "argument", "is_complex", "is_floating"]
