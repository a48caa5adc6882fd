"""What is learnt of a machine once and kept: where it lies, and which machine it is of."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def cache_path(kind: str, about: Mapping[str, Any]) -> Path:
    """In the user's cache folder (XDG_CACHE_HOME), one file for each `kind` and all that it is `about`."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "torchtally" / f"{kind}-{digest}.json"


def processor() -> str:
    """Its full name where the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
