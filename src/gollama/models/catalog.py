"""The models that gollama knows by name, and where their files lie."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from gollama._cache import cache_directory
from gollama.models.names import Source, parse_source


@dataclass(frozen=True)
class KnownModel:
    """A model that gollama knows by name. Sizes are bytes."""

    name: str
    title: str
    file: str
    quantization: str
    license: str
    size: int
    sha256: str
    source: Source

    @property
    def path(self) -> Path:
        """Where the file lies once it is fetched. It appears there whole and verified, or not at all."""
        return cache_directory() / "models" / self.name.replace(":", "-") / self.file

    @property
    def is_cached(self) -> bool:
        return self.path.is_file()


@functools.cache
def known_models() -> dict[str, KnownModel]:
    """The built-in models by name."""
    table = json.loads((Path(__file__).parent / "catalog.json").read_text(encoding="utf-8"))
    return {name: KnownModel(name, **{**row, "source": parse_source(row["source"])}) for name, row in table.items()}
