"""Small programs over llama.cpp's own functions, compiled against the pinned libraries.

They and what they print are kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from filelock import FileLock

from tools import natives, pins

HERE = Path(__file__).parent
COMPILER = [*shlex.split(os.environ.get("CXX", "c++")), "-std=c++17", "-O0", "-w"]  # a program runs once: what takes time is to compile it
INCLUDES = ("include", "ggml/include", "common", "vendor", "tests")


@dataclass(frozen=True)
class Program:
    """A C++ file of this folder and `made`, the text of files that it includes by name."""

    name: str
    made: Mapping[str, str] = field(default_factory=dict)

    def lines(self, given: str = "") -> list[dict[str, Any]]:
        """The lines of JSON that the program writes, run in llama.cpp's tree with that text as its input; at most once per text and day."""
        libraries, source = natives.fetch(pins.load().core_wheel(*pins.this_platform()).prebuilt)
        folder = natives.cache_directory() / "compiled" / f"{self.name}-{self._key(libraries, source)}"
        output = folder / f"{hashlib.sha256(given.encode()).hexdigest()[:16]}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"), tempfile.TemporaryDirectory(dir=folder) as scratch:
            partial = Path(scratch) / "partial"
            if not (folder / self.name).exists():
                self._compile(libraries, source, partial)
                partial.replace(folder / self.name)
            # some templates write the date
            if not output.exists() or date.fromtimestamp(output.stat().st_mtime) != date.today():
                _run([str(folder / self.name), str(partial)], source, given)
                partial.replace(output)
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]

    def _compile(self, libraries: Path, source: Path, output: Path) -> None:
        for name, text in self.made.items():
            (output.parent / name).write_text(text, encoding="utf-8")
        release = pins.load().release
        linked = [str(libraries / name) for name in
                  ("libllama-common.so", f"libllama.{release}.so", f"libggml.{release}.so", "libggml-base.so")]
        includes = [f"-I{folder}" for folder in (output.parent, *(source / part for part in INCLUDES))]
        _run([*COMPILER, *includes, str(HERE / f"{self.name}.cpp"), *linked, f"-Wl,-rpath,{libraries}", "-o", str(output)], source)

    def _key(self, libraries: Path, source: Path) -> str:
        """Changes whenever the program or what it prints could."""
        ours = [file.read_text(encoding="utf-8") for file in (HERE / f"{self.name}.cpp", *sorted(HERE.glob("*.hpp")))]
        version = subprocess.run([COMPILER[0], "--version"], capture_output=True, text=True, check=True).stdout
        parts = [str(libraries), natives.digest(libraries), natives.digest(source), version, *COMPILER, *ours, *self.made.values()]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _run(command: list[str], folder: Path, given: str = "") -> None:
    result = subprocess.run(command, cwd=folder, input=given.encode(), capture_output=True)
    if result.returncode:
        raise RuntimeError(f"{command[0]} ended with {result.returncode}: {result.stderr.decode(errors='replace')[-4000:]}")
