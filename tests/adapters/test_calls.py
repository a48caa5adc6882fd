"""How modules are called: several times, with several inputs, under several modes; what closed forms then say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import torchtally
from torchtally import Profile

from .running import Calling, agreed, differences, step, total

BATCH, FEATURES = 2, 8


def data(*shape: int, grad: bool = False) -> Tensor:
    return torch.rand(*(shape or (BATCH, 5, FEATURES))).requires_grad_(grad)


def linear() -> nn.Linear:
    return nn.Linear(FEATURES, FEATURES)


def once(*rows: int) -> int:
    """FLOPs of the products of `linear()` on that many rows."""
    return 2 * sum(rows) * FEATURES * FEATURES


def holds(run: Profile, *named: str) -> None:
    """No row disagrees; modules of these paths, and no others, are not compared in full."""
    comparison = run.compare()
    assert differences(comparison) == []
    assert set(comparison.not_compared) - {""} == set(named)


def why(run: Profile, path: str) -> str:
    return run.compare().not_compared[path]


# Several calls ------------------------------------------------------------------------------------------------------


def test_calls_of_several_shapes_add_up() -> None:
    model = Calling(lambda self, x: total([self.it(x), self.it(x[:1]), self.it(x[:1, :2]), self.it(x)]), it=linear())
    run = step(model, data())
    holds(run)
    assert agreed(run.compare(), "it", "forward")["matmul_flops"] == once(10, 5, 2, 10)
    assert agreed(run.compare(), "it", "backward")["matmul_flops"] == once(10, 5, 2, 10), "the weights' gradient alone"


def test_a_backward_of_some_calls() -> None:
    """Of one shape: how many, is enough. Of several: which, shows in the gradients' shapes."""
    alike = Calling(lambda self, x: self.it(x) + self.it(x).detach(), it=linear())
    holds(run := step(alike, data()))
    assert agreed(run.compare(), "it", "backward")["matmul_flops"] == once(10)

    def forward(self: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.it(x[:1])
        return self.it(x)

    holds(run := step(Calling(forward, it=linear()), data()))
    assert agreed(run.compare(), "it", "backward")["matmul_flops"] == once(10)


def test_a_backward_of_some_calls_that_differ_otherwise() -> None:
    """One call's input needs a gradient, the other's does not, and one of them had a backward: which?"""

    def forward(self: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.it(x)
        return self.it(self.before(x))

    run = step(Calling(forward, before=linear(), it=linear()), data())
    holds(run, "it")
    assert why(run, "it") == "backward: a gradient came to 1 of 2 calls, which differ"
    assert agreed(run.compare(), "it", "forward")["matmul_flops"] == 2 * once(10)


def test_a_call_whose_result_is_not_used() -> None:
    model = Calling(lambda self, x: (self.unused(x), self.it(x))[1], it=linear(), unused=linear())
    run = step(model, data(grad=True))
    holds(run)
    assert not agreed(run.compare(), "unused", "backward").get("matmul_flops")


def test_backward_twice_over_one_graph() -> None:
    model = nn.Sequential(linear(), nn.ReLU(), linear())
    with torchtally.profile(model) as run:
        loss = model(data()).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    holds(run)
    assert agreed(run.compare(), "2", "backward")["matmul_flops"] == 2 * 2 * once(10)


def test_two_heads_of_one_trunk() -> None:
    def forward(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self.trunk(x)
        return self.one(trunk), self.two(self.between(trunk))

    model = Calling(forward, trunk=linear(), one=linear(), between=linear(), two=linear())
    with torchtally.profile(model) as run:
        total(model(data())).backward()
    holds(run)


# Gradients that were not asked for ------------------------------------------------------------------------------------


def test_gradients_taken_apart_from_parameters_are_named() -> None:
    """autograd.grad accumulates nothing: that the weights' gradients were not computed does not show."""
    model = nn.Sequential(linear(), nn.ReLU(), linear())
    with torchtally.profile(model) as run:
        x = data(grad=True)
        torch.autograd.grad(model(x).sum(), x)
    holds(run, "0", "2")
    assert "no gradient was accumulated for weight" in why(run, "0")


def test_chosen_inputs_of_backward_are_named() -> None:
    model = nn.Sequential(linear(), linear())
    with torchtally.profile(model) as run:
        model(data()).sum().backward(inputs=list(model[1].parameters()))
    holds(run, "1")
    assert "its input needs a gradient, and none was seen to leave it" in why(run, "1")


def test_parts_that_are_frozen() -> None:
    model = nn.Sequential(linear(), linear(), linear(), linear())
    model[0].requires_grad_(False)
    model[1].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    run = step(model, data())
    holds(run)
    compared = run.compare()
    assert agreed(compared, "0", "backward") == {}
    assert agreed(compared, "1", "backward")["flops"] == 10 * FEATURES, "the bias's sums"
    assert agreed(compared, "2", "backward")["flops"] == 2 * once(10)
    assert agreed(compared, "2", "backward")["parameter_gradient_bytes"] == 4 * FEATURES**2


def test_some_weights_of_one_layer_frozen_are_named() -> None:
    gru = nn.GRU(FEATURES, FEATURES)
    gru.weight_ih_l0.requires_grad_(False)
    run = step(Calling(lambda self, x: self.it(x), it=gru), data())
    holds(run, "it")
    assert why(run, "it") == "backward: trained are weight_hh_l0 alone"


def test_a_shared_weight_is_the_first_holders() -> None:
    model = nn.Sequential(linear(), linear())
    model[1].weight = model[0].weight
    run = step(model, data())
    holds(run)
    of = {path: agreed(run.compare(), path, "backward")["parameter_gradient_bytes"] for path in "01"}
    assert of == {"0": 4 * (FEATURES**2 + FEATURES), "1": 4 * FEATURES}


# Modes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(reentrant: bool) -> None:
    block = nn.Sequential(linear(), nn.ReLU(), linear())
    model = Calling(
        lambda self, x: self.after(checkpoint(self.block, self.before(x), use_reentrant=reentrant)),
        before=linear(),
        block=block,
        after=linear(),
    )
    run = step(model, data())
    holds(run)
    compared = run.compare()
    assert agreed(compared, "block.0", "recompute")["matmul_flops"] == once(10)
    assert agreed(compared, "block.0", "backward")["matmul_flops"] == 2 * once(10)
    # The newer kind stops when it has what it needs: before the last module is through.
    assert bool(agreed(compared, "block.2", "recompute")) is reentrant


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode: Callable[[], Any]) -> None:
    model = nn.Sequential(nn.Conv1d(5, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)).eval()
    with mode():
        run = step(model, data())
    holds(run)
    assert {row.phase for row in run.compare().rows} == {"forward"}


def test_autocast_computes_in_another_dtype() -> None:
    model = nn.Sequential(nn.Conv1d(5, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 8), nn.LayerNorm(8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run = step(model, data())
    holds(run)
    compared = run.compare()
    assert agreed(compared, "0", "forward")["activation_bytes"] == 2 * BATCH * 4 * 6
    assert agreed(compared, "4", "forward")["activation_bytes"] == 2 * BATCH * 8
    assert agreed(compared, "3", "backward")["parameter_gradient_bytes"] == 4 * (24 * 8 + 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    model = nn.Sequential(linear(), nn.LayerNorm(FEATURES), nn.GELU(), linear()).to(dtype)
    holds(step(model, data().to(dtype)))


@pytest.mark.filterwarnings("ignore:Complex modules")
def test_complex_arithmetic_is_named() -> None:
    model = nn.Sequential(linear().to(torch.complex64))
    with torchtally.profile(model) as run:
        model(torch.ones(3, FEATURES, dtype=torch.complex64))
    assert "real arithmetic" in why(run, "0")


def test_another_mode_within_the_block_is_named() -> None:
    model = nn.Sequential(linear(), nn.Dropout(0.5))
    with torchtally.profile(model) as run:
        model(data()).sum().backward()
        model.eval()
        model(data())
    holds(run, "1")
    assert "ran 1 times in 2 calls" in why(run, "1")


def test_a_mode_changed_for_the_whole_block_is_named() -> None:
    model = nn.Sequential(linear(), nn.Dropout(0.5))
    with torchtally.profile(model) as run:
        model.eval()
        model(data())
    assert "between training and evaluation" in why(run, "1")


def test_writing_in_place() -> None:
    """Into a view, the gradient of what was there does not show."""
    model = nn.Sequential(nn.Conv1d(5, 4, 3), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Conv1d(4, 4, 1))
    holds(step(model, data()))
    onto_a_view = nn.Sequential(nn.Conv1d(5, 4, 3), nn.Flatten(), nn.Dropout(0.5, inplace=True), nn.Linear(24, 2))
    run = step(onto_a_view, data())
    assert differences(run.compare()) == []
    assert set(run.compare().not_compared) <= {"2"}


def test_channels_last() -> None:
    layout = {"memory_format": torch.channels_last}
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))
    holds(step(model.to(**layout), data(2, 3, 9, 9).to(**layout)))


def test_an_output_size_given_with_the_call() -> None:
    up = nn.ConvTranspose2d(3, 4, 3, stride=2)
    holds(step(Calling(lambda self, x: self.it(x, output_size=(12, 11)), it=up), data(2, 3, 5, 5)))


# Attention ------------------------------------------------------------------------------------------------------------


def attention(**settings: Any) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(FEATURES, 2, batch_first=True, **settings)


CAUSAL = torch.triu(torch.full((5, 5), float("-inf")), 1)
PADDED = torch.tensor([[False, False, False, True, True], [False] * 5])

ATTENDED: dict[str, Callable[[Any, Tensor], Any]] = {
    "to itself": lambda self, x: self.it(x, x, x),
    "by keyword": lambda self, x: self.it(query=x, key=x, value=x),
    "to a memory": lambda self, x: self.it(x, x[:, :3] * 2, x[:, :3] * 3),
    "to one memory": lambda self, x: self.it(x, m := x[:, :3] * 2, m),
    "with other values": lambda self, x: self.it(x, x, x * 2),
    "without weights": lambda self, x: self.it(x, x, x, need_weights=False),
    "with each head's weights": lambda self, x: self.it(x, x, x, average_attn_weights=False),
    "masked": lambda self, x: self.it(x, x, x, attn_mask=CAUSAL),
    "masked, without weights": lambda self, x: self.it(x, x, x, attn_mask=CAUSAL, need_weights=False),
    "padded": lambda self, x: self.it(x, x, x, key_padding_mask=PADDED),
    "with both masks": lambda self, x: self.it(
        x, x, x, attn_mask=CAUSAL.isinf(), key_padding_mask=PADDED, need_weights=False
    ),
    "causal": lambda self, x: self.it(x, x, x, attn_mask=CAUSAL, is_causal=True, need_weights=False),
    "without batch": lambda self, x: self.it(x[0], x[0], x[0]),
}


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("how", ATTENDED)
def test_attention(how: str, dropout: float) -> None:
    """With dropout the operators are others: a fused kernel does without it on CPU."""
    for grad in (True, False):
        holds(step(Calling(ATTENDED[how], it=attention(dropout=dropout)), data(grad=grad)))


def test_a_gradient_for_the_weights() -> None:
    model = Calling(lambda self, x: total(self.it(x, x, x)), it=attention())
    holds(step(model, data()))


def test_two_inputs_of_which_one_needs_a_gradient_are_named() -> None:
    model = Calling(lambda self, x: self.it(x, x, x.detach() * 2), it=attention())
    run = step(model, data(grad=True))
    holds(run, "it")
    assert "which of two inputs is the keys" in why(run, "it")


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("weights", [True, False])
def test_attention_in_one_operator(weights: bool, masked: bool) -> None:
    given = {"attn_mask": CAUSAL.isinf()} if masked else {}
    model = Calling(lambda self, x: self.it(x, x, x, need_weights=weights, **given), it=attention()).eval()
    with torch.no_grad():
        run = step(model, data())
    assert "aten._native_multi_head_attention.default" in {facts.signature.operator for facts in run.trace.operators}
    holds(run)


def encoder_layer(**settings: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(FEATURES, 2, 16, batch_first=True, **settings)


def test_an_encoder_layer_is_its_childrens_and_what_is_left() -> None:
    run = step(nn.Sequential(encoder_layer()), data())
    holds(run)
    compared = run.compare()
    elements = BATCH * 5 * FEATURES
    assert agreed(compared, "0", "forward")["flops"] == 2 * elements + BATCH * 5 * 16, "residual sums and ReLU"
    assert agreed(compared, "0", "forward")["parameters"] == 0
    assert agreed(compared, "0.self_attn.out_proj", "forward")["parameters"] == FEATURES**2 + FEATURES
    gradient = agreed(compared, "0.self_attn.out_proj", "backward")["parameter_gradient_bytes"]
    assert gradient == 4 * (FEATURES**2 + FEATURES)


def test_an_encoder_layer_in_one_operator_is_all_its_own() -> None:
    with torch.no_grad():
        run = step(nn.Sequential(encoder_layer().eval()), data())
    holds(run)
    compared = run.compare()
    products = 4 * once(10) + 2 * 2 * 10 * FEATURES * 16 + 2 * 2 * BATCH * 5 * 5 * FEATURES
    assert agreed(compared, "0", "forward")["matmul_flops"] == products
    assert agreed(compared, "0.linear1", "forward") == {
        "parameters": 16 * FEATURES + 16,
        "parameter_bytes": 4 * (16 * FEATURES + 16),
    }


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("part", ["self_attn", "linear1", "linear2", "norm1"])
def test_a_frozen_part_of_an_encoder_layer(part: str, norm_first: bool) -> None:
    layer = encoder_layer(norm_first=norm_first)
    getattr(layer, part).requires_grad_(False)
    holds(step(nn.Sequential(layer), data()))
    layer.requires_grad_(False)
    getattr(layer, part).requires_grad_(True)
    holds(step(nn.Sequential(layer), data()))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_named() -> None:
    encoder = nn.TransformerEncoder(encoder_layer(), 1).eval()
    with torch.no_grad():
        run = step(encoder, data(), src_key_padding_mask=PADDED)
    assert differences(run.compare()) == []
    assert "layers.0" in run.compare().not_compared


# Recurrent ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("pick", [0, 1])
def test_the_output_or_the_last_state_alone(kind: Any, pick: int, precision: torch.dtype) -> None:
    layer = kind(FEATURES, 4, 2, bidirectional=True).to(precision)
    model = Calling(lambda self, x: total(self.it(x)[pick]), it=layer)
    for trained in (True, False):
        layer.requires_grad_(trained)
        holds(step(model, data(grad=True).to(precision)))


def test_states_that_need_gradients() -> None:
    for flags in ((True, False), (False, True), (True, True)):
        hidden, cell = (data(1, 5, 4, grad=flag).double() for flag in flags)
        for trained in (True, False):
            layer = nn.LSTM(FEATURES, 4).double().requires_grad_(trained)
            holds(step(Calling(lambda self, x, h, c: self.it(x, (h, c)), it=layer), data().double(), hidden, cell))


def test_a_packed_sequence_is_named() -> None:
    packed = pack_padded_sequence(data(), [5, 3], batch_first=True)
    run = step(Calling(lambda self, x: self.it(x)[1][0], it=nn.LSTM(FEATURES, 4, batch_first=True)), packed)
    holds(run, "it")
    assert "packed sequence" in why(run, "it")


# Losses within the model ----------------------------------------------------------------------------------------------


def test_losses_of_a_model() -> None:
    labels = torch.tensor([0, 1, 2])
    with_target = Calling(lambda self, x: self.loss(self.it(x), labels), it=linear(), loss=nn.CrossEntropyLoss())
    holds(step(with_target, data(3, FEATURES)))
    of_its_input = Calling(lambda self, x: self.loss(self.it(x), x), it=linear(), loss=nn.MSELoss())
    holds(step(of_its_input, data()))


def test_targets_that_theory_does_not_know_are_named() -> None:
    probabilities = Calling(lambda self, x: self.loss(self.it(x), x), it=linear(), loss=nn.CrossEntropyLoss())
    run = step(probabilities, data(3, FEATURES))
    holds(run, "loss")
    assert "expects class indices" in why(run, "loss")
    learnt = Calling(
        lambda self, x: self.loss(self.it(x), self.other(x)), it=linear(), other=linear(), loss=nn.MSELoss()
    )
    run = step(learnt, data())
    holds(run, "loss")
    assert "target's gradient" in why(run, "loss")
