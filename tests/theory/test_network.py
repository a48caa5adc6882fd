import pytest

from torchtally.theory.activations import activation
from torchtally.theory.convolution import Conv1d
from torchtally.theory.cost import Cost
from torchtally.theory.dense import Linear
from torchtally.theory.layer import Parameter, Saved, ShapeError
from torchtally.theory.multihead import MultiheadAttention
from torchtally.theory.network import Named, Network
from torchtally.theory.pointwise import Dropout, Flatten, Identity, ReLU
from torchtally.theory.prediction import Totals
from torchtally.theory.tensor import TensorSpec

N, A, B, C = 3, 5, 7, 2
NETWORK = Network(
    (
        Named("body.first", Linear(in_features=A, out_features=B)),
        Named("body.relu", ReLU()),
        Named("head", Linear(in_features=B, out_features=C)),
    )
)
X = TensorSpec((N, A))


def test_each_layer_feeds_the_next() -> None:
    prediction = NETWORK.predict(X)
    assert [(row.input.shape, row.output.shape) for row in prediction] == [
        ((N, A), (N, B)),
        ((N, B), (N, B)),
        ((N, B), (N, C)),
    ]
    assert (prediction.input, prediction.output) == (X, TensorSpec((N, C)))
    assert prediction["body.relu"].saved == (Saved("output", TensorSpec((N, B))),)
    assert prediction["body.relu"].kind == "activation"


def test_the_first_layer_needs_no_input_gradient_unless_the_input_does() -> None:
    weight, bias = 2 * N * A * B, N * B
    assert NETWORK.predict(X)["body.first"].totals.backward.flops == weight + bias
    needed = NETWORK.predict(X, input_requires_grad=True)["body.first"]
    assert needed.totals.backward.flops == 2 * weight + bias
    assert (NETWORK.predict(X)["body.first"].gradient_bytes, needed.gradient_bytes) == (0, N * A * 4)


def test_layers_before_the_first_trained_parameter_have_no_backward() -> None:
    prediction = NETWORK.predict(X, frozen=["body"])
    assert [row.backward is None for row in prediction] == [True, True, False]
    assert prediction["body.relu"].saved == ()
    assert prediction["head"].gradient_bytes == 0
    assert prediction.totals.backward == Cost(flops=2 * N * B * C + N * C, matmul_flops=2 * N * B * C)
    assert prediction.block("body").backward == Cost()


def test_leading_layers_without_parameters_have_no_backward() -> None:
    network = Network((Named("dropout", Dropout()), *NETWORK))
    assert network.predict(X)["dropout"].backward is None
    assert network.predict(X, input_requires_grad=True)["dropout"].backward is not None


def test_a_frozen_layer_in_the_middle_still_passes_the_gradient_on() -> None:
    backward = NETWORK.predict(X, frozen=["head"])["head"].backward
    assert backward is not None
    assert (backward.parameter_gradients, backward.total) == ((), Cost.matmul(N * B * C))


def test_a_single_parameter_can_be_frozen() -> None:
    backward = NETWORK.predict(X, frozen=["body.first.weight"])["body.first"].backward
    assert backward is not None
    assert backward.parameter_gradients == (Parameter("bias", (B,)),)
    assert backward.total == Cost(flops=N * B)


def test_everything_frozen_means_no_backward_at_all() -> None:
    prediction = NETWORK.predict(X, frozen=[""])
    assert [row.backward for row in prediction] == [None, None, None]
    assert prediction.totals.parameter_gradient_bytes == 0


def test_totals_add_up() -> None:
    prediction = NETWORK.predict(X)
    assert prediction.totals == prediction.block("body") + prediction.block("head") == prediction.block("")
    assert prediction.totals == sum(prediction.by_kind().values(), start=Totals())
    assert prediction.totals.activation_bytes == 4 * (N * B + N * B + N * C)
    assert prediction.totals.flops == prediction.totals.forward_flops + prediction.totals.backward_flops


def test_parameters_have_their_full_paths() -> None:
    assert [parameter.name for parameter in NETWORK.parameters] == [
        "body.first.weight",
        "body.first.bias",
        "head.weight",
        "head.bias",
    ]
    alone = Network((Named("", Linear(in_features=1, out_features=1)),))
    assert [parameter.name for parameter in alone.parameters] == ["weight", "bias"]
    assert alone.predict(TensorSpec((1, 1)), frozen=["bias"]).totals.parameter_gradient_bytes == 4


def test_what_shares_memory_is_saved_once() -> None:
    first, second = (Linear(in_features=A, out_features=A) for _ in range(2))
    network = Network(
        (
            Named("a", first),
            Named("identity", Identity()),
            Named("relu", ReLU(in_place=True)),
            Named("hardtanh", activation("Hardtanh", in_place=True)),
            Named("dropout", Dropout(p=0.0)),
            Named("flatten", Flatten(start_dim=0, end_dim=0)),
            Named("b", second),
        )
    )
    assert network.predict(X).saved_bytes() == {
        "a": 0, "identity": 0, "relu": N * A * 4, "hardtanh": 0, "dropout": 0, "flatten": 0, "b": 0
    }  # fmt: skip


def test_integers_have_no_gradient() -> None:
    with pytest.raises(ValueError, match="an input of int64 has no gradient"):
        NETWORK.predict(X.with_dtype("int64"), input_requires_grad=True)


def test_weights_of_one_layer_are_frozen_together() -> None:
    network = Network((Named("attention", MultiheadAttention(embed_dim=4, num_heads=2)),))
    x = TensorSpec((3, 2, 4))
    assert network.predict(x, frozen=["attention.in_proj_weight", "attention.out_proj.weight"])["attention"].backward
    with pytest.raises(ValueError, match="attention: freeze all weights of the layer together, or none"):
        network.predict(x, frozen=["attention.out_proj.weight"])


def test_unknown_paths_raise() -> None:
    prediction = NETWORK.predict(X)
    for look_up in (prediction.__getitem__, prediction.block, NETWORK.__getitem__):
        with pytest.raises(KeyError, match="tail"):
            look_up("tail")
    with pytest.raises(KeyError):
        prediction.block("bod")
    with pytest.raises(ValueError, match="nothing to freeze at 'bod'"):
        NETWORK.predict(X, frozen=["bod"])


def test_paths_are_given_once() -> None:
    with pytest.raises(ValueError, match="repeated: a, b"):
        Network(tuple(Named(path, ReLU()) for path in "babac"))
    with pytest.raises(ValueError, match="at least one layer"):
        Network(())


def test_a_shape_that_does_not_fit_names_the_path() -> None:
    network = Network((Named("stem.conv", Conv1d(in_channels=2, out_channels=1, kernel_size=3)),))
    with pytest.raises(ShapeError, match=r"^stem.conv: Conv1d expects 2 channels, got 3"):
        network.predict(TensorSpec((1, 3, 8)))


def test_a_total_adds_to_nothing_but_a_total() -> None:
    with pytest.raises(TypeError):
        Totals() + 1  # type: ignore[operator]
