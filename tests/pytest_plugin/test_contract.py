"""`cost.check` against its baseline: what it writes, what it holds, and what it says of a change."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from .projects import (
    BACKWARD,
    FORWARD,
    HIDDEN,
    IN,
    OUT,
    PARAMETERS,
    PEAK,
    SAVED,
    SIMPLE,
    N,
    failed,
    passed,
    project,
    run,
)

pytest_plugins = ["pytester"]


def baseline(pytester: pytest.Pytester, name: str = "test_cost") -> Path:
    return pytester.path / "test_net.cost" / f"{name}.toml"


def test_the_first_run_says_what_to_type(pytester: pytest.Pytester) -> None:
    project(pytester, SIMPLE)
    failed(
        pytester, words=["no baseline test_net.cost/test_cost.toml", 'pytest --cost-update "test_net.py::test_cost"']
    )
    assert not baseline(pytester).exists()


def test_what_is_written_is_exact(pytester: pytest.Pytester) -> None:
    project(pytester, SIMPLE)
    passed(pytester, "--cost-update")
    (check,) = tomllib.loads(baseline(pytester).read_text(encoding="utf-8"))["check"]
    assert (check["mode"], check["inputs"]) == ("training", f"float32 {N}x{IN}")
    assert check["total"] == {
        "parameters": PARAMETERS,
        "forward_flops": FORWARD,
        "backward_flops": BACKWARD,
        "saved_bytes": SAVED,
        "peak_bytes": PEAK,
    }
    assert list(check["modules"]) == ["", "0", "1", "2"]
    assert check["modules"]["2"] == {
        "type": "Linear",
        "calls": 1,
        "output": f"{N}x{OUT}",
        "parameters": (HIDDEN + 1) * OUT,
        "forward_flops": 2 * N * HIDDEN * OUT,
        "backward_flops": 4 * N * HIDDEN * OUT + N * OUT,
        "saved_bytes": 0,
        # At the peak: its parameters and their gradients, its output, and the gradient that it gave to ReLU.
        "peak_bytes": 4 * (2 * (HIDDEN + 1) * OUT + N * OUT + N * HIDDEN),
    }
    passed(pytester)


def test_a_line_per_module(pytester: pytest.Pytester) -> None:
    project(pytester, SIMPLE)
    passed(pytester, "--cost-update")
    lines = baseline(pytester).read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith('"0" = ')]
    assert 'type = "Linear"' in line and f"parameters = {(IN + 1) * HIDDEN}" in line


def test_writing_again_changes_nothing(pytester: pytest.Pytester) -> None:
    project(pytester, SIMPLE)
    passed(pytester, "--cost-update")
    before = baseline(pytester).stat().st_mtime_ns, baseline(pytester).read_bytes()
    passed(pytester, "--cost-update")
    assert (baseline(pytester).stat().st_mtime_ns, baseline(pytester).read_bytes()) == before


def test_a_change_names_layer_figure_before_and_after(pytester: pytest.Pytester) -> None:
    project(pytester, SIMPLE)
    passed(pytester, "--cost-update")
    wider = HIDDEN + 1
    project(pytester, SIMPLE.replace("network()", f"network({wider})"))
    old, new = (IN + 1) * HIDDEN, (IN + 1) * wider
    failed(
        pytester,
        words=[
            f"total: parameters {PARAMETERS} -> {PARAMETERS + IN + 1 + OUT} (+*%)",
            f"0: output {N}x{HIDDEN} -> {N}x{wider}",
            f"0: parameters {old} -> {new} (+{new / old - 1:.1%})",
            "if that is meant, write it anew: pytest --cost-update",
        ],
    )


def test_a_layer_that_is_new_and_one_that_is_gone(pytester: pytest.Pytester) -> None:
    project(pytester, SIMPLE)
    passed(pytester, "--cost-update")
    other = (
        "\n    model = network()\n    model[1] = nn.Identity()\n    model.append(nn.Tanh())\n    cost.check(model, X)\n"
    )
    project(pytester, "\ndef test_cost(cost):" + other)
    failed(pytester, words=["1: type ReLU -> Identity", "3: new (type Tanh*"])
    passed(pytester, "--cost-update")
    project(pytester, SIMPLE)
    failed(pytester, words=["3: gone (type Tanh*"])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("model.eval()", "mode training -> evaluation"),
        ("x = torch.zeros(5, 6)", f"inputs float32 {N}x{IN} -> float32 5x{IN}"),
        ("model[0].requires_grad_(False)", "0: backward_flops * -> "),
        ("model.requires_grad_(False)", f"total: backward_flops {BACKWARD:,} -> not known"),
    ],
)
def test_what_else_is_held(pytester: pytest.Pytester, change: str, word: str) -> None:
    body = "\ndef test_cost(cost):\n    model, x = network(), X\n    {}\n    cost.check(model, x)\n"
    project(pytester, body.format("pass"))
    passed(pytester, "--cost-update")
    project(pytester, body.format(change))
    failed(pytester, words=[word])


def test_the_model_is_left_as_it_was(pytester: pytest.Pytester) -> None:
    tests = """
