"""The oracle: every quantity of `theory`, counted again by code that shares nothing with it.

Three witnesses stand here, and `holding` compares a closed form with what each of them says.

- `brute`, and `sequence` on `tape`, compute layers by their textbook definitions in plain Python, one product at
  a time, and count as they go. The tests check their numbers against torch, so that what was counted is the
  right computation.
- `real` asks a real torch layer for its shapes, its parameters and the tensors autograd keeps. With ones for
  input and weights, its output sums to the number of multiply-adds.
- `dispatched` prices the operators that arrive at PyTorch's dispatcher, for layers that are taken apart there.
"""
