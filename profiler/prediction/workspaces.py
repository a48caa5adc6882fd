"""What happens inside operators, learnt: one isolated call of each kind, under the real allocator, in another process.

What was learnt is kept in a file per machine and library version, so that it is learnt once.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..cache import cache_path, processor
from ..capture.forms import Form, can_be_repeated, from_json
from ..environment import environment
from ..errors import UsageError
from ..precision import tf32
from .inside import Inside

_PACKAGE = __name__.rpartition(".")[0]
_SECONDS = 60.0


class Learner:
    """Learns calls and remembers them. `limit` is the most bytes that a call may need, `seconds` how long one `learn`
    may take altogether."""

    def __init__(self, *, limit: int | None = None, seconds: float = _SECONDS) -> None:
        self.limit = _quarter_of_free_memory() if limit is None else limit
        self.seconds = seconds
        self.notes: tuple[str, ...] = ()
        self._known: dict[Form, Inside] | None = None
        self._worker: _Worker | None = None

    def learn(self, calls: Mapping[Form, int]) -> tuple[dict[Form, Inside], dict[Form, str]]:
        """What happens inside these calls, and why it was not learnt of others. `calls` has the bytes each needs."""
        known = self._remembered()
        why = {
            form: reason for form, need in calls.items() if form not in known and (reason := self._refused(form, need))
        }
        wanted = sorted((form for form in calls if form not in known and form not in why), key=calls.__getitem__)
        if wanted:
            learnt = self._ask(wanted, why)
            known.update(learnt)
            self._remember(learnt)
        return {form: known[form] for form in calls if form in known}, why

    def close(self) -> None:
        """End the other process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _refused(self, form: Form, need: int) -> str:
        if not can_be_repeated(form):
            return "takes what another process cannot make again"
        if need > self.limit:
            return f"needs more than the limit of {self.limit:,} B"
        return ""

    def _ask(self, wanted: Iterable[Form], why: dict[Form, str]) -> dict[Form, Inside]:
        end = time.monotonic() + self.seconds
        learnt: dict[Form, Inside] = {}
        for form in wanted:
            left = end - time.monotonic()
            answer = self._one(form, left) if left > 0 else {"why": f"{self.seconds:.0f} s were over"}
            if "why" in answer:
                why[form] = answer["why"]
            else:
                learnt[form] = Inside.read(answer)
        return learnt

    def _one(self, form: Form, seconds: float) -> dict[str, Any]:
        if self._worker is None:
            self._worker = _Worker()
        answer = self._worker.ask(form, seconds)
        if answer is None:
            ended = self._worker.ended()
            self.close()
            return {"why": f"its process ended with code {ended}" if ended is not None else "took too long"}
        return answer

    # The cache --------------------------------------------------------------------------------------------------------

    def _remembered(self) -> dict[Form, Inside]:
        if self._known is None:
            try:
                self._known = _read(cache_file())
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                self._known = {}
                self.notes = (f"{cache_file()} cannot be read ({type(error).__name__}): workspaces were learnt anew",)
        return self._known

    def _remember(self, learnt: Mapping[Form, Inside]) -> None:
        from ..report.files import write_atomically

        path = cache_file()
        others: dict[Form, Inside] = {}
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            others = _read(path)  # which another process may have written meanwhile
        calls = [[form, asdict(inside)] for form, inside in {**others, **learnt}.items()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"about": _about(), "calls": calls}))
        except (OSError, UsageError) as error:
            self.notes = (*self.notes, f"what was learnt could not be kept: {error}")


def cache_file() -> Path:
    """Where calls are remembered, for this machine, these libraries and these settings."""
    return cache_path("workspaces", _about())


def _read(path: Path) -> dict[Form, Inside]:
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return {from_json(form): Inside.read(inside) for form, inside in content["calls"]}


def _about() -> dict[str, Any]:
    """All that could change what happens inside an operator."""
    facts = {name: value for name, value in environment().items() if name not in ("python", "device")}
    gpu = environment("cuda") if torch.cuda.is_available() else None
    return {"format": 3, **facts, **_settings(), "processor": processor(), "gpu": gpu}


def _settings() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "mkldnn": torch.backends.mkldnn.enabled,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "tf32": tf32(),
    }


def _quarter_of_free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (AttributeError, ValueError, OSError):  # not known on this system
        return 2**30


class _Worker:
    """The other process, and a thread that reads what it says."""

    def __init__(self) -> None:
        paths = [path for path in (*sys.path, os.environ.get("PYTHONPATH", "")) if path]
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{_PACKAGE}.isolated"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))},
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._say(_settings())

    def ask(self, form: Form, seconds: float) -> dict[str, Any] | None:
        """Its answer; None where there is none: it has ended, or takes too long."""
        self._say(form)
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            return None
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def ended(self) -> int | None:
        """The code with which it has ended."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(1)
        return None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _say(self, what: Any) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):  # closed while it was read
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put("")
