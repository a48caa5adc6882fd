"""What an allocator's account is made of: requests, and the ranges in which they were made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

NO_NUMBER: Final = -1


@dataclass(slots=True, eq=False)
class Span:
    """A range in which something ran: an operator, an autograd node, or one of our own. Two spans are never equal.

    `number` is the autograd sequence number, -1 where there is none. `outer` is the range around this one.
    """

    name: str
    number: int
    outer: Span | None


@dataclass(frozen=True, slots=True)
class Request:
    """Memory asked for (`bytes` > 0) or given back (< 0), at an address."""

    pointer: int
    bytes: int
    span: Span | None


@dataclass(frozen=True, slots=True)
class Moment:
    """A span begins or ends, `at` nanoseconds of the profiler's clock, in a thread."""

    what: Literal["begins", "ends"]
    span: Span
    at: int = 0
    thread: int = 0


Entry: TypeAlias = Request | Moment


@dataclass(frozen=True, slots=True)
class Kernel:
    """Work that a device did, from `at` to `ends` nanoseconds of the profiler's clock, launched inside `launcher`."""

    at: int
    ends: int
    launcher: Span | None
