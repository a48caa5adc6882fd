"""The command line: what it prints, writes and refuses. Refusals are one line on standard error and exit status 2."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import torchtally
from torchtally.profiler import cli
from torchtally.profiler.errors import UsageError
from torchtally.profiler.report import files

COMMAND = Path(sysconfig.get_path("scripts")) / "torchtally"
TINY = ("audit", "--batch-size", "2", "--image-size", "33x47", "--device", "cpu")
NO_TERMINAL = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS", "NO_COLOR")}

CLAIM_KEYS = (
    "id line section layer phase quantity printed claim theory count measured arithmetic verdict wrong reason"
).split()
LAYER_KEYS = (
    "path type phase calls input_shape output_shape parameters parameter_bytes activation_bytes gradient_bytes "
    "flops matmul_flops"
).split()
VERDICTS = {"agrees", "within", "contradicted", "unexplained", "not measured"}


def command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed command, piped."""
    assert COMMAND.exists(), "the package is not installed beside this Python"
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env=NO_TERMINAL | environment,
    )


def refused(done: Any, words: str) -> None:
    assert done.status == 2
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("torchtally: ") and re.search(words, line), line
    assert "Traceback" not in line


# Refusals -------------------------------------------------------------------------------------------------------------

BAD = [
    (("--device", "nope"), "no device 'nope'.*there is cpu"),
    (("--device", ""), "no device ''"),
    (("--device", "cuda:99"), "no device 'cuda:99'"),
    (("--device", "meta"), "no device 'meta'"),
    (("--batch-size", "0"), "'--batch-size': 0 "),
    (("--batch-size", "-3"), "'--batch-size': -3 "),
    (("--batch-size", "many"), "'--batch-size': 'many'"),
    (("--batch-size", "99999999999999999999"), "'--batch-size'"),
    (("--image-size", "7x7"), "7x7 is too small for 3 poolings.*at least 8"),
    (("--image-size", "7"), "7x7 is too small"),
    (("--image-size", "64x7"), "64x7 is too small"),
    (("--image-size", "0"), "0x0 is too small"),
    (("--image-size", "wide"), "'wide' is no image size.*such as 33x47"),
    (("--image-size", "32x"), "'32x' is no image size"),
    (("--image-size", "1x2x3"), "'1x2x3' is no image size"),
    (("--image-size", "-8"), "'-8' is no image size"),
    (("--image-size", "3²"), "is no image size"),
    (("--image-size", "99999999999x99999999999"), "larger than any image"),
    (("--image-size",), "requires an argument"),
    (("--nonsense",), "--nonsense.*torchtally audit --help"),
    (("surplus",), "surplus"),
]


