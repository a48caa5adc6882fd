import pytest

from torchtally.theory.cnn import cnn
from torchtally.theory.layer import Parameter
from torchtally.theory.optimizers import SGD, Adam, AdamW, Optimizer, state_bytes

PARAMETERS = cnn().parameters
BYTES, TENSORS = (
    379_944,
    3 * 2 + 3 * 2 + 2,
)  # convolutions, BatchNorms and the classifier have two tensors each


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (SGD(), 0),
        (SGD(momentum=0.9), BYTES),
        (Adam(), 2 * BYTES + 4 * TENSORS),
        (AdamW(), 2 * BYTES + 4 * TENSORS),
        (Adam(amsgrad=True), 3 * BYTES + 4 * TENSORS),
    ],
)
def test_state_of_the_walkthroughs_network(optimizer: Optimizer, expected: int) -> None:
    assert state_bytes(optimizer, PARAMETERS) == expected


def test_state_follows_the_parameters_dtype_and_the_count_does_not() -> None:
    weight = Parameter("weight", (3, 5), "bfloat16")
    assert state_bytes(Adam(), [weight]) == 2 * (15 * 2) + 4
    assert [kept.name for kept in Adam().state(weight)] == ["step", "exp_avg", "exp_avg_sq"]
    assert state_bytes(Adam(), []) == 0
