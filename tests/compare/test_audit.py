"""The audit's answers, pinned: which claims the run contradicts, what it would take to judge the rest, and that theory
and run tally on every configuration."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from torchtally.models.cnn import CNNConfig
from torchtally.profiler import cli
from torchtally.profiler.audit import walkthrough
from torchtally.profiler.audit.reasons import UNKNOWN
from torchtally.profiler.audit.runs import Observed, observe
from torchtally.profiler.audit.walkthrough import Audit, audit, layer_rows, network_of
from torchtally.profiler.compare import Comparison, ComparisonRow, is_failure
from torchtally.theory.claims.reader import load_claims
from torchtally.theory.tensor import TensorSpec

from .evidence import SEPARABLE, WALKTHROUGH, key, seen

IMAGES = "the images need no gradient, so autograd computes none for the first convolution's input"
LAYOUT = "PyTorch keeps a linear layer's weight as (out, in) and computes its gradient as dy^T x"
TIES = "PyTorch gives it to one element of a tie"

# id: (the right figure, and why: what the reason must say). The culprit is the claim, every time.
CONTRADICTED = {
    "L139.block1.conv.forward.multiply_adds_per_output": ("the run has 27 operations", "54 is FLOPs"),
    "L230.block1.forward.flops": ("the run has 63,963,136 FLOPs", "adds up 56.6 M of line 226"),
    "L331.block2.forward.flops": ("the run has 305,659,904 FLOPs", "adds up 302.0 M of line 327"),
    "L431.block3.forward.flops": ("the run has 303,824,896 FLOPs", "adds up 302.0 M of line 427"),
    "L471.fc.forward.rule.linear.input_times_weight": ("PyTorch keeps W as (10, 128)", "y = x W^T + b"),
    "L524.fc.backward.rule.linear.weight_gradient": ("the run's gradient is (10, 128)", "its transpose"),
    "L526.fc.backward.weight_gradient_shape": ("the run has (10, 128)", LAYOUT),
    "L540.fc.backward.rule.linear.input_gradient": ("it is dy W", "dy W^T holds for W laid out (in, out)"),
    "L547.fc.backward.weight_gradient_left_shape": ("the run has (10, 32)", LAYOUT),
    "L547.fc.backward.weight_gradient_right_shape": ("the run has (32, 128)", LAYOUT),
    "L597.block3.pool.backward.rule.maxpool.input_gradient": (TIES, "and got none"),
    "L600.block3.pool.backward.rule.maxpool.input_gradient": (TIES, "and got none"),
    "L601.block3.pool.backward.rule.maxpool.input_gradient": (TIES, "and got none"),
    "L698.block3.backward.flops": ("the run has 605,814,784 FLOPs", "adds up 0.3 M of line 694"),
    "L756.block1.conv.backward.gradient_shape": ("the run has none", IMAGES),
    "L757.block1.conv.backward.gradient_elements": ("the run has 0 elements", IMAGES),
    "L757.block1.conv.backward.gradient_bytes": ("the run has 0 bytes", IMAGES),
    "L757.block1.conv.backward.gradient_bytes.2": ("the run has 0 bytes", IMAGES),
    "L760.block1.conv.backward.flops": ("the run has 56,623,104 FLOPs", IMAGES),
    "L769.block1.conv.backward.gradient_shape": ("the run has none", IMAGES),
    "L769.block1.conv.backward.gradient_bytes": ("the run has 0 bytes", IMAGES),
    "L769.block1.conv.backward.flops": ("the run has 56,623,104 FLOPs", IMAGES),
    "L770.block1.backward.gradient_bytes": ("the run has 12,582,912 bytes (12 MiB)", IMAGES),
    "L770.block1.backward.flops": ("the run has 63,963,136 FLOPs", IMAGES),
    "L795.network.forward.activation_bytes": (
        "the run has 23,872,768 bytes (22.77 MiB)",
        "own rows add up to 22.77",
    ),
    "L795.network.forward.flops": ("the run has 673,595,392 FLOPs", "they add up to 673.45 M"),
    "L814.block1.conv.backward.gradient_shape": ("the run has none", IMAGES),
    "L814.block1.conv.backward.gradient_bytes": ("the run has 0 bytes", IMAGES),
    "L814.block1.conv.backward.flops": ("the run has 56,623,104 FLOPs", IMAGES),
    "L815.network.backward.gradient_bytes": ("the run has 23,871,488 bytes (22.77 MiB)", IMAGES),
    "L815.network.backward.flops": ("the run has 1,277,657,408 FLOPs", IMAGES),
    "L823.kind:convolution.parameters": ("the run has 93,248 parameters", "64 are missing"),
    "L823.kind:convolution.parameter_bytes": ("the run has 372,992 bytes", "4 bytes for each of 93,184"),
    "L832.network.forward.activation_bytes": (
        "the run has 23,872,768 bytes (22.77 MiB)",
        "22.2 MB of line 795",
    ),
    "L832.network.backward.gradient_bytes": ("the run has 23,871,488 bytes (22.77 MiB)", IMAGES),
    "L833.network.training.parameter_bytes": ("the run has 379,944 bytes", "which are held once"),
    "L841.network.forward.flops": ("the run has 673,595,392 FLOPs", "takes over 673.4 M of line 795"),
    "L841.network.forward.flops_share": ("the run has 34.52 %", IMAGES),
    "L842.network.backward.flops": ("the run has 1,277,657,408 FLOPs", IMAGES),
    "L842.network.backward.flops_share": ("the run has 65.48 %", IMAGES),
    "L843.network.training.flops": ("the run has 1,951,252,800 FLOPs", IMAGES),
    "L847.network.rule.backward.weight_updates": ("94,986 FLOPs", "the optimizer's step does that afterwards"),
    "L854.kind:normalization.forward.flops": ("the run has 9,175,040 FLOPs", "adds up 5.2 M of line 782"),
    "L856.kind:pooling.forward.flops": ("the run has 1,900,544 FLOPs", "global average pooling's 65,536 FLOPs"),
    # block1 and block2 hold convolution, ReLU and pool with its indices, block3 is in its ReLU: 20,449,024 B, and the
    # parameters' 379,944 B.
    "L835.network.forward.memory_bytes": ("the run has 20,828,968 bytes", "ReLU keeps its result"),
    # Gradients of two maps of 32 channels at 32x32, of block1's convolution, and of everything behind it.
    "L835.network.backward.memory_bytes": ("the run has 9,144,916 bytes", "as soon as the layer before has used it"),
    "L832.network.training.activation_and_gradient_bytes": ("the run has 21,498,888 bytes", "never held together"),
    "L835.network.training.memory_bytes": ("the run has 21,883,992 bytes", "never held together"),
    "L869.network.forward.memory_bytes": ("the run has 20,828,968 bytes", "ReLU keeps its result"),
    "L870.network.backward.memory_bytes": ("the run has 9,144,916 bytes", "as soon as the layer before has used it"),
    "L871.network.rule.training.stores_both_passes": ("20,449,024 B", "8,388,612 B", "peak at 21,498,888 B"),
    "L882.gap.gap_parameters_saved": ("the run has 19,200 parameters", "20,490 parameters instead of 1,290"),
    "L892.network.extra_block_parameters": ("the run has 296,960 parameters", "295,168 + 512"),
}

INSTRUCTIONS = "takes a count of the instructions that the hardware executes"

NOT_MEASURED = {
    "L136.block1.conv.forward.additions_per_output": INSTRUCTIONS,
    "L137.block1.conv.forward.bias_additions_per_output": INSTRUCTIONS,
    "L168.block1.batchnorm.forward.affine_flops_per_element": INSTRUCTIONS,
    "L455.gap.forward.additions_per_output": INSTRUCTIONS,
    "L456.gap.forward.divisions_per_output": INSTRUCTIONS,
    "L487.fc.forward.additions_per_output": INSTRUCTIONS,
    "L488.fc.forward.bias_additions_per_output": INSTRUCTIONS,
}

CLAIMS, LAYERS = 653, 210


@pytest.fixture(scope="module")
def found() -> Audit:
    return audit()


# Claims ---------------------------------------------------------------------------------------------------------------


def with_verdict(found: Audit, verdict: str) -> dict[str, ComparisonRow]:
    return {entry.claim.id: entry.row for entry in found.claims if entry.row.verdict == verdict}


def test_what_the_run_contradicts(found: Audit) -> None:
    assert set(with_verdict(found, "contradicted")) == set(CONTRADICTED)


@pytest.mark.parametrize("name", CONTRADICTED)
def test_the_right_figure_the_reason_and_the_culprit(found: Audit, name: str) -> None:
    row = with_verdict(found, "contradicted")[name]
    for words in CONTRADICTED[name]:
        assert words in row.reason
    assert row.wrong == "claim"


def test_what_is_not_measured_and_what_it_would_take(found: Audit) -> None:
    rows = with_verdict(found, "not measured")
    assert set(rows) == set(NOT_MEASURED)
    for name, words in NOT_MEASURED.items():
        assert words in rows[name].reason
        assert rows[name].count is None and rows[name].measured is None


def test_ratios_of_memory_agree_as_coarsely_as_they_are_printed(found: Audit) -> None:
    """21,883,992 B at N = 32: 12,645,932 B in half precision, where the pools' indices, 3,670,016 B, stay as they are;
    86,371,416 B at 64x64."""
    rows = with_verdict(found, "agrees")
    half = rows["L886.network.half_precision_memory_reduction"]
    assert half.measured == half.theory == Fraction(21_883_992, 12_645_932)
    assert "indices stay int64; under autocast it is 1.66x" in half.reason
    doubled = rows["L890.network.resolution_doubled_memory_ratio"]
    assert doubled.measured == doubled.theory == Fraction(86_371_416, 21_883_992)


def test_checkpointing_trades_flops_for_bytes(found: Audit) -> None:
    row = with_verdict(found, "agrees")["L887.network.rule.checkpointing.trades_computation_for_memory"]
    assert "21,883,992 B without it and 17,534,808 B" in row.reason
    assert row.theory == row.measured == "holds"
    blocks = 673_595_392 - 65_536 - 81_920  # all of forward but global average pooling and the classifier
    assert f"computes {blocks:,} FLOPs again" in row.reason


def test_the_counts_of_each_verdict(found: Audit) -> None:
    assert found.summary() == {"agrees": 803, "contradicted": 53, "not measured": 7}
    assert Counter(entry.row.verdict for entry in found.claims) == {
        "agrees": CLAIMS - len(CONTRADICTED) - len(NOT_MEASURED),
        "contradicted": len(CONTRADICTED),
        "not measured": len(NOT_MEASURED),
    }
    assert (len(found.claims), len(found.layers), len(found.rows)) == (CLAIMS, LAYERS, CLAIMS + LAYERS)


def test_every_claim_is_judged_once_and_in_order(found: Audit) -> None:
    assert [entry.claim.id for entry in found.claims] == [claim.id for claim in load_claims()]


def test_every_claim_has_both_answers(found: Audit) -> None:
    for entry in found.claims:
        row = entry.row
        assert row.verdict in ("agrees", "contradicted", "not measured")
        assert row.arithmetic in ("exact", "rounded", "drift", "wrong")
        assert row.claim == entry.claim.printed
        assert (row.path, row.phase, row.quantity) == (entry.claim.layer, entry.claim.phase, entry.claim.quantity)


def test_no_reason_is_missing_or_a_placeholder(found: Audit) -> None:
    for entry in found.claims:
        if entry.row.verdict != "agrees":
            assert entry.row.reason
        assert UNKNOWN not in entry.row.reason


def test_what_simply_agrees_names_no_culprit(found: Audit) -> None:
    assert {row.wrong for row in with_verdict(found, "agrees").values()} == {None}


def test_what_the_run_bears_out_though_the_document_does_not(found: Audit) -> None:
    """Seven named operations, and 5 by convention: its arithmetic is wrong, and the count has 5, by the convention. And
    y = Wx + b, as PyTorch has it, where the document's own W is (in, out)."""
    agreeing = with_verdict(found, "agrees")
    assert {name for name, row in agreeing.items() if row.arithmetic in ("wrong", "drift")} == {
        "L170.block1.batchnorm.forward.flops_per_element",
        "L515.fc.forward.rule.linear.weight_times_input",
    }


