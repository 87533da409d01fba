"""Names to verified model files: what is known, where it lies, how it is fetched."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gollama.errors import ModelNotFoundError

Progress = Callable[[int, int], object]  # bytes done, bytes in all


@dataclass(frozen=True)
class Part:
    """A file inside a wheel on the package index."""

    package: str
    version: str
    member: str
    wheel_size: int


@dataclass(frozen=True)
class KnownModel:
    """A model that gollama knows by name. Sizes are bytes; the file is its parts in order."""

    name: str
    title: str
    file: str
    quantization: str
    license: str
    size: int
    sha256: str
    parts: tuple[Part, ...]

    @property
    def path(self) -> Path:
        """Where the file lies once it is fetched. It appears there whole and verified, or not at all."""
        return cache_directory() / "models" / self.name.replace(":", "-") / self.file

    @property
    def is_cached(self) -> bool:
        return self.path.is_file()


def cache_directory() -> Path:
    """GOLLAMA_HOME, or the user's cache directory."""
    import platformdirs

    return Path(os.environ.get("GOLLAMA_HOME") or platformdirs.user_cache_dir("gollama", appauthor=False))


@functools.cache
def known_models() -> dict[str, KnownModel]:
    """The built-in models by name."""
    table = json.loads((Path(__file__).parent / "models.json").read_text(encoding="utf-8"))
    return {name: KnownModel(name, **{**row, "parts": tuple(Part(**part) for part in row["parts"])}) for name, row in table.items()}


def resolve(model: str | os.PathLike[str], on_progress: Progress | None = None) -> Path:
    """The file of a path or a name; a name's is fetched if need be.

    ModelNotFoundError names the models there are.
    """
    if isinstance(model, str) and model in known_models():
        return fetch(model, on_progress)
    path = Path(model)
    if isinstance(model, str) and not path.exists() and path.suffix != ".gguf" and len(path.parts) < 2:
        raise ModelNotFoundError(f"there is no model named {model!r} and no file of that name; "
                                 f"the names are: {', '.join(known_models())}")
    return path


def fetch(name: str, on_progress: Progress | None = None) -> Path:
    """The verified file of a known model; downloads it the first time, with pip and the user's settings for it.

    Two processes that fetch the same model at once fetch it once. DownloadError says what failed and what to do.
    Without `on_progress` a bar is shown where stderr is a terminal.
    """
    try:
        model = known_models()[name]
    except KeyError:
        raise ModelNotFoundError(f"there is no model named {name!r}; the names are: {', '.join(known_models())}") from None
    if model.is_cached:
        return model.path
    from gollama import _download

    return _download.fetch(model, on_progress)


def cached_models() -> Iterator[tuple[KnownModel, int]]:
    """The known models that lie in the cache directory, and their size in bytes."""
    for model in known_models().values():
        if model.is_cached:
            yield model, model.path.stat().st_size
