"""No formula fails on a call that PyTorch accepts: its own samples of every operator are priced, both ways."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

import torchtally
from torchtally.profiler.pricing import PRICES

from .running import Calls

pytest.importorskip("expecttest", reason="torch's own samples need it")
DTYPES = (torch.float32, torch.complex64, torch.int64)
EACH = 10  # samples per operator and dtype

# Data decides what these do, or nobody needs them: the whole list of what torch's samples meet without a price.
UNPRICED = """
    _histogramdd_bin_edges _histogramdd_from_bin_cts _histogramdd_from_bin_tensors _linalg_eigh _linalg_svd
    _sparse_mm_reduce_impl _sparse_mm_reduce_impl_backward _to_sparse _upsample_bilinear2d_aa
    _upsample_bilinear2d_aa_backward allclose cholesky_inverse hash_tensor histogram linalg_eig linalg_ldl_factor_ex
    linalg_ldl_solve linalg_lstsq linalg_matrix_exp linalg_matrix_sqrth linalg_pinv linalg_polar ormqr sparse_mask
    sparse_sampled_addmm _linalg_eigvals
""".split()


def samples() -> Any:
    """(operator, function) over all of torch's own sample inputs, a few each."""
    from torch.testing._internal.common_methods_invocations import op_db

    for operator in op_db:
        if operator.name.startswith("jiterator"):
            continue
        for dtype in DTYPES:
            if dtype in operator.dtypes:
                grad = dtype.is_floating_point and operator.supports_autograd
                # `operator.sample_inputs` would look through the stack for the name of the test, which takes a minute.
                made = operator.sample_inputs_func(operator, "cpu", dtype, grad)
                for sample in itertools.islice(made, EACH):
                    yield operator, sample


def call(operator: Any, sample: Any) -> None:
    result = operator(sample.input, *sample.args, **sample.kwargs)
    outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    if outputs:
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])


@pytest.mark.filterwarnings("ignore")
def test_every_sample_of_every_operator_has_a_price_or_a_name() -> None:
    unpriced, seen = set(), 0
    for operator, sample in samples():
        with torchtally.profile(model := Calls(call)) as run:
            try:
                model(operator, sample)
            except RuntimeError:  # of torch's own; what came before it counts
                continue
        for facts in run.trace.operators:
            seen += 1
            price = PRICES.price(facts.signature)
            if price is None:
                unpriced.add(facts.signature.operator.split(".")[1])
            else:
                assert all(type(part) is int and part >= 0 for part in price), facts.signature
                assert price.matmul_flops <= price.flops, facts.signature
    assert seen > 10_000
    assert unpriced <= set(UNPRICED)