def test_nothing_fails(found: Audit) -> None:
    assert found.ok and found.failures == ()


# Layers ---------------------------------------------------------------------------------------------------------------

# The walkthrough's network, by hand: path -> output, parameters, forward FLOPs, backward FLOPs of a real run.
TABLE: dict[str, tuple[tuple[int, ...], int, int, int]] = {
    "block1.conv": ((32, 32, 32, 32), 896, 56_623_104, 56_623_104),
    "block1.batchnorm": ((32, 32, 32, 32), 64, 5_242_880, 5_242_880),
    "block1.relu": ((32, 32, 32, 32), 0, 1_048_576, 1_048_576),
    "block1.pool": ((32, 32, 16, 16), 0, 1_048_576, 1_048_576),
    "block2.conv": ((32, 64, 16, 16), 18_496, 301_989_888, 603_979_776),
    "block2.batchnorm": ((32, 64, 16, 16), 128, 2_621_440, 2_621_440),
    "block2.relu": ((32, 64, 16, 16), 0, 524_288, 524_288),
    "block2.pool": ((32, 64, 8, 8), 0, 524_288, 524_288),
    "block3.conv": ((32, 128, 8, 8), 73_856, 301_989_888, 603_979_776),
    "block3.batchnorm": ((32, 128, 8, 8), 256, 1_310_720, 1_310_720),
    "block3.relu": ((32, 128, 8, 8), 0, 262_144, 262_144),
    "block3.pool": ((32, 128, 4, 4), 0, 262_144, 262_144),
    "gap": ((32, 128), 0, 65_536, 65_536),
    "fc": ((32, 10), 1_290, 81_920, 164_160),
}
PRODUCTS = ("block1.conv", "block2.conv", "block3.conv")
QUANTITIES = {
    "forward": "input_shape output_shape parameters parameter_bytes activation_bytes saved_bytes flops matmul_flops",
    "backward": "gradient_shape output_gradient_shape gradient_bytes parameter_gradient_bytes flops matmul_flops "
    "bias_flops",
}


