import pytest

from torchtally.theory.tensor import TensorSpec


def test_bytes_are_elements_times_width() -> None:
    n, c, h, w = 2, 3, 5, 7
    assert TensorSpec((n, c, h, w)).elements == n * c * h * w
    assert TensorSpec((n, c, h, w)).nbytes == n * c * h * w * 4


@pytest.mark.parametrize(
    ("dtype", "width"),
    [
        ("bool", 1),
        ("float16", 2),
        ("bfloat16", 2),
        ("float32", 4),
        ("float64", 8),
        ("int64", 8),
        ("complex64", 8),
    ],
)
def test_widths(dtype: str, width: int) -> None:
    assert TensorSpec((3,), dtype).nbytes == 3 * width


def test_a_scalar_has_one_element_and_an_empty_tensor_none() -> None:
    assert TensorSpec(()).nbytes == 4
    assert TensorSpec((0, 3)).nbytes == 0


def test_with_shape_and_with_dtype_keep_the_rest() -> None:
    x = TensorSpec((2, 3), "float64")
    assert x.with_shape(6) == TensorSpec((6,), "float64")
    assert x.with_dtype("bool") == TensorSpec((2, 3), "bool")


def test_unknown_dtype_and_negative_size_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown dtype 'float31'"):
        TensorSpec((1,), "float31")
    with pytest.raises(ValueError, match="must be >= 0"):
        TensorSpec((1, -2))
