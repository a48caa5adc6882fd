"""Additive cost, and the counting convention, stated once for closed forms and operator prices alike.

The convention (the walkthrough's, and PyTorch's for products):

- one multiply-add is 2 FLOPs;
- a convolution, linear layer or attention product of M x K by K x N is 2*M*N*K: `matmul_flops`, also in
  `flops`;
- bias additions of the forward pass are in neither;
- a bias gradient is one addition per element of the output gradient: in `flops` for a linear layer (the
  walkthrough's rule), apart in `bias_flops`, and only there, for a convolution (the walkthrough leaves it
  out);
- normalizations and softmax are 5 FLOPs per element, forward and backward;
- pooling is one FLOP per element of each window, forward and backward: k*k per output element, H*W for global
  pooling;
- a reduction (sum, mean) is one FLOP per input element; its backward is one per element of the input's
  gradient where it scales (mean) and none where it only broadcasts (sum);
- any other elementwise operation is one FLOP per output element, whatever the function (ReLU, GELU, exp, +,
  *), forward, and one per element of the input's gradient, backward;
- moving data is not arithmetic: views, copies, concatenation, padding, embedding look-ups are 0 FLOPs
  forward; the scatter-add of an embedding's gradient is one addition per element looked up.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOPS_PER_MULTIPLY_ADD = 2
NORMALIZATION_FLOPS_PER_ELEMENT = 5
SOFTMAX_FLOPS_PER_ELEMENT = 5
ELEMENTWISE_FLOPS_PER_ELEMENT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """FLOPs that add up. `matmul_flops` are the products among `flops`; `bias_flops` are in neither."""

    flops: int = 0
    matmul_flops: int = 0
    bias_flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(
            flops=self.flops + other.flops,
            matmul_flops=self.matmul_flops + other.matmul_flops,
            bias_flops=self.bias_flops + other.bias_flops,
        )

    def __mul__(self, times: int) -> Cost:
        return Cost(
            flops=self.flops * times,
            matmul_flops=self.matmul_flops * times,
            bias_flops=self.bias_flops * times,
        )

    __rmul__ = __mul__

    @classmethod
    def matmul(cls, multiply_adds: int) -> Cost:
        """The cost of a product with that many multiply-adds."""
        return cls(flops=FLOPS_PER_MULTIPLY_ADD * multiply_adds, matmul_flops=FLOPS_PER_MULTIPLY_ADD * multiply_adds)

    @classmethod
    def elementwise(cls, elements: int, flops_per_element: int = ELEMENTWISE_FLOPS_PER_ELEMENT) -> Cost:
        """The cost of arithmetic done once per element."""
        return cls(flops=elements * flops_per_element)


ZERO = Cost()