def test_every_quantity_of_every_layer_has_a_row_that_agrees(found: Audit) -> None:
    expected = [
        f"{path} {phase} {quantity}"
        for path, phase in product(TABLE, QUANTITIES)
        for quantity in QUANTITIES[phase].split()
    ]
    assert sorted(key(row) for row in found.layers) == sorted(expected)
    assert len(expected) == LAYERS
    assert {row.verdict for row in found.layers} == {"agrees"}


@pytest.mark.parametrize("path", TABLE)
def test_the_figures_by_hand(found: Audit, path: str) -> None:
    rows = {key(row): row for row in found.layers}
    output, parameters, forward, backward = TABLE[path]
    expected = {
        "forward output_shape": output,
        "forward parameters": parameters,
        "forward flops": forward,
        "backward flops": backward,
        "forward matmul_flops": forward if path in (*PRODUCTS, "fc") else 0,
        "backward matmul_flops": {"fc": 163_840}.get(path, backward if path in PRODUCTS else 0),
    }
    for name, figure in expected.items():
        row = rows[f"{path} {name}"]
        assert (row.theory, row.count) == (figure, figure)
        assert row.measured in (None, figure)


def test_which_witnesses_speak_of_what(found: Audit) -> None:
    """Theory and count of everything; the allocator of shapes and bytes; FlopCounterMode of products."""
    third = {(row.phase, row.quantity) for row in found.layers if row.measured is not None}
    silent = {(row.phase, row.quantity) for row in found.layers if row.measured is None}
    assert all(row.theory is not None and row.count is not None for row in found.layers)
    assert not third & silent
    assert silent == {
        ("forward", "input_shape"),
        ("forward", "parameters"),
        ("forward", "flops"),
        ("backward", "flops"),
        ("backward", "bias_flops"),
    }


