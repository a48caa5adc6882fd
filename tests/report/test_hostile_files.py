"""Files that are broken, or meant to break something: one clear line each, and nothing of them is run."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import torchtally
from torchtally.profiler.errors import FileFormatError, UsageError
from torchtally.profiler.report import run_reader

from .runs import TIMING, with_memory

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def whole() -> str:
    return with_memory(timing=TIMING).to_json()


def refused(text: str, words: str) -> None:
    with pytest.raises(FileFormatError, match=words) as error:
        torchtally.from_json(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


# Not JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "a.json: no JSON, or not all of it"),
        (b"hello", "no JSON, or not all of it"),
        (b"\x80\x04\x95", "no JSON: byte 0 is not UTF-8"),
        (b"\x00" * 100, "no JSON"),
        (b"[1, 2]", 'no torchtally run: it has no "torchtally": "run"'),
        (b"null", "no torchtally run"),
        (b'{"schema": 1}', "no torchtally run"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"1" * 5000, "no JSON, or not all of it: Exceeds the limit"),
        (b'{"torchtally": NaN}', "NaN is no JSON"),
        (b'{"torchtally": -Infinity}', "-Infinity is no JSON"),
        (b"<!doctype html>", "no JSON"),
    ],
)
def test_no_json(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(FileFormatError, match=words) as error:
        torchtally.from_json(tmp_path / "a.json")
    assert str(error.value).startswith("a.json: ") and "\n" not in str(error.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        torchtally.from_json(tmp_path / "a.json")
    with pytest.raises(UsageError, match=r"cannot read .*directory"):
        torchtally.from_json(tmp_path)
    with pytest.raises(UsageError, match="cannot read"):
        torchtally.from_json("a\0b")


def test_a_file_larger_than_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_reader, "MOST_BYTES", 2**20)
    (tmp_path / "a.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(FileFormatError, match=r"a.json: larger than 1 MiB, which no run is"):
        torchtally.from_json(tmp_path / "a.json")


def test_truncated_anywhere(whole: str) -> None:
    for length in range(1, len(whole) - 2, 97):
        refused(whole[:length], "no JSON, or not all of it")


# Not a run, or not this one's -----------------------------------------------------------------------------------------


def changed(whole: str, change: Change) -> str:
    content = json.loads(whole)
    change(content)
    return json.dumps(content)


def row(table: str, number: int, column: str, value: object) -> Change:
    def change(content: dict[str, Any]) -> None:
        home = next(part for part in (content, content["memory"], content["timing"]) if table in part)
        home[table]["rows"][number][home[table]["columns"].index(column)] = value

    return change


def put(section: str, value: object) -> Change:
    return lambda content: content.__setitem__(section, value)


def layer(name: str, value: object) -> Change:
    return lambda content: content["layers"]["rows"][0][2].__setitem__(name, value)


HOSTILE: list[tuple[Change, str]] = [
    (put("schema", 2), "schema: 2 is of a newer torchtally; this one reads up to 1"),
    (put("schema", 0), "schema: expected an integer >= 1, found 0"),
    (put("schema", "1"), "schema: expected an integer >= 1, found '1'"),
    (put("schema", True), "schema: expected an integer >= 1, found True"),
    (put("torchtally", "audit"), "no torchtally run"),
    (lambda content: content.pop("calls"), "the text: 'calls' is missing"),
    (put("code", "import os"), "'code' is not known"),
    (put("environment", []), "environment: expected an object, found a list of 0"),
    (put("environment", {"torch": {"a": 1}}), "environment.torch: expected .*, found an object of 1"),
    (put("notes", "x"), "notes: expected a list, found 'x'"),
    (put("notes", [1]), r"notes\[0\]: expected text, found 1"),
    (put("second_order", 0), "second_order: expected true or false, found 0"),
    (put("tensors", [["float32", -1]]), r"tensors\[0\]\[1\]: expected an integer >= 0, found -1"),
    (put("tensors", [["float32", 1.5]]), r"tensors\[0\]\[1\]: expected an integer >= 0, found 1.5"),
    (put("tensors", [["float32", 2**63]]), r"tensors\[0\]\[1\]: expected an integer >= 0, found a larger integer"),
    (put("tensors", [["int7", 1]]), r"tensors\[0\]\[0\]: expected one of bool, .*found 'int7'"),
    (put("tensors", [["float32", *[1] * 65]]), "a tensor of 65 dimensions; 64 are the most"),
    (put("tensors", [[]]), r"tensors\[0\]: expected a dtype and sizes"),
    (put("tensors", [[["float32"]]]), r"tensors\[0\]\[0\]: expected one of"),
    (put("places", [["", "sideways"]]), r"places\[0\]\[1\]: expected one of forward"),
    (put("places", [["", "forward", 1]]), r"places\[0\]: expected a list of 2, found a list of 3"),
    (put("calls", []), "calls: expected an object, found a list of 0"),
    (put("calls", {"columns": [], "rows": []}), r"calls.columns: expected place, inputs"),
    (row("calls", 0, "times", 0), r"calls\[0\].times: expected an integer >= 1, found 0"),
    (row("calls", 0, "place", 999), r"calls\[0\].place: expected an integer from 0 to \d+, found 999"),
    (row("calls", 0, "place", -1), r"calls\[0\].place: expected an integer from 0 to"),
    (row("calls", 0, "inputs", [0, 10**6]), r"calls\[0\].inputs\[1\]: expected an integer from 0 to"),
    (row("calls", 0, "inputs_need_grad", []), r"inputs_need_grad: expected a list of 1, found a list of 0"),
    (row("modules", 0, "path", 3), r"modules\[0\].path: expected text, found 3"),
    (row("modules", 1, "path", ""), "modules: two modules have one path"),
    (row("modules", 1, "path", "elsewhere"), "expected the path of a module, found '0'"),
    (row("modules", 1, "parameters", [["w", 0, 1]]), r"parameters\[0\]: expected a list of 4"),
    (row("signatures", 0, "operator", None), "operator: expected text, found None"),
    (row("signatures", 0, "keywords", [1]), "keywords: expected an object, found a list of 1"),
    (row("signatures", 0, "arguments", [{"pickle": "x"}]), r"arguments\[0\]: 'tensor' is missing"),
    (row("signatures", 0, "arguments", [{"tensor": 0, "x": 1}]), r"arguments\[0\]: 'x' is not known"),
    (row("signatures", 0, "arguments", [1.5]), r"arguments\[0\]: expected an integer"),
    (row("signatures", 0, "arguments", [10**30]), r"arguments\[0\]: expected an integer"),
    (row("operators", 0, "signature", 10**6), r"operators\[0\].signature: expected an integer from"),
    (row("gradients", 0, "of", "weight"), r"of: expected one of input, output, parameter"),
    (row("gradients", 0, "path", "elsewhere"), r"path: expected the path of a module, found 'elsewhere'"),
    (row("saved", 0, "role", "secret"), "role: expected one of input"),
    (row("saved", 0, "bytes", -4), "bytes: expected an integer >= 0, found -4"),
    (row("layers", 0, "kind", "os.system"), r"layers\[0\].kind: expected a kind of layer that theory has"),
    (row("layers", 0, "kind", ["Conv2d"]), "kind: expected text, found a list of 1"),
    (row("layers", 0, "kind", "Network"), "expected a kind of layer that theory has, found 'Network'"),
    (row("layers", 0, "path", "elsewhere"), "path: expected the path of a module"),
    (row("layers", 0, "settings", {}), "settings: 'in_channels' is missing"),
    (layer("__class__", 1), "settings: '__class__' is not known"),
    (layer("in_channels", "3"), "settings.in_channels: expected int, found '3'"),
    (layer("in_channels", True), "settings.in_channels: expected int, found True"),
    (layer("in_channels", 0), "settings: in_channels must be at least 1"),
    (layer("kernel_size", [3, "x"]), r"kernel_size\[1\]: expected int, found 'x'"),
    (layer("kernel_size", [[3]]), r"kernel_size\[0\]: expected int"),
    (layer("padding_mode", "zebra"), "padding_mode: expected .*found 'zebra'"),
    (layer("bias", 1), "settings.bias: expected bool, found 1"),
    (put("memory", []), "memory: expected an object, found a list of 0"),
    (row("blocks", 0, "bytes", -1), r"memory.blocks\[0\].bytes: expected an integer >= 0, found -1"),
    (row("blocks", 0, "category", "loot"), "category: expected one of parameters"),
    (row("events", 0, "block", -1), r"memory.events\[0\].block: expected an integer from 0 to 4, found -1"),
    (row("events", 0, "block", 5), r"memory.events\[0\].block: expected an integer from 0 to 4, found 5"),
    (row("events", 0, "opens", 2), r"memory.events\[0\].opens: expected an integer from 0 to 1, found 2"),
    (row("events", 0, "opens", 0), "memory.events: event 0 closes a block that is not open"),
    (lambda content: content["memory"].__setitem__("before", [-1]), r"memory.before\[0\]: expected an integer from 0"),
    (
        lambda content: content["prices"]["rows"].append([0, 1, 2, 0]),
        r"prices\[0\]\[2\]: expected an integer from 0 to 1, found 2",
    ),
    (lambda content: content["prices"]["rows"].append([0, 1, None, 0]), r"prices\[0\]\[2\]: expected an integer"),
    (
        row("observed", 0, "nanoseconds", [-1, 2]),
        r"timing.observed\[0\].nanoseconds: expected an integer >= 0, found -1",
    ),
    (row("observed", 0, "nanoseconds", [1]), r"nanoseconds: expected a list of 2, found a list of 1"),
    (row("observed", 0, "what", "lunch"), "what: expected one of forward"),
    (row("observed", 0, "nanoseconds", [300, 0]), "timing.observed: a step took no time"),
    (
        lambda content: content["timing"].__setitem__("bare", [0]),
        r"timing.bare\[0\]: expected an integer >= 1, found 0",
    ),
    (lambda content: content["timing"].__setitem__("bare", []), "timing.bare: no step was timed"),
    (lambda content: content["timing"].__setitem__("steps", 10**9), "timing.steps: expected an integer from 1 to"),
    (put("saved_unknown", [10**6]), r"saved_unknown\[0\]: expected an integer from 0 to"),
]


@pytest.mark.parametrize(("change", "words"), HOSTILE, ids=[words for _, words in HOSTILE])
def test_a_planted_fault_is_named_with_its_place(whole: str, change: Change, words: str) -> None:
    refused(changed(whole, change), words)


def test_deep_nesting_inside_a_value(whole: str) -> None:
    deep = "[" * 900 + "]" * 900
    text = changed(whole, row("signatures", 0, "arguments", ["HERE"])).replace('"HERE"', deep)
    try:
        torchtally.from_json(text)
    except FileFormatError as error:
        assert "nested too deeply" in str(error)


def test_an_operator_without_its_arguments_is_a_typed_error(whole: str) -> None:
    """What no reader can know, a formula says, naming the operator."""
    content = json.loads(whole)
    for signature in content["signatures"]["rows"]:
        signature[1:] = [[], {}, []]
    run = torchtally.from_json(json.dumps(content))
    with pytest.raises(torchtally.TallyError, match="does not fit the call"):
        _ = run.ledger


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for step, inner in steps for found in places(inner, (*path, step)))]


JUNK = (None, True, -1, 0, 10**20, 1.5, "", "x", [], [[]], {}, {"tensor": 0})


def test_junk_anywhere_is_a_run_or_one_typed_error(whole: str) -> None:
    """Values of another kind in every corner: never another error, never a traceback's worth of text."""
    content, chance = json.loads(whole), random.Random(0)
    refusals = 0
    for path in chance.sample(places(content)[1:], 600):
        broken = copy.deepcopy(content)
        home = broken
        for step in path[:-1]:
            home = home[step]
        home[path[-1]] = chance.choice(JUNK)
        try:
            run = torchtally.from_json(json.dumps(broken))
            assert str(run)
        except torchtally.TallyError as error:
            refusals += 1
            assert "\n" not in str(error)
    assert refusals > 400


def test_names_are_data(tmp_path: Path, whole: str) -> None:
    """Markup, commands to the terminal, and half a character in a name."""
    hostile = "[red]\x1b[31m</td><script>\u202e\ud800"
    content = json.loads(whole)
    content["modules"]["rows"][0][1] = hostile
    content["timing"] = None  # whose columns would take the place of the types
    run = torchtally.from_json(json.dumps(content))
    assert "\x1b" not in str(run) and "[red]" in str(run)
    assert torchtally.from_json(run.to_json(tmp_path / "a.json")).trace == run.trace
