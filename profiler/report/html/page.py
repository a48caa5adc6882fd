"""Runs and audits as one HTML file that opens offline: everything inside it, and nothing fetched.

Names are data. In the markup they are escaped by Jinja2; to the script they go as JSON, of which no character can end
the element that holds it. The page's policy lets run the two scripts and the style that it was made with, by their
hashes, and lets nothing be loaded.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from .columns import Json

SCRIPTS = ("text.js", "table.js", "modules.js", "memory.js", "roofline.js", "main.js")
"""The page's own, in the order in which they stand in it."""

_UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


@dataclass(frozen=True, kw_only=True)
class Card:
    """A headline figure: rounded, with the exact one below it."""

    label: str
    value: str
    exact: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page. `data` is what the script makes it of."""

    id: str
    title: str
    about: str
    data: Json


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a report has to say. `remarks` come first: what would surprise."""

    title: str
    setting: str
    cards: tuple[Card, ...]
    remarks: tuple[str, ...]
    sections: tuple[Section, ...]


def html(page: Page) -> bytes:
    """The page as UTF-8. What no UTF-8 can say (half of a surrogate pair, in a name) becomes a question mark."""
    style, library, script = _asset("style.css"), _library(), _own_script()
    rendered = _template().render(
        page=page,
        policy=_policy(style, library, script),
        style=Markup(style),
        library=Markup(library),
        script=Markup(script),
        data=Markup(as_json({section.id: section.data for section in page.sections})),
    )
    return rendered.encode("utf-8", "replace")


def as_json(content: Any) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.translate(_UNSAFE)


def _policy(style: str, *scripts: str) -> str:
    """Nothing may be fetched, embedded or sent; only what the page was made with may run."""
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode('utf-8')).digest()).decode()}'"


@cache
def _template() -> Template:
    markup = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return markup.from_string(_asset("page.html"))


@cache
def _library() -> str:
    """D3, with its licence, which goes wherever it goes."""
    licence = _asset("vendor/d3/LICENSE").replace("*/", "* /")
    return f"/*\n{licence}*/\n{_asset('vendor/d3/d3.min.js')}"


@cache
def _own_script() -> str:
    return "\n".join(_asset(name) for name in SCRIPTS)


@cache
def _asset(name: str) -> str:
    """A file of the package, without carriage returns, which a browser would drop before it takes the hash."""
    path = resources.files(__package__).joinpath("assets", *name.split("/"))
    return path.read_text(encoding="utf-8").replace("\r\n", "\n")