MIB = 2**20
# Each storage with the first layer that keeps it: a convolution its input; BatchNorm its input, and the mean and the
# inverse deviation per channel; ReLU its output, the pooling's input; pooling 8 bytes for the place of each maximum.
SAVED = {
    "block1.conv": 32 * 3 * 32 * 32 * 4,
    "block1.batchnorm": 4 * MIB + 2 * 32 * 4,
    "block1.relu": 4 * MIB,
    "block1.pool": 2 * MIB,
    "block2.conv": 1 * MIB,
    "block2.batchnorm": 2 * MIB + 2 * 64 * 4,
    "block2.relu": 2 * MIB,
    "block2.pool": 1 * MIB,
    "block3.conv": MIB // 2,
    "block3.batchnorm": 1 * MIB + 2 * 128 * 4,
    "block3.relu": 1 * MIB,
    "block3.pool": MIB // 2,
    "gap": 0,
    "fc": 32 * 128 * 4,
}


def test_what_is_kept_for_backward_by_hand(found: Audit) -> None:
    rows = {row.path: row for row in found.layers if row.quantity == "saved_bytes"}
    assert {path: (row.theory, row.count, row.measured) for path, row in rows.items()} == {
        path: (figure,) * 3 for path, figure in SAVED.items()
    }
    assert found.observed.ledger.totals["saved_bytes"] == sum(SAVED.values())


