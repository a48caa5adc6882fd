import pytest

from torchtally.theory.cost import Cost
from torchtally.theory.instance_norm import InstanceNorm
from torchtally.theory.layer import Parameter, Saved, ShapeError, parameter_bytes
from torchtally.theory.local_response_norm import LocalResponseNorm
from torchtally.theory.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
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


def test_groupnorm_keeps_statistics_per_sample_and_group() -> None:
    n, c, g, length = 2, 6, 3, 5
    norm = GroupNorm(num_groups=g, num_channels=c)
    x = TensorSpec((n, c, length))
    assert norm.forward(x) == norm.backward(x).total == Cost(flops=5 * n * c * length)
    assert norm.saved(x) == (Saved("input", x), *(Saved("statistics", TensorSpec((n, g))),) * 2)
    assert norm.parameters == (Parameter("weight", (c,)), Parameter("bias", (c,)))
    assert GroupNorm(num_groups=g, num_channels=c, affine=False).parameters == ()
    with pytest.raises(ValueError, match="num_groups=4 must divide num_channels=6"):
        GroupNorm(num_groups=4, num_channels=6)
    with pytest.raises(ShapeError, match=r"GroupNorm takes \(N, 6, ...\)"):
        norm.output(TensorSpec((n, 5)))


def test_layernorm_keeps_statistics_per_row() -> None:
    norm = LayerNorm(normalized_shape=(H, W))
    x = TensorSpec((N, C, H, W))
    assert norm.forward(x).flops == norm.backward(x).total.flops == 5 * N * C * H * W
    assert norm.saved(x)[1:] == (Saved("statistics", TensorSpec((N, C, 1, 1))),) * 2
    assert norm.parameters == (Parameter("weight", (H, W)), Parameter("bias", (H, W)))
    assert LayerNorm(normalized_shape=W, bias=False).parameters == (Parameter("weight", (W,)),)
    assert LayerNorm(normalized_shape=W, elementwise_affine=False).parameters == ()


def test_rmsnorm_keeps_one_statistic_per_row() -> None:
    norm = RMSNorm(normalized_shape=W)
    x = TensorSpec((N, H, W))
    assert norm.forward(x).flops == 5 * N * H * W
    assert norm.saved(x) == (Saved("input", x), Saved("statistics", TensorSpec((N, H, 1))))
    assert norm.parameters == (Parameter("weight", (W,)),)
    assert norm.buffers == ()


def test_normalized_shapes_that_do_not_fit_raise() -> None:
    with pytest.raises(ShapeError, match=r"LayerNorm expects \(\*, \(5, 7\)\), got \(7, 5\)"):
        LayerNorm(normalized_shape=(5, 7)).output(TensorSpec((7, 5)))
    with pytest.raises(ValueError, match="normalized_shape needs sizes of at least 1"):
        LayerNorm(normalized_shape=())
    with pytest.raises(ValueError, match="normalized_shape"):
        RMSNorm(normalized_shape=0)


def test_instancenorm_sums_gradients_of_what_it_repeats() -> None:
    norm = InstanceNorm(num_features=C, affine=True)
    x = TensorSpec((N, C, H, W))
    five = 5 * N * C * H * W
    backward = norm.backward(x)
    assert norm.forward(x).flops == five
    assert (backward.input.flops, backward.weight.flops, backward.bias.flops) == (five, N * C, N * C)
    first = norm.backward(x, needs_input_grad=False, needs_bias_grad=False)
    assert (first.weight.flops, first.bias.flops) == (five + N * C, 0)
    per_instance = TensorSpec((N * C,))
    assert norm.saved(x) == (
        Saved("input", x),
        *(Saved("statistics", per_instance),) * 2,
        Saved("intermediate", per_instance),
    )


def test_instancenorm_averages_running_statistics_in_training() -> None:
    tracked = InstanceNorm(num_features=C, track_running_stats=True)
    x = TensorSpec((N, C, W))
    assert tracked.forward(x).flops == 5 * N * C * W + 2 * N * C
    assert tracked.backward(x).total.flops == 5 * N * C * W
    assert len(tracked.buffers) == 3
    evaluation = InstanceNorm(num_features=C, track_running_stats=True, training=False)
    assert evaluation.forward(x).flops == 5 * N * C * W
    assert [saved.role for saved in evaluation.saved(x)] == ["input", "intermediate", "intermediate"]
    assert (InstanceNorm(num_features=C).parameters, InstanceNorm(num_features=C).buffers) == ((), ())


def test_instancenorm_refuses_one_value_per_instance() -> None:
    with pytest.raises(ShapeError, match="more than one value per channel and sample"):
        InstanceNorm(num_features=C).forward(TensorSpec((N, C, 1)))
    with pytest.raises(ShapeError, match="at least 3 dimensions"):
        InstanceNorm(num_features=C).forward(TensorSpec((N, C)))


def test_local_response_norm_is_the_sum_of_its_operators() -> None:
    size = 3
    norm = LocalResponseNorm(size=size)
    x = TensorSpec((N, C, H, W))
    elements = N * C * H * W
    assert norm.output(x) == x
    assert norm.forward(x).flops == elements * (1 + size + 1 + 1 + 1 + 1)
    assert norm.backward(x).total.flops == elements * (1 + 4 + 3 + 1 + size + 2)
    padded = TensorSpec((N, C + size - 1, H, W))
    assert [saved.tensor for saved in norm.saved(x)] == [x, padded, x, x]
    with pytest.raises(ShapeError, match="LocalResponseNorm takes"):
        norm.output(TensorSpec((N, C)))
    with pytest.raises(ValueError, match="size must be at least 1"):
        LocalResponseNorm(size=0)