@pytest.mark.parametrize(
    ("arguments", "words"), BAD, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_bad_arguments(cli_main: Any, arguments: tuple[str, ...], words: str) -> None:
    refused(cli_main("audit", *arguments), words)


def test_sizes_beyond_memory(cli_main: Any) -> None:
    refused(
        cli_main("audit", "--batch-size", "2000000000", "--image-size", "2000000000"), "out of memory; try a smaller"
    )


@pytest.mark.parametrize(
    ("arguments", "words"), [(("nonsense",), "'nonsense'"), ((), "Missing command"), (("-x",), "-x")]
)
def test_unknown_commands(cli_main: Any, arguments: tuple[str, ...], words: str) -> None:
    refused(cli_main(*arguments), f"{words}.*see torchtally --help")


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_output_that_cannot_be_written(cli_main: Any, tmp_path: Path, option: str) -> None:
    refused(cli_main(*TINY, option, tmp_path), "it is a folder")
    refused(cli_main(*TINY, option, tmp_path / "missing" / "x.json"), "there is no folder .*missing")
    refused(cli_main(*TINY, option, ""), "cannot write")


@pytest.mark.parametrize("exists", [True, False])
def test_output_without_permission(
    cli_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """Tests may run as root, to whom everything is permitted: the answer is simulated."""
    target = tmp_path / "x.json"
    if exists:
        target.write_text("old")
    locked = target if exists else tmp_path
    monkeypatch.setattr(files.os, "access", lambda path, mode: Path(path) != locked)
    refused(cli_main(*TINY, "--json", target), "cannot write .*x.json: permission denied")


def test_refused_before_any_work(cli_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchtally.profiler.audit.walkthrough.audit", lambda **_: pytest.fail("audited first"))
    refused(cli_main("audit", "--json", tmp_path), "it is a folder")


def test_the_disk_fills_up(cli_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while writing leaves the old file, and nothing beside it."""
    target = tmp_path / "audit.json"
    target.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    done = cli_main(*TINY, "--json", target)
    refused(done, "cannot write .*audit.json: No space left on device")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("arguments", [("audit", "--device", "nope"), ("audit", "--batch-size", "0"), ("nonsense",)])
def test_the_installed_command_refuses_alike(arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    refused(SimpleNamespace(status=done.returncode, out=done.stdout, err=done.stderr), arguments[-1])


def test_an_interrupt_is_one_line(cli_main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("torchtally.profiler.audit.walkthrough.audit", interrupted)
    done = cli_main(*TINY)
    assert (done.status, done.err.strip(), done.out) == (130, "torchtally: interrupted", "")


def test_a_defect_of_our_own_is_not_called_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("torchtally.profiler.audit.walkthrough.audit", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        cli.main(list(TINY))


def test_running_out_of_memory_is_one_line(cli_main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(**_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 5 GiB\nand much more")

    monkeypatch.setattr("torchtally.profiler.audit.walkthrough.audit", starved)
    refused(cli_main(*TINY), "out of memory; try a smaller --batch-size.*5 GiB$")


# Help -----------------------------------------------------------------------------------------------------------------


def test_version(cli_main: Any) -> None:
    done = cli_main("--version")
    assert (done.status, done.err) == (0, "")
    assert re.fullmatch(r"torchtally \d+\.\d+\.\d+\S*\n", done.out)


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("audit", "--help"), ("audit", "-h")])
def test_help(cli_main: Any, arguments: tuple[str, ...]) -> None:
    done = cli_main(*arguments)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("Usage: torchtally")
    words = (
        ("--device", "--batch-size", "--image-size", "--all", "--json FILE", "--csv FILE")
        if "audit" in arguments
        else ("audit",)
    )
    assert all(word in done.out for word in words)
    assert max(map(len, done.out.splitlines())) <= 100


def test_help_and_version_do_not_wait_for_torch() -> None:
    code = (
        "import sys\nfrom torchtally.profiler.cli import main\n"
        "try: main(sys.argv[1:])\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    )
    for argument in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=True)
        assert done.stderr == "False\n"


# What is printed ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, list[dict[str, str]], str]:
    """The default audit, once: process, JSON, CSV rows."""
    folder = tmp_path_factory.mktemp("audit")
    done = command("audit", "--device", "cpu", "--json", folder / "a.json", "--csv", folder / "a.csv")
    assert (done.returncode, done.stderr) == (0, "")
    text = (folder / "a.json").read_text(encoding="utf-8")
    with (folder / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return done, json.loads(text), rows, text


def plain(text: str) -> None:
    assert "\x1b" not in text and "\r" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_what_the_audit_prints(walkthrough: Any) -> None:
    text = walkthrough[0].stdout
    plain(text)
    assert text.startswith("CNN, N = 32, 3x32x32, forward and backward, on cpu, torch ")
    for words in ("Contradicted by the run", "Not measured yet, and what it would take", "93,184", "93,248", "tally"):
        assert words in text
    assert "block2.batchnorm" not in text, "what simply agrees is left to --all"


@pytest.mark.parametrize("environment", [{"TERM": "xterm", "COLUMNS": "300"}, {"PYTHONIOENCODING": "ascii"}])
def test_piped_output_is_plain(environment: dict[str, str]) -> None:
    done = command(*TINY, "--all", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    plain(done.stdout)
    assert "block2.batchnorm" in done.stdout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("setting", [None, "1"])
def test_a_terminal_has_colours_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, setting: str | None) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if setting is not None:
        monkeypatch.setenv("NO_COLOR", setting)
    with pytest.raises(SystemExit):
        cli.main([*TINY, "--all"])
    assert ("\x1b[" in screen.getvalue()) == (setting is None)
    assert "block2.batchnorm" in screen.getvalue()


def test_a_reader_that_stops_early() -> None:
    """`torchtally audit | head -1`: no traceback."""
    shell = subprocess.run(
        ["bash", "-c", f"'{COMMAND}' {' '.join(TINY)} --all | head -n 1"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in shell.stderr and "Error" not in shell.stderr
    assert shell.stdout.startswith("CNN, N = 2")


# JSON and CSV ---------------------------------------------------------------------------------------------------------


def test_json_keys(walkthrough: Any) -> None:
    audit = walkthrough[1]
    assert audit["schema"] == 1
    assert {"schema", "environment", "summary", "claims", "layers"} <= set(audit)
    assert {"torch", "python", "device"} <= set(audit["environment"])
    assert audit["environment"]["device"] == "cpu"
    assert set(audit["summary"]) <= VERDICTS
    assert all(type(count) is int for count in audit["summary"].values())
    assert all(list(row) == CLAIM_KEYS for row in audit["claims"])
    assert all(
        list(row)[: len(LAYER_KEYS) - 2] == LAYER_KEYS[:-2] and set(LAYER_KEYS) <= set(row) for row in audit["layers"]
    )


def test_json_types_of_claims(walkthrough: Any) -> None:
    claims = walkthrough[1]["claims"]
    assert len({row["id"] for row in claims}) == len(claims) >= 600
    for row in claims:
        assert type(row["line"]) is int
        assert all(
            isinstance(row[key], str) for key in ("id", "section", "layer", "phase", "quantity", "printed", "reason")
        )
        assert row["verdict"] in VERDICTS
        assert row["arithmetic"] in {None, "exact", "rounded", "drift", "wrong"}
        for witness in ("claim", "theory", "count", "measured"):
            shape = isinstance(row[witness], list) and all(type(size) in (int, float) for size in row[witness])
            assert shape or row[witness] is None or type(row[witness]) in (int, float, str)
        if row["verdict"] == "contradicted":
            assert row["wrong"] and row["reason"]
        if row["verdict"] == "agrees":
            assert row["wrong"] is None


def test_json_keeps_integers_and_shapes(walkthrough: Any) -> None:
    audit, text = walkthrough[1], walkthrough[3]
    by_id = {(row["layer"], row["phase"], row["quantity"]): row for row in audit["claims"]}
    flops = by_id["block2.conv", "forward", "flops"]
    assert flops["count"] == 301_989_888 and type(flops["count"]) is int
    shape = by_id["block2.conv", "forward", "output_shape"]
    assert shape["theory"] == shape["count"] == [32, 64, 16, 16]
    assert "NaN" not in text and "Infinity" not in text


def test_json_layers_are_the_ledger(walkthrough: Any) -> None:
    layers = {(row["path"], row["phase"]): row for row in walkthrough[1]["layers"]}
    forward, backward = layers["block2.conv", "forward"], layers["block2.conv", "backward"]
    assert (forward["type"], forward["calls"], forward["parameters"]) == ("Conv2d", 1, 18_496)
    assert (forward["input_shape"], forward["output_shape"]) == ([32, 32, 16, 16], [32, 64, 16, 16])
    assert forward["gradient_bytes"] is None
    assert (backward["flops"], backward["gradient_bytes"], backward["parameters"]) == (603_979_776, 1_048_576, None)
    assert layers["block1.conv", "backward"]["input_shape"] is None
    assert sum(row["flops"] or 0 for row in layers.values() if row["phase"] == "forward") == 673_595_392


def test_json_summary_counts_its_rows(walkthrough: Any) -> None:
    audit = walkthrough[1]
    rows = [*audit["claims"], *audit["comparison"]]
    counted = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS}
    assert {verdict: count for verdict, count in counted.items() if count} == audit["summary"]
    assert audit["summary"]["agrees"] > 700
    assert "unexplained" not in audit["summary"]


def test_csv_has_the_same_rows(walkthrough: Any) -> None:
    _, audit, rows, _ = walkthrough
    assert list(rows[0]) == CLAIM_KEYS
    assert len(rows) == len(audit["claims"]) + len(audit["comparison"])
    assert [row["id"] for row in rows if row["id"]] == [row["id"] for row in audit["claims"]]
    shapes = [row for row in rows if row["layer"] == "block2.conv" and row["quantity"] == "output_shape"]
    assert {row["count"] for row in shapes} == {"32x64x16x16"}
    flops = [row for row in rows if row["layer"] == "block2.conv" and row["quantity"] == "flops"]
    assert {"301989888", "603979776"} <= {row["count"] for row in flops}


def test_other_sizes_have_no_claims(cli_main: Any, tmp_path: Path) -> None:
    done = cli_main(*TINY, "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
    assert (done.status, done.err) == (0, "")
    plain(done.out)
    assert done.out.startswith("CNN, N = 2, 3x33x47")
    audit = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert audit["claims"] == []
    layers = {(row["path"], row["phase"]): row for row in audit["layers"]}
    assert layers["block1.pool", "forward"]["output_shape"] == [2, 32, 16, 23]
    assert audit["comparison"] and {row["verdict"] for row in audit["comparison"]} == {"agrees"}
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert {row["id"] for row in csv.DictReader(file)} == {""}


def test_everything_is_more_than_what_differs(cli_main: Any) -> None:
    assert len(cli_main(*TINY, "--all").out.splitlines()) > 100 > len(cli_main(*TINY).out.splitlines())


def test_the_exit_status_of_rows_that_do_not_tally(cli_main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A theory that leaves its factor 2 out of a linear layer is caught, and the status says so."""
    from torchtally.theory.cost import Cost
    from torchtally.theory.dense import Linear

    forward = Linear.forward

    def halved(self: Any, *inputs: Any) -> Any:
        right = forward(self, *inputs)
        return Cost(flops=right.flops // 2, matmul_flops=right.matmul_flops // 2)

    monkeypatch.setattr(Linear, "forward", halved)
    done = cli_main(*TINY)
    assert (done.status, done.err) == (1, "")
    assert re.search(r"fc\s+forward\s+flops", done.out)
    assert "do not tally" in done.out


# Writing files --------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "x"
    files.write_atomically(target, "one")
    files.write_atomically(target, "zwei ≈\n")
    assert target.read_bytes() == "zwei ≈\n".encode()
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupt_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x"
    target.write_text("old")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("real")
    files.write_atomically(link, "new")
    assert link.is_symlink() and (tmp_path / "real").read_text() == "new"


def test_a_device_is_written_to_and_never_replaced() -> None:
    files.write_atomically(Path(os.devnull), "away")
    assert Path(os.devnull).is_char_device()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a device that is always full")
def test_a_full_device_is_an_error() -> None:
    with pytest.raises(UsageError, match="No space left"):
        files.write_atomically(Path("/dev/full"), "text")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_library_does_the_same_without_the_command_line() -> None:
    audit = torchtally.audit(batch_size=2, resolution=(33, 47))
    assert audit.ok and not audit.claims
    with pytest.raises(ValueError, match="too small"):
        torchtally.audit(resolution=(7, 7))
