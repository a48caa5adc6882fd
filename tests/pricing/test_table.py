"""The table: real operators only, nothing free but views, allocation and metadata, nothing unknown zero."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision  # noqa: F401 - registers its operators

import torchtally
from torchtally.profiler.formulas import Price
from torchtally.profiler.formulas.table import FREE
from torchtally.profiler.pricing import PRICES, Prices
from torchtally.profiler.records import Signature

from .running import tensor

# Dispatched as themselves, not as operators of a library.
HIGHER_ORDER = {"flex_attention", "flex_attention_backward"}
# Registered when first used, or only by some versions of torch.
ELSEWHERE = {
    "torch_nn._linear_cross_entropy_batch_chunked",
    "torch_nn._linear_cross_entropy_batch_chunked_no_reduction",
}


def overloads(name: str, *, in_place: bool = True) -> list[Any]:
    """All overloads of an operator; also those of its in-place form, which shares a price (freedom it does not)."""
    library, _, rest = name.partition(".")
    short, _, overload = rest.partition(".")
    found = []
    for candidate in (short, f"{short}_")[: 1 + in_place]:
        packet = getattr(getattr(torch.ops, library), candidate, None)
        if packet is not None:
            names = [overload] if overload else packet.overloads()
            found += [getattr(packet, one) for one in names if one in packet.overloads()]
    return found


@pytest.mark.parametrize("name", sorted({*PRICES, *FREE} - HIGHER_ORDER))
def test_every_entry_is_an_operator(name: str) -> None:
    assert overloads(name) or name in ELSEWHERE


def test_nothing_is_both_free_and_priced() -> None:
    assert not FREE & set(PRICES)


# The free list ----------------------------------------------------------------------------------------------------


def tensors_out(overload: Any) -> list[Any]:
    return [result for result in overload._schema.returns if "Tensor" in str(result.type)]


def is_view(overload: Any) -> bool:
    """Every tensor it gives is, by its schema, one it was given."""
    results = tensors_out(overload)
    return bool(results) and all(result.alias_info is not None for result in results)


def gives_no_tensor(overload: Any) -> bool:
    return not tensors_out(overload)


# Allocation writes nothing, which shows where uninitialized memory is filled for debugging; see the test below.
ALLOCATIONS = {
    "aten.empty": lambda: torch.empty(3),
    "aten.empty_like": lambda: torch.empty_like(torch.ones(3)),
    "aten.empty_strided": lambda: torch.empty_strided((3,), (1,)),
    "aten.new_empty": lambda: torch.ones(3).new_empty(3),
    "aten.new_empty_strided": lambda: torch.ones(3).new_empty_strided((3,), (1,)),
    "aten.empty_permuted": lambda: torch.empty_permuted((3,), (0,)),
}
# Views whose schema does not say so, each seen to share its input's memory; see the test below.
UNMARKED_VIEWS = {
    "aten._unsafe_view": lambda x: torch.ops.aten._unsafe_view(x, [6]),
    "aten.unsafe_split": lambda x: torch.ops.aten.unsafe_split(x, 1),
    "aten.unsafe_split_with_sizes": lambda x: torch.ops.aten.unsafe_split_with_sizes(x, [1, 1]),
    "aten.lift": lambda x: torch.ops.aten.lift(x),
}
# Said to write what they were given: where it lies, how large it is, who uses it; and no number in it.
RESIZING = {"aten.set_", "aten.resize_", "aten.resize_as_", "aten.record_stream"}
# The profiler's own: what it gives is a handle.
HANDLES = {"profiler._record_function_enter"}


def is_free_by_right(name: str) -> bool:
    """Whether the operator can compute and move nothing."""
    if name in ALLOCATIONS or name in UNMARKED_VIEWS or name in HANDLES:
        return True
    found = [overload for overload in overloads(name, in_place=False) if not overload._overloadname.endswith("out")]
    written = any(
        argument.alias_info is not None and argument.alias_info.is_write
        for overload in found
        for argument in overload._schema.arguments
    )
    only_metadata = name in RESIZING or all(torch.Tag.inplace_view in overload.tags for overload in found)
    nothing_new = all(is_view(overload) or gives_no_tensor(overload) for overload in found)
    return bool(found) and nothing_new and (only_metadata or not written)


@pytest.mark.parametrize("name", sorted(FREE))
def test_free_operators_compute_and_move_nothing(name: str) -> None:
    assert is_free_by_right(name), [str(overload._schema) for overload in overloads(name)]


@pytest.mark.parametrize(
    "name", ["aten.add", "aten.add_", "aten.clone", "aten.copy_", "aten.zeros", "aten.mm", "aten.sum"]
)
def test_work_is_no_free_operator(name: str) -> None:
    """The rule above can fail."""
    assert not is_free_by_right(name)


@pytest.mark.parametrize("name", sorted(UNMARKED_VIEWS))
def test_views_share_memory(name: str) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    result = UNMARKED_VIEWS[name](x)
    for piece in result if isinstance(result, (list, tuple)) else [result]:
        assert piece.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


@pytest.mark.parametrize("name", sorted(ALLOCATIONS))
def test_allocations_write_nothing(name: str) -> None:
    """What an allocation leaves as it was, PyTorch's debugging aid fills with NaN."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    try:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = True
        assert bool(ALLOCATIONS[name]().isnan().all())
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.utils.deterministic.fill_uninitialized_memory = before[1]


