"""A loader that loads nothing: sizes by name, and errors and delays on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gollama.errors import CancelledError, ModelNotFoundError
from gollama.llm import LLM
from gollama.options import LoadOptions
from gollama.pool import ModelPool
from gollama.pool.records import Amounts, Need

MIB = 2**20
FREE = {"host": 2**40}


class FakeLlm(LLM):
    """A model that says whether it is loaded, and no more."""

    closed = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<FakeLlm {self.path}>"


@dataclass
class FakeLoader:
    """Models by name and size in MiB of the host; one more for each sequence after the first, if `growing`."""

    sizes: Mapping[str, int]
    growing: int = 0
    seconds: float = 0.0  # of a load
    gate: threading.Event | None = None  # a load waits for it
    failing: dict[str, BaseException] = field(default_factory=dict)  # by name: what the next loads raise
    calls: list[tuple[str, str]] = field(default_factory=list)
    most: int = 0  # MiB of all that was loaded at once
    loaded: list[FakeLlm] = field(default_factory=list)
    sequences: dict[str, int] = field(default_factory=dict)

    def fetch(self, name: str, on_progress: Callable[[float], bool]) -> tuple[Path, Any]:
        self.calls.append(("fetch", name))
        if name not in self.sizes:
            raise ModelNotFoundError(f"there is no model named {name!r}")
        return Path(name), name

    def measure(self, path: Path, options: LoadOptions, limits: Callable[[Amounts], Mapping[str, int]], alone: bool) -> Need:
        self.calls.append(("measure", path.name))
        for sequences in range(options.max_sequences, 1, -1):
            if self._size(path, sequences) <= limits(FREE)["host"]:
                return Need({"host": self._size(path, sequences)}, sequences, FREE)
        return Need({"host": self._size(path, 1)}, 1, FREE)

    def load(self, path: Path, options: LoadOptions, on_progress: Callable[[float], bool]) -> tuple[FakeLlm, Amounts, Amounts]:
        self.calls.append(("load", path.name))
        end = time.monotonic() + self.seconds
        while (self.gate is not None and not self.gate.is_set()) or time.monotonic() < end:
            if not on_progress(0.5):
                raise CancelledError("loading was stopped")
            time.sleep(0.001)
        if path.name in self.failing:
            raise self.failing[path.name]
        llm = FakeLlm(path)
        self.loaded.append(llm)
        self.sequences[path.name] = options.max_sequences
        self.most = max(self.most, sum(self.sizes[one.path.name] for one in self.loaded))
        return llm, {"host": self._size(path, 1)}, {"host": self._size(path, options.max_sequences)}

    def unload(self, llm: FakeLlm) -> None:
        self.calls.append(("unload", llm.path.name))
        self.loaded.remove(llm)
        llm.closed = True

    def _size(self, path: Path, sequences: int) -> int:
        return (self.sizes[path.name] + self.growing * (sequences - 1)) * MIB

    def done(self, what: str) -> list[str]:
        """The names of the models that it did this with, in order."""
        return [name for did, name in self.calls if did == what]


SIZES = {"a": 40, "b": 40, "c": 40, "large": 90, "giant": 200}


@contextmanager
def pool_of(loader: FakeLoader | None = None, *, memory: int = 100, **options: Any) -> Iterator[ModelPool]:
    with ModelPool(options.pop("models", list(SIZES)), memory=memory, loader=loader or FakeLoader(SIZES), **options) as pool:
        yield pool
