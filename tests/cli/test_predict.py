"""`torchtally predict`, and `torchtally profile --measure`: memory on the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torchtally

N, TOKENS, WIDTH, CLASSES, WORDS = 4, 6, 8, 5, 50
PARAMETERS = (WORDS * WIDTH + (WIDTH + 1) * CLASSES) * 4


def peak(out: str) -> int:
    found = re.search(r"peak memory: .*\(([\d,]+) B\)", out)
    assert found, out
    return int(found.group(1).replace(",", ""))


def test_a_predicted_step(cli_main: Any, user: str, tmp_path: Path) -> None:
    done = cli_main("predict", f"{user}:build", "--no-learn", "--json", "a.json")
    assert (done.status, done.err) == (0, "")
    assert "predicted" in done.out.splitlines()[0]
    run = torchtally.from_json(tmp_path / "a.json")
    assert peak(done.out) == run.totals["peak_bytes"] > PARAMETERS
    assert run.ledger.row("head").flops == 2 * N * WIDTH * CLASSES
    assert "workspaces not learnt" in done.out


def test_whether_it_fits_is_the_exit_status(cli_main: Any, user: str) -> None:
    arguments = ("predict", f"{user}:build", "--no-learn", "--fits")
    assert cli_main(*arguments, "1 GiB").status == 0
    done = cli_main(*arguments, f"{PARAMETERS} B")
    assert done.status == 1 and done.out.rstrip().endswith(f"does not fit in {PARAMETERS} B")


def test_the_largest_batch(cli_main: Any, user: str) -> None:
    limit = 20_000
    done = cli_main("predict", f"{user}:build", "--no-learn", "--largest-batch", f"{limit} B")
    (found,) = re.findall(r"largest batch within 20000 B: (\d+)", done.out)
    assert done.status == 0 and peak(done.out) <= limit
    one_more = cli_main("predict", f"{user}:build", "--no-learn", "--batch-size", str(int(found) + 1))
    assert peak(one_more.out) > limit


def test_words_that_are_no_amount(cli_main: Any, user: str) -> None:
    done = cli_main("predict", f"{user}:build", "--fits", "8 GBytes")
    assert (done.status, done.out) == (2, "") and "no unit 'GBytes'" in done.err


def test_a_step_that_reads_values(cli_main: Any, user: str) -> None:
    done = cli_main("predict", f"{user}:reads_values", "--input", "2x3", "--no-learn")
    assert done.status == 0 and "a value that the step reads was taken to be" in done.out


def test_a_measured_step(cli_main: Any, user: str, tmp_path: Path) -> None:
    done = cli_main("profile", f"{user}:build", "--measure", "--json", "a.json")
    run = torchtally.from_json(tmp_path / "a.json")
    assert done.status == 0 and peak(done.out) == run.totals["peak_bytes"]
    assert run.totals["seconds"] > 0


def test_fake_tensors_are_not_measured(cli_main: Any, user: str) -> None:
    done = cli_main("profile", f"{user}:build", "--measure", "--device", "meta")
    assert (done.status, done.out) == (2, "") and "torchtally predict" in done.err