def test_the_totals_by_hand(found: Audit) -> None:
    totals = found.observed.ledger.totals
    expected = {
        "parameters": 94_986,
        "parameter_bytes": 379_944,
        "activation_bytes": 23_872_768,
        "forward_flops": 673_595_392,
        "forward_matmul_flops": 660_684_800,
        "backward_flops": 1_277_657_408,
        "backward_matmul_flops": 1_264_746_496,
        "gradient_bytes": 23_871_488,
        "parameter_gradient_bytes": 379_944,
    }
    assert {name: totals[name] for name in expected} == expected


# Every configuration --------------------------------------------------------------------------------------------------

SIZES = ((32, 32), (64, 64), (33, 47))
KINDS = ("standard", "depthwise-separable")
EVERYTHING = list(product((1, 2, 32, 100), SIZES, (False, True), KINDS))


def rows_of(observed: Observed) -> tuple[ComparisonRow, ...]:
    config = observed.config
    network = network_of(config)
    images = TensorSpec((observed.batch_size, config.in_channels, *config.resolution))
    return tuple(layer_rows(observed, network, network.predict(images)))


@pytest.mark.parametrize(
    "batch_size, resolution, in_place, convolution",
    EVERYTHING,
    ids=[f"N={n} {h}x{w} {'in place' if i else 'apart'} {kind}" for n, (h, w), i, kind in EVERYTHING],
)
def test_theory_and_run_tally(batch_size: int, resolution: tuple[int, int], in_place: bool, convolution: Any) -> None:
    config = CNNConfig(resolution=resolution, in_place=in_place, convolution=convolution)
    rows = rows_of(observe(config, batch_size))
    separable = convolution != "standard"
    assert len(rows) == 15 * (17 if separable else 14)
    assert not any(map(is_failure, rows))
    contradicted = {key(row): row.wrong for row in rows if row.verdict != "agrees"}
    defects = [f"block{n}.depthwise backward matmul_flops" for n in (1, 2, 3)] if separable else []
    assert contradicted == dict.fromkeys(defects, "FlopCounterMode (known defect)")
    pooled = next(row for row in rows if key(row) == "gap forward output_shape")
    assert (pooled.theory, pooled.count, pooled.measured) == ((batch_size, 128),) * 3


def test_the_known_defect_by_hand() -> None:
    """With g groups the weight's gradient comes out g times too large: 3 of 1; 1 + 32 of 2; 1 + 64 of 2."""
    rows = {key(row): row for row in rows_of(seen(SEPARABLE, 32)) if row.verdict == "contradicted"}
    figures = {name.split(".")[0]: (row.theory, row.count, row.measured) for name, row in rows.items()}
    once = {1: 2 * 32 * 3 * 32 * 32 * 9, 2: 2 * 32 * 32 * 16 * 16 * 9, 3: 2 * 32 * 64 * 8 * 8 * 9}
    assert figures == {
        "block1": (once[1], once[1], 3 * once[1]),
        "block2": (2 * once[2], 2 * once[2], 33 * once[2]),
        "block3": (2 * once[3], 2 * once[3], 65 * once[3]),
    }
    assert all(row.verdict == "contradicted" and "ignores groups" in row.reason for row in rows.values())


