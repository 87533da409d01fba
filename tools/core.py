"""What a provider of native libraries has made: the folder `lib` of the package, and how it is to be loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Core:
    """The libraries that are in the folder `lib` now."""

    lib: Path
    load_order: tuple[str, ...]  # those that `_llama` stands on, each behind those that it needs itself
    linked: tuple[Path, ...]  # what `_llama` is linked with, each behind those that it needs itself
    modules: dict[str, str]  # backends that are loaded on demand, by llama.cpp's name for them
    packages: dict[str, str]  # what they were made from, with each package's sha512
    build: dict[str, Any]  # compiler and options, where they were compiled here
    licences: dict[str, Path]  # those of what is in the libraries beside llama.cpp and what it carries
    compiler: tuple[str, ...] = ()  # the compiler that `_llama` needs too, so that it asks no more of a machine than they do
