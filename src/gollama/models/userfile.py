"""The user's own registry: models, pins and the registries of teams, in the settings directory.

`registry.json` is what the commands write; `registry.toml` is for people to write by hand, is read first and never written.
Both have the format of every registry, and beside `models` two tables more:

| key | holds |
|---|---|
| `registries` | a list of `{"location": ADDRESS OR PATH, "sha256": DIGEST OR null}` |
| `pins` | models held at a revision, as in a lock file |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gollama._cache import config_directory
from gollama.errors import RegistryError, StoreError
from gollama.models import _documents
from gollama.models._documents import printable
from gollama.models.entries import FORMAT, Layer, read_models

if TYPE_CHECKING:
    from gollama.models.lockfile import LockedModel

MOST_REGISTRIES = 32
_KEYS = {"format", "models", "registries", "pins"}


@dataclass(frozen=True)
class TeamRegistry:
    """A registry that others keep: an https address or a path. With `sha256` only this very content is taken."""

    location: str
    sha256: str | None = None


@dataclass(frozen=True)
class UserFile:
    """One of the two files, checked."""

    models: Layer
    registries: tuple[TeamRegistry, ...]
    pins: dict[str, LockedModel]


def read(folder: Path | None = None) -> tuple[UserFile, UserFile]:
    """The hand-written file and the commands' one; empty where there is none. RegistryError says what is wrong in which."""
    folder = folder or config_directory()
    return _read(folder / "registry.toml"), _read(folder / "registry.json")


def change(edit: Callable[[dict[str, Any]], None], folder: Path | None = None) -> None:
    """Let `edit` change the table of `registry.json`, under a lock that other processes respect, and write it if it is still right."""
    from filelock import FileLock, Timeout

    path = (folder or config_directory()) / "registry.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=30):
            table = _load(path) or {"format": FORMAT}
            for key, empty in (("models", {}), ("registries", []), ("pins", {})):
                table.setdefault(key, empty)
            edit(table)
            _check(table, path)
            _documents.write(path, table)
    except Timeout:
        raise StoreError(f"another process has held {path}.lock for half a minute") from None
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} cannot be written ({error.strerror or error})") from error


def _read(path: Path) -> UserFile:
    table = _load(path)
    return UserFile(Layer({}, str(path)), (), {}) if table is None else _check(table, path)


def _load(path: Path) -> dict[str, Any] | None:
    try:
        content = _documents.read(path, RegistryError)
    except FileNotFoundError:
        return None
    return _documents.parse(content, str(path), RegistryError, toml=path.suffix == ".toml")


def _check(table: dict[str, Any], path: Path) -> UserFile:
    unknown = set(table) - _KEYS
    if unknown:
        raise RegistryError(f"{path} has {printable(min(unknown))[:80]!r}, which is not among {', '.join(sorted(_KEYS))}")
    models = read_models(table, str(path), distant=False)
    return UserFile(models, _registries(table.get("registries", []), path), _pins(table.get("pins", {}), path))


def _pins(rows: object, path: Path) -> dict[str, LockedModel]:
    if rows == {}:
        return {}
    from gollama.models import lockfile

    return lockfile.read_models(rows, f"{path}, pins")


def _registries(rows: object, path: Path) -> tuple[TeamRegistry, ...]:
    if not isinstance(rows, list) or len(rows) > MOST_REGISTRIES:
        raise RegistryError(f"{path}: registries must be a list of {MOST_REGISTRIES} at most")
    found = []
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("location"), str) or set(row) - {"location", "sha256"} or (
                row.get("sha256") is not None and not isinstance(row["sha256"], str)):
            raise RegistryError(f"{path}: each of registries must have a location, may have a sha256, and nothing else")
        found.append(TeamRegistry(row["location"], row.get("sha256")))
    return tuple(found)