# Names ------------------------------------------------------------------------------------------------------------


def test_overloads_and_in_place_forms_share_an_entry() -> None:
    assert PRICES["aten.add.Tensor"] is PRICES["aten.add_.Scalar"] is PRICES["aten.add"]
    assert PRICES["aten.max.other"] is PRICES["aten.maximum"]
    assert PRICES["aten.max.dim"] is not PRICES["aten.maximum"]


def test_an_unknown_operator_has_no_price() -> None:
    assert PRICES.price(Signature("mylib.my_op.default", (tensor(2),), {}, (tensor(2),))) is None


def test_no_short_name_for_what_bears_a_remark() -> None:
    """Nested tensors have no shape to price."""
    assert PRICES.price(Signature("aten.linear.default (nested tensors)", ("nested tensor",))) is None
    assert not PRICES.is_free("aten.view.default (nested tensors)")


UNPRICED = """
    aten._linalg_svd aten._linalg_eigh aten.linalg_eig aten._sparse_mm aten._upsample_bilinear2d_aa
    aten._upsample_bicubic2d_aa aten.fake_quantize_per_tensor_affine_cachemask aten._fused_moving_avg_obs_fq_helper
    aten._cudnn_ctc_loss aten.linalg_matrix_exp torchvision.roi_pool
""".split()


@pytest.mark.parametrize("name", UNPRICED)
def test_what_cannot_be_told_from_shapes_is_unpriced(name: str) -> None:
    assert overloads(name)
    assert PRICES.price(Signature(f"{name}.default", (tensor(3, 3),), {}, (tensor(3, 3),))) is None


def test_prices_extend_to_a_new_table() -> None:
    extended = PRICES.extend({"mylib.my_op": lambda signature: Price(7)})
    assert extended.price(Signature("mylib.my_op.default")) == Price(7)
    assert PRICES.price(Signature("mylib.my_op.default")) is None
    assert isinstance(extended, Prices)


# Written twice ----------------------------------------------------------------------------------------------------


def test_formulas_share_nothing_with_theory() -> None:
    folder = Path(torchtally.__file__).parents[2] / "profiler"
    files = [folder / "pricing.py", *sorted((folder / "formulas").glob("*.py"))]
    assert len(files) > 5
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert "theory" not in (node.module or ""), path
                assert node.level or node.module in ("__future__", "collections.abc", "math", "types", "typing"), path
            elif isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] not in ("torch", "torchtally") for alias in node.names), path
