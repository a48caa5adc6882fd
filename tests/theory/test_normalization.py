import pytest

from torchtally.theory.cost import Cost
from torchtally.theory.layer import Parameter, Saved, ShapeError, parameter_bytes
from torchtally.theory.normalization import BatchNorm
from torchtally.theory.tensor import TensorSpec

N, C, H, W = 2, 3, 5, 7


def test_the_walkthroughs_first_batchnorm() -> None:
    norm = BatchNorm(num_features=32)
    x = TensorSpec((32, 32, 32, 32))
    assert norm.output(x) == x
    assert parameter_bytes(norm) == 256
    assert norm.forward(x) == Cost(flops=5_242_880)
    assert norm.backward(x).total == Cost(flops=5_242_880)
    assert (norm.backward(x).gradient_bytes, norm.backward(x).parameter_gradient_bytes) == (4_194_304, 256)


@pytest.mark.parametrize("shape", [(N, C), (N, C, W), (N, C, H, W), (N, C, 2, H, W)])
def test_any_number_of_spatial_dimensions(shape: tuple[int, ...]) -> None:
    x = TensorSpec(shape)
    assert BatchNorm(num_features=C).forward(x).flops == 5 * x.elements


def test_buffers_include_a_counter_of_batches() -> None:
    assert BatchNorm(num_features=C).buffers == (
        Parameter("running_mean", (C,)),
        Parameter("running_var", (C,)),
        Parameter("num_batches_tracked", (), "int64"),
    )
    assert BatchNorm(num_features=C, track_running_stats=False).buffers == ()


def test_training_saves_statistics_and_evaluation_does_not() -> None:
    x = TensorSpec((N, C, H, W))
    statistics = Saved("statistics", TensorSpec((C,)))
    assert BatchNorm(num_features=C).saved(x) == (Saved("input", x), statistics, statistics)
    assert BatchNorm(num_features=C, training=False).saved(x) == (Saved("input", x),)
    untracked = BatchNorm(num_features=C, training=False, track_running_stats=False)
    assert untracked.saved(x) == (Saved("input", x), statistics, statistics)


def test_statistics_have_the_parameters_dtype_unless_told_otherwise() -> None:
    x = TensorSpec((N, C), "bfloat16")
    mixed, pure = BatchNorm(num_features=C), BatchNorm(num_features=C, dtype="bfloat16")
    cuda = BatchNorm(num_features=C, dtype="bfloat16", statistics_dtype="float32")
    assert [saved.tensor.dtype for saved in mixed.saved(x)] == ["bfloat16", "float32", "float32"]
    assert [saved.tensor.dtype for saved in pure.saved(x)] == ["bfloat16"] * 3
    assert [saved.tensor.dtype for saved in cuda.saved(x)] == ["bfloat16", "float32", "float32"]


@pytest.mark.parametrize("training", [True, False])
def test_backward_is_five_per_element_whichever_gradient_is_needed(training: bool) -> None:
    norm = BatchNorm(num_features=C, training=training)
    x = TensorSpec((N, C, H, W))
    five = Cost(flops=5 * N * C * H * W)
    assert norm.backward(x).input == five
    first = norm.backward(x, needs_input_grad=False)
    assert (first.input, first.weight, first.gradient_bytes) == (Cost(), five, 0)
    frozen = norm.backward(x, needs_weight_grad=False, needs_bias_grad=False)
    assert (frozen.total, frozen.parameter_gradients) == (five, ())
    nothing = norm.backward(x, needs_input_grad=False, needs_weight_grad=False, needs_bias_grad=False)
    assert nothing.total == Cost()


def test_without_affine_nothing_is_learnt() -> None:
    norm = BatchNorm(num_features=C, affine=False)
    assert norm.parameters == ()
    assert BatchNorm(num_features=C, bias=False).parameters == (Parameter("weight", (C,)),)
    assert norm.backward(TensorSpec((N, C)), needs_input_grad=False).total == Cost()


def test_inputs_that_do_not_fit_raise() -> None:
    with pytest.raises(ShapeError, match=r"BatchNorm takes \(N, 3, ...\)"):
        BatchNorm(num_features=C).output(TensorSpec((N, 4, H)))
    with pytest.raises(ShapeError):
        BatchNorm(num_features=C).output(TensorSpec((C,)))
    with pytest.raises(ShapeError, match="more than one value per channel"):
        BatchNorm(num_features=C).forward(TensorSpec((1, C)))
    assert BatchNorm(num_features=C, training=False).forward(TensorSpec((1, C))).flops == 5 * C
    with pytest.raises(ValueError, match="num_features must be at least 1"):
        BatchNorm(num_features=0)