def test_cost(cost):
    model = network()
    model[0].weight.grad = before = torch.ones_like(model[0].weight)
    run = cost.check(model, X)
    assert model[0].weight.grad is before and model[2].weight.grad is None
    assert run.totals["parameters"] == sum(p.numel() for p in model.parameters())
"""
    project(pytester, tests)
    passed(pytester, "--cost-update")
    passed(pytester)


TWO = """
def test_cost(cost):
    cost.check(network(), X)
    cost.check(network(20), X)
"""


def test_several_checks_in_a_test(pytester: pytest.Pytester) -> None:
    project(pytester, TWO)
    passed(pytester, "--cost-update")
    passed(pytester)
    project(pytester, TWO.replace("20", "21"))
    failed(pytester, words=["test_cost.toml, check 2 says"])
    project(pytester, SIMPLE)
    failed(pytester, words=["test_cost.toml has 2 checks, and the test made 1"])
    project(pytester, TWO + "    cost.check(network(), X)\n")
    failed(pytester, words=["test_cost.toml has no check 3"])


def test_a_test_that_fails_writes_nothing(pytester: pytest.Pytester) -> None:
    project(pytester, SIMPLE + "    assert False\n")
    run(pytester, "--cost-update").assert_outcomes(failed=1)
    assert not baseline(pytester).exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "schema: expected an integer >= 1, found None"),
        ("schema = 99", "99 is of a newer torchtally"),
        ("schema = [", "test_cost.toml: no baseline: "),
        ('schema = 1\ncheck = "x"', "check: expected a list, found 'x'"),
        ("schema = 1\n[[check]]", "'mode' is missing"),
        ("schema = 1\nmore = 2", "'more' is not known"),
        (
            'schema = 1\n[[check]]\nmode = "training"\ninputs = ""\ntotal = {parameters = nan}\n[check.modules]',
            "total.parameters: expected",
        ),
        ("\0", "test_cost.toml: no baseline: "),
    ],
)
def test_a_broken_baseline_is_one_line(pytester: pytest.Pytester, content: str, word: str) -> None:
    project(pytester, SIMPLE)
    baseline(pytester).parent.mkdir()
    baseline(pytester).write_text(content, encoding="utf-8")
    failed(pytester, words=[word.replace("[", "[[]")])


def test_names_of_modules_and_tests_are_data(pytester: pytest.Pytester) -> None:
    name = 'a"b\\c\n]#ü\x7f'
    tests = f"""
@pytest.mark.parametrize("case", ["x/y", "../z", "ü", "a" * 300, ""])
def test_cost(cost, case):
    model = nn.Sequential()
    model.add_module({name!r}, nn.Linear({IN}, 2))
    cost.check(model, X)
"""
    project(pytester, tests)
    passed(pytester, "--cost-update", count=5)
    passed(pytester, count=5)
    files = list((pytester.path / "test_net.cost").iterdir())
    assert len(files) == 5 and all(len(path.name) < 160 and path.name.isascii() for path in files)
    (module,) = [key for key in tomllib.loads(files[0].read_text(encoding="utf-8"))["check"][0]["modules"] if key]
    assert module == name


def test_parametrized_tests_and_classes_have_files_of_their_own(pytester: pytest.Pytester) -> None:
    tests = """
@pytest.mark.parametrize("hidden", [8, 16])
def test_cost(cost, hidden):
    cost.check(network(hidden), X)

class TestNet:
    def test_cost(self, cost):
        cost.check(network(), X)
"""
    project(pytester, tests)
    passed(pytester, "--cost-update", count=3)
    names = {path.name for path in (pytester.path / "test_net.cost").iterdir()}
    assert names == {"test_cost[8].toml", "test_cost[16].toml", "TestNet.test_cost.toml"}
    passed(pytester, count=3)


# Stale baselines ------------------------------------------------------------------------------------------------------


def test_a_baseline_of_no_test_is_reported(pytester: pytest.Pytester) -> None:
    project(pytester, SIMPLE + "\ndef test_other(cost):\n    cost.check(network(), X)\n")
    passed(pytester, "--cost-update", count=2)
    assert "stale cost baselines" not in passed(pytester, count=2).stdout.str()
    project(pytester, SIMPLE)
    passed(pytester).stdout.fnmatch_lines(["*stale cost baselines*", "*test_net.cost/test_other.toml: no test has it*"])


@pytest.mark.parametrize("arguments", [("-k", "test_cost"), ("test_net.py::test_cost",)])
def test_tests_that_were_not_chosen_are_not_stale(pytester: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    project(pytester, SIMPLE + "\ndef test_other(cost):\n    cost.check(network(), X)\n")
    passed(pytester, "--cost-update", count=2)
    result = run(pytester, *arguments)
    assert "stale cost baselines" not in result.stdout.str() and result.ret == 0
