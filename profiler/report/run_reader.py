"""JSON text as a run again. Everything is checked; nothing in a file is run, imported or fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal

from ...theory.layer import Layer
from ...theory.phase import PHASES
from ...theory.tensor import ITEMSIZE, TensorSpec
from ..errors import FileFormatError, UsageError
from ..formulas import Price
from ..pricing import PRICES, Prices
from ..records import (
    SAVED_ROLES,
    Argument,
    CallFacts,
    GradientFacts,
    ModuleFacts,
    OperatorFacts,
    ParameterFacts,
    Phase,
    SavedFacts,
    Signature,
    Trace,
)
from ..run import Run
from .checked import LARGEST, At, type_hints
from .measured_reader import read_memory, read_timing
from .run_schema import COLUMNS, KIND, SCHEMA, SECTIONS, layer_kinds

MOST_BYTES = 256 * 2**20
"""Of a file: a run of ten thousand modules takes a few of them."""

MOST_DIMENSIONS = 64

_GRADIENTS: tuple[Literal["input", "output", "parameter"], ...] = ("input", "output", "parameter")


def from_json(source: str | Path) -> Run:
    """A run out of what `run.to_json()` wrote: a path, or the text itself (which begins with a brace).

    It is priced by the table of this installation. Raises FileFormatError, in one line, for what is no such file, with
    the place in it that is wrong; UsageError where it cannot be read.
    """
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return _run(At("the text"), source)
    path = Path(source)
    return _run(At(path.name), _text(path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MOST_BYTES:
        raise FileFormatError(f"{path.name}: larger than {MOST_BYTES // 2**20} MiB, which no run is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path.name}: no JSON: byte {error.start} is not UTF-8") from error


def _run(at: At, text: str) -> Run:
    content = _parsed(at, text)
    if not isinstance(content, dict) or content.get("torchtally") != KIND:
        at.fail('no torchtally run: it has no "torchtally": "run"')
    if (schema := at["schema"].integer(content.get("schema"), 1)) > SCHEMA:
        at["schema"].fail(f"{schema} is of a newer torchtally; this one reads up to {SCHEMA}")
    try:
        return _Reader(at, at.fields(content, SECTIONS)).run()
    except RecursionError:
        at.fail("nested too deeply")


def _parsed(at: At, text: str) -> Any:
    def refused(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(text, parse_constant=refused)
    except RecursionError:
        at.fail("nested too deeply")
    except ValueError as error:  # JSONDecodeError, and integers of too many digits
        at.fail(f"no JSON, or not all of it: {str(error).partition(';')[0]}")


class _Reader:
    """One file. Tables are read in an order in which what rows refer to is there already."""

    def __init__(self, at: At, content: dict[str, Any]) -> None:
        self.at, self.content = at, content
        self.specs = [self._spec(at["tensors"][n], row) for n, row in enumerate(self._list("tensors"))]
        self.places = [self._place(at["places"][n], row) for n, row in enumerate(self._list("places"))]
        self.modules = [self._module(at, row) for at, row in self._rows("modules")]
        self.paths = {module.path for module in self.modules}
        self.signatures = [self._signature(at, row) for at, row in self._rows("signatures")]

    def run(self) -> Run:
        if len(self.paths) < len(self.modules):
            self.at["modules"].fail("two modules have one path")
        return Run(
            self._trace(),
            layers=self._layers(),
            prices=self._prices(),
            memory=read_memory(self.at["memory"], self.content["memory"], self._at_place),
            timing=read_timing(self.at["timing"], self.content["timing"]),
        )

    def _trace(self) -> Trace:
        at, content = self.at, self.content
        unknown = enumerate(self._list("saved_unknown"))
        return Trace(
            environment=self._environment(),
            modules=tuple(self.modules),
            calls=tuple(self._call(at, row) for at, row in self._rows("calls")),
            operators=tuple(self._operator(at, row) for at, row in self._rows("operators")),
            gradients=tuple(self._gradient(at, row) for at, row in self._rows("gradients")),
            saved=tuple(self._saved(at, row) for at, row in self._rows("saved")),
            saved_unknown=tuple(self._module_place(at["saved_unknown"][n], row) for n, row in unknown),
            second_order=at["second_order"].flag(content["second_order"]),
            notes=at["notes"].texts(content["notes"]),
        )

    # Shared parts -----------------------------------------------------------------------------------------------------

    def _list(self, section: str) -> list[Any]:
        return self.at[section].items(self.content[section])

    def _rows(self, section: str) -> Iterator[tuple[At, list[Any]]]:
        at = self.at[section]
        return ((at[n], row) for n, row in enumerate(at.rows(self.content[section], COLUMNS[section])))

    def _environment(self) -> Mapping[str, Any]:
        at, found = self.at["environment"], self.content["environment"]
        if not isinstance(found, dict):
            at.expected("an object", found)
        for name, value in found.items():
            at[name].of_type(value, str | int | float | bool | None)
        return found

    @staticmethod
    def _spec(at: At, row: Any) -> TensorSpec:
        dtype, *sizes = at.items(row) or at.expected("a dtype and sizes", row)
        if len(sizes) > MOST_DIMENSIONS:
            at.fail(f"a tensor of {len(sizes)} dimensions; {MOST_DIMENSIONS} are the most")
        return TensorSpec(tuple(at[n].integer(size) for n, size in enumerate(sizes, 1)), at[0].one_of(dtype, ITEMSIZE))

    def _place(self, at: At, row: Any) -> tuple[str, Phase]:
        path, phase = at.items(row, 2)
        return at[0].text(path), at[1].one_of(phase, PHASES)

    def _at_place(self, at: At, position: Any) -> tuple[str, Phase]:
        return self.places[at.integer(position, 0, len(self.places) - 1)]

    def _module_place(self, at: At, position: Any) -> tuple[str, Phase]:
        path, phase = self._at_place(at, position)
        return self._module_path(at, path), phase

    def _module_path(self, at: At, path: Any) -> str:
        if at.text(path) not in self.paths:
            at.expected("the path of a module", path)
        return str(path)

    def _tensor(self, at: At, position: Any) -> TensorSpec:
        return self.specs[at.integer(position, 0, len(self.specs) - 1)]

    def _tensors(self, at: At, positions: Any) -> tuple[TensorSpec, ...]:
        return tuple(self._tensor(at[n], position) for n, position in enumerate(at.items(positions)))

    # Facts ------------------------------------------------------------------------------------------------------------

    def _module(self, at: At, row: list[Any]) -> ModuleFacts:
        path, kind, training, parameters, buffers = row
        return ModuleFacts(
            path=at["path"].text(path),
            type=at["type"].text(kind),
            training=at["training"].flag(training),
            parameters=self._held(at["parameters"], parameters),
            buffers=self._held(at["buffers"], buffers),
        )

    def _held(self, at: At, rows: Any) -> tuple[ParameterFacts, ...]:
        return tuple(self._parameter(at[n], at[n].items(row, 4)) for n, row in enumerate(at.items(rows)))

    def _parameter(self, at: At, row: list[Any]) -> ParameterFacts:
        name, tensor, identity, trainable = row
        spec = self._tensor(at[1], tensor)
        return ParameterFacts(at[0].text(name), spec, at[2].integer(identity), at[3].flag(trainable))

    def _call(self, at: At, row: list[Any]) -> CallFacts:
        place, inputs, need_grad, outputs, own_outputs, times = row
        path, phase = self._module_place(at["place"], place)
        given = self._tensors(at["inputs"], inputs)
        flags = at["inputs_need_grad"]
        return CallFacts(
            path=path,
            phase=phase,
            inputs=given,
            inputs_need_grad=tuple(flags.flag(flag) for flag in flags.items(need_grad, len(given))),
            outputs=self._tensors(at["outputs"], outputs),
            own_outputs=self._tensors(at["own_outputs"], own_outputs),
            times=at["times"].integer(times, 1),
        )

    def _signature(self, at: At, row: list[Any]) -> Signature:
        operator, arguments, keywords, outputs = row
        if not isinstance(keywords, dict):
            at["keywords"].expected("an object", keywords)
        listed = enumerate(at["arguments"].items(arguments))
        return Signature(
            operator=at["operator"].text(operator),
            arguments=tuple(self._argument(at["arguments"][n], value) for n, value in listed),
            keywords={name: self._argument(at["keywords"][name], value) for name, value in keywords.items()},
            outputs=self._tensors(at["outputs"], outputs),
        )

    def _argument(self, at: At, value: Any) -> Argument:
        if isinstance(value, dict):
            return self._tensor(at, at.fields(value, ("tensor",))["tensor"])
        if isinstance(value, list):
            return tuple(self._argument(at[n], item) for n, item in enumerate(value))
        if value is None or isinstance(value, (bool, str)):
            return value
        return at.integer(value, -LARGEST)

    def _operator(self, at: At, row: list[Any]) -> OperatorFacts:
        place, signature, times = row
        path, phase = self._module_place(at["place"], place)
        position = at["signature"].integer(signature, 0, len(self.signatures) - 1)
        return OperatorFacts(path, phase, self.signatures[position], at["times"].integer(times, 1))

    def _gradient(self, at: At, row: list[Any]) -> GradientFacts:
        path, of, name, tensor, times = row
        what = at["of"].one_of(of, _GRADIENTS)
        if what != "parameter" and not (at["name"].text(name).isascii() and name.isdigit() and len(name) < 9):
            at["name"].expected("a position", name)
        return GradientFacts(
            path=self._module_path(at["path"], path),
            of=what,
            name=at["name"].text(name),
            tensor=self._tensor(at["tensor"], tensor),
            times=at["times"].integer(times, 1),
        )

    def _saved(self, at: At, row: list[Any]) -> SavedFacts:
        place, role, tensor, size, times = row
        path, phase = self._module_place(at["place"], place)
        return SavedFacts(
            path=path,
            phase=phase,
            role=at["role"].one_of(role, SAVED_ROLES),
            tensor=self._tensor(at["tensor"], tensor),
            bytes=at["bytes"].integer(size),
            times=at["times"].integer(times, 1),
        )

    # What is read beside the facts ------------------------------------------------------------------------------------

    def _prices(self) -> Prices:
        kept = {}
        for at, (signature, *figures) in self._rows("prices"):
            position = at["signature"].integer(signature, 0, len(self.signatures) - 1)
            kept[_key(self.signatures[position])] = self._price(at, figures)
        return _KeptPrices(kept) if kept else PRICES

    @staticmethod
    def _price(at: At, figures: list[Any]) -> Price | None:
        if figures == [None, None, None]:
            return None
        flops, products, biases = (at[n].integer(figure) for n, figure in enumerate(figures, 1))
        return Price(flops, at[2].integer(products, 0, flops), biases)

    def _layers(self) -> dict[str, Layer]:
        kinds = layer_kinds()
        found: dict[str, Layer] = {}
        for at, (path, kind, settings) in self._rows("layers"):
            if at["kind"].text(kind) not in kinds:
                at["kind"].expected("a kind of layer that theory has", kind)
            found[self._module_path(at["path"], path)] = self._layer(at["settings"], kinds[kind], settings)
        return found

    @staticmethod
    def _layer(at: At, kind: Any, settings: Any) -> Layer:
        """A setting that came to be after the file was written has its default."""
        types = type_hints(kind)
        entries = fields(kind)
        names = [entry.name for entry in entries if entry.default is MISSING]
        later = [entry.name for entry in entries if entry.default is not MISSING]
        given = {n: at[n].of_type(value, types[n]) for n, value in at.fields(settings, names, later).items()}
        try:
            layer: Layer = kind(**given)
        except (ValueError, TypeError, ArithmeticError) as error:
            at.fail(str(error))
        return layer


class _KeptPrices(Prices):
    """The table of this installation, but for figures that came with a file."""

    def __init__(self, kept: Mapping[Any, Price | None]) -> None:
        super().__init__(dict(PRICES), PRICES.free)
        self._kept = kept

    def price(self, signature: Signature) -> Price | None:
        key = _key(signature)
        return self._kept[key] if key in self._kept else super().price(signature)


def _key(signature: Signature) -> tuple[Any, ...]:
    """A signature as a key: its keywords are in a dict, and True is no 1."""
    return signature.operator, repr((signature.arguments, sorted(signature.keywords.items()), signature.outputs))
