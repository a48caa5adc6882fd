"""Values out of a file, each checked before it is believed. What is wrong is said with its place in the file."""

from __future__ import annotations

import types
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import FileFormatError

Word = TypeVar("Word", bound=str)

LARGEST = 2**63 - 1
"""Of any integer: no count or size is larger, and sums of such stay printable."""


class At:
    """A place in a file: `At("cost.json")["calls"][3]` is named "cost.json: calls[3]"."""

    __slots__ = ("file", "path")

    def __init__(self, file: str, path: str = "") -> None:
        self.file, self.path = file, path

    def __getitem__(self, step: str | int) -> At:
        if isinstance(step, int):
            return At(self.file, f"{self.path}[{step}]")
        return At(self.file, f"{self.path}.{step}".lstrip("."))

    def fail(self, why: str) -> NoReturn:
        raise FileFormatError(f"{self.file}: {self.path}: {why}" if self.path else f"{self.file}: {why}")

    def expected(self, what: str, value: Any) -> NoReturn:
        self.fail(f"expected {what}, found {_shown(value)}")

    def integer(self, value: Any, least: int = 0, most: int = LARGEST) -> int:
        if type(value) is not int or not least <= value <= most:
            self.expected(f"an integer from {least} to {most}" if most < LARGEST else f"an integer >= {least}", value)
        return value

    def flag(self, value: Any) -> bool:
        if not isinstance(value, bool):
            self.expected("true or false", value)
        return value

    def text(self, value: Any) -> str:
        if not isinstance(value, str):
            self.expected("text", value)
        return value

    def texts(self, values: Any) -> tuple[str, ...]:
        return tuple(self[n].text(value) for n, value in enumerate(self.items(values)))

    def one_of(self, value: Any, words: Collection[Word]) -> Word:
        for word in words:
            if value == word:
                return word
        self.expected(f"one of {', '.join(words)}", value)

    def items(self, value: Any, length: int | None = None) -> list[Any]:
        if not isinstance(value, list) or length not in (None, len(value)):
            self.expected("a list" if length is None else f"a list of {length}", value)
        return value

    def fields(self, value: Any, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
        """An object with these names, perhaps the optional ones, and no other."""
        if not isinstance(value, dict):
            self.expected("an object", value)
        for name in names:
            if name not in value:
                self.fail(f"{name!r} is missing")
        for name in value:
            if name not in names and name not in optional:
                self.fail(f"{_shown(name)} is not known")
        return value

    def rows(self, value: Any, columns: Sequence[str]) -> list[list[Any]]:
        """A table with exactly these columns."""
        table = self.fields(value, ("columns", "rows"))
        if table["columns"] != list(columns):
            self["columns"].expected(", ".join(columns), table["columns"])
        return [self[number].items(row, len(columns)) for number, row in enumerate(self["rows"].items(table["rows"]))]

    def of_type(self, value: Any, kind: Any) -> Any:
        """A value as an annotation has it: int, float, bool, str, None, Literal, a union, or a tuple of any length or
        of a fixed one. Lists become tuples."""
        if isinstance(value, list):
            return self._tuple(value, kind)
        if not _fits(value, kind):
            self.expected(_named(kind), value)
        return value

    def _tuple(self, value: list[Any], kind: Any) -> tuple[Any, ...]:
        for option in _options(kind):
            if get_origin(option) is not tuple:
                continue
            inner = get_args(option)
            kinds = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
            if len(kinds) == len(value):
                pairs = enumerate(zip(value, kinds, strict=True))
                return tuple(self[number].of_type(item, each) for number, (item, each) in pairs)
        self.expected(_named(kind), value)


@cache
def type_hints(kind: type) -> dict[str, Any]:
    """The resolved annotations of a class."""
    return get_type_hints(kind)


def _options(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _fits(value: Any, kind: Any) -> bool:
    return any(_fits_one(value, option) for option in _options(kind))


def _fits_one(value: Any, option: Any) -> bool:
    if get_origin(option) is Literal:
        return type(value) is str and value in get_args(option)
    if option in (int, float):
        right = type(value) is int or (option is float and type(value) is float)
        return right and -LARGEST <= value <= LARGEST
    return type(value) is option


def _named(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind).replace("typing.", "")


def _shown(value: Any) -> str:
    """Shortly, whatever it is."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a larger integer"
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
