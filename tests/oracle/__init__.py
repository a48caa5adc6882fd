"""The oracle: every quantity of `theory`, counted again by code that shares nothing with it.

Two witnesses stand here, and `holding` compares a closed form with what either of them says.

- `brute` computes layers by their textbook definitions in plain Python, one product at a time, and counts as
  it goes. The tests check its numbers against torch, so that what was counted is the right computation.
- `real` asks a real torch layer for its shapes, its parameters and the tensors autograd keeps. With ones for
  input and weights, its output sums to the number of multiply-adds.
"""
