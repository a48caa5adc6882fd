"""In which order an operator asks for memory and gives it back, in a line that can be read:

    +source +weight +destination -weight -source =output -destination

`+` opens scratch memory, `-` closes it, `=` opens a result that outlives the operator. `<` and `>` open and close what
is not the operator's own: a Python number that is made a tensor before it is called, and dies after.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

OPENS, CLOSES, GIVES = "+<", "->", "="


class Move(NamedTuple):
    """One word of a script: what it does, to which memory, of how many bytes (0 for results: they have their own)."""

    does: str
    name: str
    bytes: int


@dataclass(frozen=True)
class Script:
    """Moves in order. Raises ValueError where memory is closed before it is open, opened twice or left open."""

    moves: tuple[Move, ...]

    def __post_init__(self) -> None:
        open_now: list[str] = []
        for does, name, _ in self.moves:
            if does in OPENS:
                if name in open_now:
                    raise ValueError(f"{name!r} is opened twice: {self}")
                open_now.append(name)
            elif does in CLOSES:
                if name not in open_now:
                    raise ValueError(f"{name!r} is closed before it is open: {self}")
                open_now.remove(name)
        if open_now:
            raise ValueError(f"{', '.join(open_now)} left open: {self}")

    def __str__(self) -> str:
        return " ".join(f"{does}{name}" for does, name, _ in self.moves)

    def giving(self, results: Collection[str]) -> Iterator[Move]:
        """The moves that apply where these are the results: scratch memory of 0 bytes is not asked for."""
        return (move for move in self.moves if (move.name in results if move.does == GIVES else move.bytes))

    def then(self, after: Script) -> Script:
        """One script, and another."""
        return Script(self.moves + after.moves)


def script(order: str, **scratch: int) -> Script:
    """A script from its line and the bytes of the scratch memory that it names. Raises ValueError, KeyError."""
    words = ((word[0], word[1:]) for word in order.split())
    return Script(tuple(Move(does, name, 0 if does == GIVES else scratch[name]) for does, name in words))


def in_order(results: Iterable[str]) -> Script:
    """The results one after the other, and no scratch memory: all that can be said of every device."""
    return Script(tuple(Move(GIVES, name, 0) for name in results))
