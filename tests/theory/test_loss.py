import pytest

from torchtally.theory import loss
from torchtally.theory.cost import Cost
from torchtally.theory.layer import Saved, ShapeError
from torchtally.theory.loss import BCEWithLogitsLoss, CrossEntropyLoss, KLDivLoss, L1Loss, MSELoss, NLLLoss
from torchtally.theory.tensor import TensorSpec

N, C, H, W = 4, 5, 3, 2
LOGITS, LABELS = TensorSpec((N, C)), TensorSpec((N,), "int64")
X, T = TensorSpec((N, C)), TensorSpec((N, C))
E = N * C


def test_cross_entropy_is_log_softmax_and_one_per_sample_both_ways() -> None:
    entropy = CrossEntropyLoss()
    assert entropy.output(LOGITS, LABELS) == TensorSpec(())
    assert entropy.forward(LOGITS, LABELS) == Cost(flops=5 * N * C + N)
    backward = entropy.backward(LOGITS, LABELS)
    assert backward.total == Cost(flops=5 * N * C + N)
    assert backward.input_gradients == (LOGITS, None)
    assert entropy.saved(LOGITS, LABELS) == (
        Saved("intermediate", LOGITS),
        Saved("index", LABELS),
        Saved("statistics", TensorSpec(())),
    )


def test_cross_entropy_per_pixel_and_unbatched() -> None:
    pixels, labels = TensorSpec((N, C, H, W)), TensorSpec((N, H, W), "int64")
    assert CrossEntropyLoss(reduction="none").output(pixels, labels) == TensorSpec((N, H, W))
    assert CrossEntropyLoss().forward(pixels, labels).flops == 5 * N * C * H * W + N * H * W
    assert CrossEntropyLoss().forward(TensorSpec((C,)), TensorSpec((), "int64")).flops == 5 * C + 1


def test_nll_is_one_per_sample() -> None:
    assert NLLLoss().forward(LOGITS, LABELS) == NLLLoss().backward(LOGITS, LABELS).total == Cost(flops=N)
    assert NLLLoss().saved(LOGITS, LABELS)[0] == Saved("input", LOGITS)


# Operators per element: forward, backward; each for the reductions mean, sum and none.
@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("MSELoss", (1, 1, 1), (1, 1, 1)),
        ("SmoothL1Loss", (1, 1, 1), (1, 1, 1)),
        ("HuberLoss", (1, 1, 1), (1, 1, 1)),
        ("SoftMarginLoss", (1, 1, 1), (1, 1, 1)),
        ("BCELoss", (1, 1, 1), (1, 1, 1)),
        ("BCEWithLogitsLoss", (1, 1, 1), (4, 3, 3)),
        ("L1Loss", (3, 3, 2), (3, 2, 2)),
        ("PoissonNLLLoss", (4, 4, 3), (4, 3, 3)),
        ("KLDivLoss", (4, 4, 3), (3, 2, 2)),
    ],
)
def test_elementwise_losses(name: str, forward: tuple[int, ...], backward: tuple[int, ...]) -> None:
    for at, reduction in enumerate(("mean", "sum", "none")):
        layer = getattr(loss, name)(reduction=reduction)
        assert layer.forward(X, T).flops == forward[at] * E
        assert layer.backward(X, T).total.flops == backward[at] * E
        assert layer.output(X, T).shape == ((N, C) if reduction == "none" else ())
        assert (layer.kind, layer.parameters, layer.buffers) == ("loss", (), ())


def test_the_mean_over_the_batch_is_one_division_each_way() -> None:
    divergence = KLDivLoss(reduction="sum", batch_mean=True)
    assert divergence.forward(X, T).flops == 4 * E + 1
    assert divergence.backward(X, T).total.flops == 2 * E + 1
    with pytest.raises(ValueError, match="batch_mean divides a sum"):
        KLDivLoss(batch_mean=True)


def test_what_losses_save() -> None:
    assert MSELoss().saved(X, T) == (Saved("input", X), Saved("input", T))
    assert L1Loss().saved(X, T) == (Saved("intermediate", X),)
    assert KLDivLoss().saved(X, T) == (Saved("input", T),)
    assert loss.PoissonNLLLoss().saved(X, T) == (Saved("input", T), Saved("intermediate", X))


def test_targets_have_no_gradient_here() -> None:
    assert MSELoss().backward(X, T, needs_input_grad=False).total == Cost()
    assert MSELoss().backward(X, T, needs_input_grad=(True, False)).input_gradients == (X, None)
    with pytest.raises(ValueError, match="no closed form for a target's gradient"):
        MSELoss().backward(X, T, needs_input_grad=(True, True))


def test_inputs_that_do_not_fit_raise() -> None:
    with pytest.raises(ShapeError, match=r"MSELoss expects one shape, got \(4, 5\) and \(4, 1\)"):
        MSELoss().forward(X, TensorSpec((N, 1)))
    with pytest.raises(ShapeError, match=r"CrossEntropyLoss expects class indices \(4,\) for \(4, 5\)"):
        CrossEntropyLoss().forward(LOGITS, TensorSpec((C,), "int64"))
    with pytest.raises(ShapeError, match="takes class indices, got a target of float32"):
        CrossEntropyLoss().forward(LOGITS, TensorSpec((N,)))
    with pytest.raises(ValueError, match="reduction must be"):
        BCEWithLogitsLoss(reduction="median")  # type: ignore[arg-type]