@pytest.mark.parametrize("settings", [{"batch_size": 2}, {"batch_size": 1, "resolution": (33, 47)}], ids=str)
def test_other_sizes_have_no_claims(settings: dict[str, Any]) -> None:
    other = audit(**settings)
    assert other.claims == ()
    assert other.summary() == {"agrees": LAYERS}
    assert other.ok


def test_images_too_small_for_the_network() -> None:
    with pytest.raises(ValueError, match="7x32 is too small"):
        audit(resolution=(7, 32))


# What makes a run fail ------------------------------------------------------------------------------------------------

FAILING = {
    ("agrees", None): False,
    ("within", None): False,
    ("not measured", None): False,
    ("contradicted", "claim"): False,
    ("contradicted", "FlopCounterMode (known defect)"): False,
    ("contradicted", "FlopCounterMode"): True,
    ("contradicted", "theory"): True,
    ("contradicted", "count"): True,
    ("contradicted", "measured"): True,
    ("contradicted", "claim, theory"): True,
    ("contradicted", "claim, FlopCounterMode"): True,
    ("contradicted", None): True,
    ("unexplained", None): True,
}


def a_row(verdict: Any, wrong: str | None) -> ComparisonRow:
    return ComparisonRow(path="fc", phase="forward", quantity="flops", verdict=verdict, wrong=wrong)


@pytest.mark.parametrize("answer, fails", FAILING.items(), ids=map(str, FAILING))
def test_is_failure(answer: tuple[str, str | None], fails: bool) -> None:
    row = a_row(*answer)
    assert is_failure(row) is fails
    assert Comparison(rows=(row,), not_compared={}).ok is not fails


def test_an_audit_fails_by_its_layers_and_by_its_claims(found: Audit) -> None:
    failing = a_row("unexplained", None)
    entry = replace(found.claims[0], row=failing)
    assert replace(found, layers=(*found.layers, failing)).failures == (failing,)
    assert replace(found, claims=(*found.claims, entry)).failures == (failing,)
    assert not replace(found, layers=(failing,)).ok


# The command ----------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", "--device", "cpu", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def theory_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    right = walkthrough.from_prediction

    def wrong(prediction: Any) -> Any:
        statements = {place: dict(figures) for place, figures in right(prediction).items()}
        statements["gap", "forward"]["flops"] += 1
        return statements

    monkeypatch.setattr(walkthrough, "from_prediction", wrong)


def dispatcher_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    right = walkthrough.from_dispatcher

    def wrong(*arguments: Any) -> Any:
        statements = {place: dict(figures) for place, figures in right(*arguments).items()}
        statements["fc", "forward"]["matmul_flops"] *= 2
        return statements

    monkeypatch.setattr(walkthrough, "from_dispatcher", wrong)


def claims_err(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = load_claims()
    wrong = [replace(claim, value=1) if claim.id == "L083.network.itemsize" else claim for claim in others]
    monkeypatch.setattr(walkthrough, "load_claims", lambda: (first, *wrong))


@pytest.mark.parametrize("witness, status", [(theory_errs, 1), (dispatcher_errs, 1), (claims_err, 0)])
def test_the_exit_status(witness: Any, status: int, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    witness(monkeypatch)
    arguments = () if witness is claims_err else ("--batch-size", "1")
    assert run(*arguments) == status
    assert ("do not tally" in capsys.readouterr().out) is (status == 1)


def test_the_exit_status_where_all_is_well(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    assert run("--json", str(path)) == 0
    assert "Theory, count and storage tally." in capsys.readouterr().out
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["summary"] == {"agrees": 803, "contradicted": 53, "not measured": 7}
    answers = {claim["id"]: (claim["verdict"], claim["wrong"]) for claim in written["claims"]}
    assert {name for name, answer in answers.items() if answer == ("contradicted", "claim")} == set(CONTRADICTED)


def test_the_walkthrough_is_audited_at_its_own_settings() -> None:
    assert (walkthrough.WALKTHROUGH, walkthrough.WALKTHROUGH_BATCH) == (WALKTHROUGH, 32)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_no_images(batch_size: int) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        audit(batch_size=batch_size)
