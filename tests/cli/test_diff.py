"""`torchtally diff`: layers that changed, by how much, and runs that cannot be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchtally
from torchtally.profiler.diff import NotComparableRunsError, difference
from torchtally.profiler.run import Run

N, IN, OUT = 3, 4, 5


def run(hidden: int = 6, *, change: Callable[[nn.Sequential], object] | None = None, batch: int = N) -> Run:
    model = nn.Sequential(nn.Linear(IN, hidden), nn.ReLU(), nn.Linear(hidden, OUT))
    if change is not None:
        change(model)
    return torchtally.count(model, torch.zeros(batch, IN))


def figures(before: Run, after: Run) -> dict[tuple[str | None, str], tuple[Any, Any]]:
    found = difference(before, after)
    return {(change.path, change.quantity): (change.before, change.after) for change in found.rows}


def test_nothing_differs() -> None:
    found = difference(run(), run())
    assert (found.rows, found.totals, found.added, found.removed, found.notes) == ((), (), (), (), ())


def test_a_wider_layer() -> None:
    found = figures(run(6), run(8))
    assert found["0", "parameters"] == ((IN + 1) * 6, (IN + 1) * 8)
    assert found["0", "forward_flops"] == (2 * N * IN * 6, 2 * N * IN * 8)
    assert found["0", "output_shape"] == ((N, 6), (N, 8))
    assert found["2", "backward_flops"] == (4 * N * 6 * OUT + N * OUT, 4 * N * 8 * OUT + N * OUT)
    assert found["1", "saved_bytes"] == (4 * N * 6, 4 * N * 8)
    assert found[None, "parameters"] == ((IN + 1) * 6 + 7 * OUT, (IN + 1) * 8 + 9 * OUT)
    assert ("", "parameters") not in found, "the model itself has none"


def test_layers_that_are_new_and_gone() -> None:
    found = difference(run(), run(change=lambda model: model.append(nn.Tanh())))
    assert (found.added, found.removed) == (("3",), ())
    assert difference(run(change=lambda model: model.append(nn.Tanh())), run()).removed == ("3",)
    new = {change.quantity: (change.before, change.after) for change in found.rows if change.path == "3"}
    assert new["forward_flops"] == (None, N * OUT) and new["type"] == (None, "Tanh")


def test_a_layer_of_another_kind() -> None:
    found = figures(run(), run(change=lambda model: model.__setitem__(1, nn.Tanh())))
    assert found["1", "type"] == ("ReLU", "Tanh")


def test_a_frozen_layer() -> None:
    found = figures(run(), run(change=lambda model: model[0].requires_grad_(False)))
    assert found["0", "backward_flops"][0] == 2 * N * IN * 6 + N * 6
    assert found["0", "backward_flops"][1] in (0, None)


# What is not comparable -----------------------------------------------------------------------------------------------


def elsewhere(found: Run, **environment: Any) -> Run:
    trace = dataclasses.replace(found.trace, environment={**found.trace.environment, **environment})
    return Run(trace, layers=found.layers)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (lambda: run(change=lambda model: model.eval()), "mode differs: training before, evaluation after"),
        (lambda: run(batch=7), r"input differs: 1 x \(float32\[3, 4\]\) before, 1 x \(float32\[7, 4\]\) after"),
        (lambda: elsewhere(run(), device="cuda"), "device differs: cpu before, cuda after"),
        (
            lambda: run(change=lambda model: model.requires_grad_(False)),
            "phases differs: .*backward.* before, forward after",
        ),
    ],
)
def test_the_field_that_differs_is_named(after: Any, words: str) -> None:
    with pytest.raises(NotComparableRunsError, match=f"not comparable: {words}"):
        difference(run(), after())


def test_other_versions_are_a_note() -> None:
    found = difference(run(), elsewhere(run(), torch="9.9"))
    assert found.rows == () and found.notes == (f"torch: {torch.__version__} before, 9.9 after",)


def test_a_lower_bound_is_a_note() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(x)

    before, after = (torchtally.count(model, torch.zeros(3, 3), backward=False) for model in (nn.ReLU(), Odd()))
    notes = difference(before, after).notes
    assert len(notes) == 1 and notes[0].startswith("after: FLOPs are lower bounds, without aten._linalg_svd")


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    paths = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.json"
    for path, found in zip(paths, (run(6), run(8), run(6, batch=7)), strict=True):
        found.to_json(path)
    return paths


def test_exit_status(cli_main: Any, files: tuple[Path, Path, Path]) -> None:
    a, b, c = files
    same, changed, refused = cli_main("diff", a, a), cli_main("diff", a, b), cli_main("diff", a, c)
    assert (same.status, same.out, same.err) == (0, "no figure differs\n", "")
    assert (changed.status, changed.err) == (1, "")
    assert (refused.status, refused.out) == (2, "")
    assert refused.err.startswith("torchtally: not comparable: input differs: ")


def test_what_is_printed(cli_main: Any, files: tuple[Path, Path, Path]) -> None:
    done = cli_main("diff", *files[:2])
    lines = [line.split() for line in done.out.splitlines()]
    old, new = (IN + 1) * 6, (IN + 1) * 8
    assert ["0", "parameters", str(old), str(new), f"+{new - old}", f"({(new - old) / old:+.1%})"] in lines
    assert ["0", "output", "shape", f"{N}x6", f"{N}x8"] in lines
    assert done.out.index("total") < done.out.index("module")


def test_many_changes_are_cut_unless_all_are_asked_for(cli_main: Any, tmp_path: Path) -> None:
    for name, width in (("a", 3), ("b", 4)):
        layers = [nn.Linear(2, width), *(nn.Linear(width, width) for _ in range(20)), nn.Linear(width, 2)]
        torchtally.count(nn.Sequential(*layers), torch.zeros(1, 2)).to_json(tmp_path / f"{name}.json")
    arguments = ("diff", tmp_path / "a.json", tmp_path / "b.json")
    assert "more figures differ; --all shows them" in cli_main(*arguments).out
    assert len(cli_main(*arguments, "--all").out.splitlines()) > len(cli_main(*arguments).out.splitlines()) + 20
