import pytest

from torchtally.theory.cost import Cost
from torchtally.theory.embedding import Embedding, EmbeddingBag
from torchtally.theory.layer import Parameter, Saved, ShapeError
from torchtally.theory.tensor import TensorSpec

V, D, B, L = 10, 3, 2, 4
INDICES = TensorSpec((B, L), "int64")


def test_a_look_up_is_free_and_its_gradient_one_addition_per_element() -> None:
    table = Embedding(num_embeddings=V, embedding_dim=D, dtype="float16")
    assert table.output(INDICES) == TensorSpec((B, L, D), "float16")
    assert table.forward(INDICES) == Cost()
    backward = table.backward(INDICES)
    assert backward.total == Cost(flops=B * L * D)
    assert backward.input_gradients == (None,)
    assert backward.parameter_gradients == (Parameter("weight", (V, D), "float16"),)
    assert backward.parameter_gradient_bytes == V * D * 2
    assert table.saved(INDICES) == (Saved("index", INDICES),)
    assert table.backward(INDICES, needs_weight_grad=False).total == Cost()


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_reduces_what_it_looks_up(mode: str) -> None:
    bag = EmbeddingBag(num_embeddings=V, embedding_dim=D, mode=mode)  # type: ignore[arg-type]
    assert bag.output(INDICES).shape == (B, D)
    assert bag.forward(INDICES) == Cost(flops=B * L * D)
    # Of a maximum, only the one element that it is gets a gradient.
    assert bag.backward(INDICES).total == Cost(flops=B * D if mode == "max" else B * L * D)
    sizes = [saved.tensor.elements for saved in bag.saved(INDICES)]
    assert sizes == [B * L, B, *([] if mode == "sum" else [B * L + 1]), B, B * D if mode == "max" else B]


def test_bags_by_offset() -> None:
    bag = EmbeddingBag(num_embeddings=V, embedding_dim=D)
    indices, offsets = TensorSpec((7,), "int64"), TensorSpec((3,), "int64")
    assert bag.output(indices, offsets).shape == (3, D)
    assert bag.forward(indices, offsets).flops == 7 * D
    assert bag.backward(indices, offsets).input_gradients == (None, None)


def test_inputs_that_do_not_fit_raise() -> None:
    with pytest.raises(ShapeError, match="Embedding takes indices"):
        Embedding(num_embeddings=V, embedding_dim=D).forward(TensorSpec((2,)))
    with pytest.raises(ShapeError, match=r"indices \(K,\) and offsets \(B,\); got \(7,\)"):
        EmbeddingBag(num_embeddings=V, embedding_dim=D).forward(TensorSpec((7,), "int64"))
    with pytest.raises(ValueError, match="mode must be"):
        EmbeddingBag(num_embeddings=V, embedding_dim=D, mode="median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="embedding_dim must be at least 1"):
        Embedding(num_embeddings=V, embedding_dim=0)
