"""What gollama remembers of a model file, wherever it lies: which name brought it, when it was used last, its digest.

One small JSON file a model, in `records` of the cache directory, named by the model's path. Its time of change is the model's last use,
so that noting a use is one system call. Nothing depends on a record: without one a model works and merely has no history.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gollama import _files
from gollama._cache import cache_directory
from gollama.errors import StoreError
from gollama.models import _documents
from gollama.models.files import LocalModel

OnBlock = Callable[[int], object]  # bytes that were read


@dataclass(frozen=True)
class Record:
    """A model that was used here. `source` is what brought it, `used` seconds since 1970, `digests` sha256 by path of its files."""

    path: Path
    source: str
    revision: str | None
    used: float
    digests: dict[str, str]


def touch(model: LocalModel) -> None:
    """Note a use of a model. A store that cannot be written is no reason not to use a model."""
    file = _file(model.path)
    try:
        os.utime(file)
    except FileNotFoundError:
        with contextlib.suppress(StoreError):
            _documents.write(file, _table(model, {}))
    except OSError:
        pass


def read(path: Path) -> Record | None:
    """The record of the model whose first file this is."""
    file = _file(path)
    table = _load(file)
    if table is None or _file(Path(table["path"])) != file:
        return None
    rows = {path: row for path, row in table["digests"].items() if isinstance(row, dict)}
    digests = {path: row["sha256"] for path, row in rows.items() if isinstance(row.get("sha256"), str)}
    with contextlib.suppress(OSError):
        return Record(Path(table["path"]), table["source"], table["revision"], file.stat().st_mtime, digests)
    return None


def forget(path: Path) -> None:
    """Remove the record of a model that is gone."""
    with contextlib.suppress(OSError):
        _file(path).unlink()


def digest(model: LocalModel, file: Path, *, known: str | None = None) -> str:
    """The sha256 of a model's file; computed once, and again when its size or its time of change is another. `known`: just computed."""
    path = _file(model.path)
    table = _load(path) or _table(model, {})
    stamp = _stamp(file)
    noted = table["digests"].get(str(file))
    if known is None and isinstance(noted, dict) and noted.get("stamp") == stamp and isinstance(noted.get("sha256"), str):
        return str(noted["sha256"])
    found = known or sha256(file)
    if _stamp(file) == stamp:
        table["digests"][str(file)] = {"stamp": stamp, "sha256": found}
        with contextlib.suppress(StoreError):
            _keeping_use(path, table)
    return found


def sha256(file: Path, on_block: OnBlock | None = None) -> str:
    """The sha256 of a file as it is now. StoreError if it cannot be read."""
    try:
        return _files.sha256(file, on_block)
    except OSError as error:
        raise StoreError(f"{file} cannot be read ({error.strerror or error})") from error


def _keeping_use(path: Path, table: dict[str, Any]) -> None:
    before = path.stat().st_mtime_ns if path.exists() else None
    _documents.write(path, table)
    if before is not None:
        os.utime(path, ns=(before, before))


def _stamp(file: Path) -> list[int]:
    try:
        status = file.stat()
    except OSError as error:
        raise StoreError(f"{file} cannot be read ({error.strerror or error})") from error
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _file(path: Path) -> Path:
    return cache_directory() / "records" / f"{hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:40]}.json"


def _table(model: LocalModel, digests: dict[str, Any]) -> dict[str, Any]:
    return {"path": os.path.abspath(model.path), "source": str(model.source), "revision": model.revision, "digests": digests}


def _load(file: Path) -> dict[str, Any] | None:
    """A record's table, None if there is none or it is damaged."""
    try:
        table = _documents.parse(_documents.read(file, StoreError), str(file), StoreError)
    except (FileNotFoundError, StoreError):
        return None
    texts = isinstance(table.get("path"), str) and isinstance(table.get("source"), str) and "\0" not in table["path"]
    revision = table.get("revision")
    return table if texts and isinstance(table.get("digests"), dict) and (revision is None or isinstance(revision, str)) else None
