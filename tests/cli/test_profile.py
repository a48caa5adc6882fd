"""`torchtally profile` and `torchtally report`: targets, options, files and refusals."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import torchtally

COMMAND = Path(sysconfig.get_path("scripts")) / "torchtally"
N, TOKENS, WIDTH, CLASSES, WORDS = 4, 6, 8, 5, 50


def refused(done: Any, words: str) -> None:
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("torchtally: ") and re.search(words, line), line


def kept(done: Any, path: Path) -> torchtally.Run:
    assert (done.status, done.err) == (0, "")
    return torchtally.from_json(path)


# Targets --------------------------------------------------------------------------------------------------------------


def test_a_workload(cli_main: Any, user: str, tmp_path: Path) -> None:
    done = cli_main("profile", f"{user}:build", "--json", "a.json")
    run = kept(done, tmp_path / "a.json")
    assert done.out.startswith(f"Net, training, int64 {N}x{TOKENS}, forward and backward, on cpu, torch ")
    assert run.totals["parameters"] == WORDS * WIDTH + (WIDTH + 1) * CLASSES
    assert run.ledger.row("head").flops == 2 * N * WIDTH * CLASSES


def test_a_workload_of_another_batch_size(cli_main: Any, user: str, tmp_path: Path) -> None:
    run = kept(cli_main("profile", f"{user}:build", "--batch-size", "7", "--json", "a.json"), tmp_path / "a.json")
    assert run.ledger.row("head").output_shape == (7, CLASSES)


def test_a_module_with_inputs(cli_main: Any, user: str, tmp_path: Path) -> None:
    inputs = ("--input", "3x6:int64", "--input", "3x6:bool")
    run = kept(cli_main("profile", f"{user}:Net", *inputs, "--json", "a.json"), tmp_path / "a.json")
    (call,) = [call for call in run.trace.calls if call.path == ""]
    assert [(spec.shape, spec.dtype) for spec in call.inputs] == [((3, 6), "int64"), ((3, 6), "bool")]
    assert run.ledger.row("head", "backward").flops == 2 * 2 * 3 * WIDTH * CLASSES + 3 * CLASSES


def test_a_factory_of_modules(cli_main: Any, user: str) -> None:
    assert "Net, training" in cli_main("profile", f"{user}:wider", "--input", "3x6:int64").out


def test_inference_has_no_backward(cli_main: Any, user: str, tmp_path: Path) -> None:
    done = cli_main("profile", f"{user}:Net", "--input", "3x6:int64", "--eval", "--json", "a.json")
    run = kept(done, tmp_path / "a.json")
    assert "backward_flops" not in run.totals and not run.trace.modules[0].training
    assert "Net, evaluation, int64 3x6, forward, on cpu" in done.out


def test_optimizers(cli_main: Any, user: str, tmp_path: Path) -> None:
    """SGD adds once per parameter; AdamW does what Adam does, and one multiplication for the decay."""
    flops = {}
    for name in ("none", "sgd", "adam", "adamw"):
        arguments = ("profile", f"{user}:Net", "--input", "3x6:int64", "--optimizer", name, "--json", "a.json")
        flops[name] = kept(cli_main(*arguments), tmp_path / "a.json").totals.get("optimizer_flops")
    parameters = WORDS * WIDTH + (WIDTH + 1) * CLASSES
    assert (flops["none"], flops["sgd"]) == (None, parameters)
    assert flops["adamw"] - flops["adam"] == parameters


def test_amp_works_in_bfloat16(cli_main: Any, user: str, tmp_path: Path) -> None:
    done = cli_main("profile", f"{user}:Net", "--input", "3x6:int64", "--amp", "--json", "a.json")
    run = kept(done, tmp_path / "a.json")
    (call,) = [call for call in run.trace.calls if call.path == "head"]
    assert call.outputs[0].dtype == "bfloat16"


@pytest.mark.parametrize("target", ["build", "Net"])
def test_on_fake_tensors_it_counts_the_same(cli_main: Any, user: str, tmp_path: Path, target: str) -> None:
    more = ("--input", "3x6:int64", "--optimizer", "adam") if target == "Net" else ()
    real = kept(cli_main("profile", f"{user}:{target}", *more, "--json", "a.json"), tmp_path / "a.json")
    fake = kept(
        cli_main("profile", f"{user}:{target}", *more, "--device", "meta", "--json", "b.json"), tmp_path / "b.json"
    )
    assert fake.totals == real.totals
    assert fake.ledger.rows == real.ledger.rows


def test_torchvision_on_fake_tensors(cli_main: Any, tmp_path: Path) -> None:
    """ViT draws its weights with the help of values, which fake tensors do not have."""
    path = tmp_path / "a.json"
    arguments = ("profile", "torchvision:vit_b_16", "--batch-size", "1", "--eval", "--device", "meta", "--json", path)
    run = kept(cli_main(*arguments), path)
    # 224 / 16 patches a side, and the class token; 12 layers of 768 features, an MLP of 3,072.
    tokens, width, mlp = 14 * 14 + 1, 768, 3072
    layer = 4 * tokens * width * width + 2 * tokens * tokens * width + 2 * tokens * width * mlp
    patches = 14 * 14 * width * 3 * 16 * 16
    assert run.totals["forward_matmul_flops"] == 2 * (12 * layer + patches + width * 1000)


# Refusals -------------------------------------------------------------------------------------------------------------

BAD = [
    (("{}",), "'mine_.*' is no target; give torchvision:resnet50, or package.module:factory"),
    (("nowhere:build",), "there is no module 'nowhere' to import for 'nowhere:build'"),
    (("{}:nope",), "'mine_.*' has no 'nope'"),
    (("{}:number",), "is no factory, but a int"),
    (("{}:instance",), "is no factory, but a Linear"),
    (("{}:nothing",), r"must return a torchtally.Workload or a module, and returned nothing"),
    (("{}:Net",), "returns a module alone; say what it is called with, such as --input"),
    (("{}:broken",), r":broken\(\) failed at mine_.*\.py:\d+: ValueError: first line second line$"),
    (("{}:fits_nothing", "--input", "2x5"), "the step of .* failed: RuntimeError: .*shapes cannot be multiplied"),
    (("{}:Net", "--input", "2x5:int64", "--batch-size", "3"), "takes no batch_size; leave --batch-size out"),
    (("{}:build", "--input", "2x5"), "has a step of its own; leave --input out"),
    (("{}:build", "--eval"), "leave --train/--eval out"),
    (("{}:build", "--optimizer", "sgd"), "leave --optimizer out"),
    (("{}:build", "--amp"), "leave --amp out"),
    (("{}:Net", "--input", "2xq"), "'2xq' is no input; give sizes such as 32x3x224x224"),
    (("{}:Net", "--input", ""), "'' is no input"),
    (("{}:Net", "--input", "2x5:"), "'2x5:' is no input"),
    (("{}:Net", "--input", "2x5:int7"), "no dtype is named 'int7'; there are bool, "),
    (("{}:Net", "--input", "99999999999"), "larger than any tensor"),
    (("{}:Net", "--input", "2x5:int64", "--eval", "--optimizer", "sgd"), "--eval has none"),
    (("{}:Net", "--input", "2x5:int64", "--device", "nope"), "no device 'nope'.*there is cpu"),
    (("{}:reads_values", "--input", "2x5", "--device", "meta"), "needs the values of tensors, which --device meta"),
    (("{}:Net", "--input", "2x5:int64", "--columns", "x"), "no column is named 'x'"),
    (("{}:Net", "--input", "2x5:int64", "--sort", "x"), "no order is named 'x'"),
    (("{}:Net", "--input", "2x5:int64", "--json", "no/a.json"), "there is no folder no"),
    (("{}:Net", "--input", "2x5:int64", "--json", "a", "--csv", "a"), "--json and --csv name the same file, a"),
    (("torchvision:resnet5",), "torchvision has no model 'resnet5'; did you mean resnet50"),
    (("torchvision:",), "'torchvision:' is no target"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[words for _, words in BAD])
def test_refusals_are_one_line(cli_main: Any, user: str, arguments: tuple[str, ...], words: str) -> None:
    refused(cli_main("profile", *(argument.format(user) for argument in arguments)), words)


def test_a_module_that_fails_to_be_imported(cli_main: Any, user: str, tmp_path: Path) -> None:
    (tmp_path / f"{user}_bad.py").write_text("import missing_thing_of_theirs\n", encoding="utf-8")
    refused(
        cli_main("profile", f"{user}_bad:build"),
        r"importing .* failed at mine_.*_bad.py:1: ModuleNotFoundError: No module named 'missing_thing_of_theirs'",
    )


# What is shown and written --------------------------------------------------------------------------------------------


def test_options_of_the_table(cli_main: Any, user: str) -> None:
    done = cli_main(
        "profile", f"{user}:build", "--sort", "parameters", "--columns", "parameters, type", "--units", "macs"
    )
    assert done.out.index("embed ") < done.out.index("head ")
    assert cli_main("profile", f"{user}:build", "--depth", "0").out.count("Linear") == 0


def test_report_shows_what_was_kept(cli_main: Any, user: str, tmp_path: Path) -> None:
    first = cli_main("profile", f"{user}:build", "--json", "a.json", "--csv", "a.csv")
    again = cli_main("report", "a.json", "--csv", "b.csv", "--json", "b.json")
    assert (again.status, again.err) == (0, "")
    assert again.out == first.out
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    with (tmp_path / "a.csv").open(newline="") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {"", "embed", "head"}


def test_report_refuses_what_is_no_run(cli_main: Any, user: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"torchtally": "run", "schema": 7}')
    refused(cli_main("report", "a.json"), "a.json: schema: 7 is of a newer torchtally")
    refused(cli_main("report", "nope.json"), "cannot read nope.json: No such file or directory")
    (tmp_path / "a.json").write_text("\x1b[31m")
    refused(cli_main("report", "a.json"), "a.json: no JSON, or not all of it")


def test_a_run_without_memory_has_no_perfetto_trace(cli_main: Any, user: str) -> None:
    cli_main("profile", f"{user}:build", "--json", "a.json")
    refused(cli_main("report", "a.json", "--perfetto", "p.json"), "did not measure memory")


def test_memory_for_perfetto(cli_main: Any, tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "report" / "data" / "run-v1.json"
    assert cli_main("report", old, "--perfetto", tmp_path / "p.json").status == 0
    assert json.loads((tmp_path / "p.json").read_text())["otherData"]["peak_bytes"] == 600


@pytest.mark.parametrize("name", ["profile", "report", "diff"])
def test_help_has_examples(cli_main: Any, name: str) -> None:
    done = cli_main(name, "--help")
    assert (done.status, done.err) == (0, "")
    assert "Examples:" in done.out and f"torchtally {name} " in done.out
    assert max(map(len, done.out.splitlines())) <= 100


# The installed command ------------------------------------------------------------------------------------------------


def test_the_installed_command_in_a_project_of_one_s_own(user: str, tmp_path: Path) -> None:
    """Found from the current folder; plain when piped; nothing on standard error."""
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    command = [COMMAND, "profile", f"{user}:build", "--json", "a.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout and "\r" not in done.stdout
    assert torchtally.from_json(tmp_path / "a.json").totals["parameters"] == WORDS * WIDTH + (WIDTH + 1) * CLASSES


def test_files_are_shown_without_waiting_for_torch(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "report" / "data" / "run-v1.json"
    for arguments in (["report", str(old)], ["diff", str(old), str(old)]):
        code = (
            "import sys\nfrom torchtally.profiler.cli import main\n"
            "try: main(sys.argv[1:])\nfinally: print('torch' in sys.modules, file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stderr == "False\n"
