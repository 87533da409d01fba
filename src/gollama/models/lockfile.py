"""gollama.lock: exactly which files an application's models are.

A lock file is used where it is named: `ModelRegistry(lock=...)`, the option `--lock`, or the variable GOLLAMA_LOCK. One that merely lies
in the working directory is not, since whoever may write there would choose the models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gollama.errors import DownloadError, ModelNameError, RegistryError
from gollama.models import _documents, names, records
from gollama.models._documents import printable
from gollama.models.files import LocalModel
from gollama.models.names import HubSource, Source, UrlSource, parse_source

FORMAT = 1
MOST_MODELS = 5_000
MOST_FILES = 1_000


@dataclass(frozen=True)
class LockedFile:
    """A file of a locked model. `size` in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class LockedModel:
    """A model held fast: its source at one revision, and the files that come from there, in loading order."""

    source: Source
    quantization: str | None
    revision: str | None
    files: tuple[LockedFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def check(self, model: LocalModel) -> None:
        """DownloadError unless these are the locked files. A file is read when it is new or has changed since it was last read."""
        if len(model.files) != len(self.files):
            raise DownloadError(f"{self.source} has {len(model.files)} files here, and {len(self.files)} are locked")
        for file, locked in zip(model.files, self.files, strict=True):
            size = file.stat().st_size
            found = records.digest(model, file) if size == locked.size else None
            if found != locked.sha256:
                what = f"{size} bytes" if found is None else f"the sha256 {found[:16]}…"
                raise DownloadError(f"{file} has {what}, and {locked.size} bytes with the sha256 {locked.sha256[:16]}… are locked: "
                                    "remove it to fetch it again, or lock anew with `gollama lock`")

    def table(self) -> dict[str, Any]:
        files = [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in self.files]
        return {"source": str(self.source), "quantization": self.quantization, "revision": self.revision, "files": files}


def locked(model: LocalModel, quantization: str | None) -> LockedModel:
    """What holds a model as it is here: reads its files, unless they were read before."""
    source = model.source
    if isinstance(source, HubSource) and model.revision is not None:
        named = source.quantization or source.file
        source = HubSource(source.repository, source.quantization, source.file if named else _member(model), model.revision)
    files = tuple(LockedFile(file.name, file.stat().st_size, records.digest(model, file)) for file in model.files)
    if isinstance(source, UrlSource) and len(files) == 1:
        source = UrlSource(source.url, files[0].sha256)
    return LockedModel(source, quantization, model.revision, files)


def _member(model: LocalModel) -> str:
    """The name inside its repository of a file that was chosen by the memory at hand, which the next machine may have more of."""
    parts = model.path.parts
    return "/".join(parts[parts.index(model.revision) + 1:]) if model.revision in parts else model.path.name


def read(path: Path) -> dict[str, LockedModel]:
    """The locked models by name. RegistryError for a file that is missing, damaged or of another format."""
    try:
        content = _documents.read(path, RegistryError)
    except FileNotFoundError:
        raise RegistryError(f"there is no lock file {path}: `gollama lock NAME... --file {path}` writes one") from None
    table = _documents.parse(content, str(path), RegistryError)
    if table.get("format") != FORMAT or set(table) - {"format", "models"}:
        raise RegistryError(f"{path} is no lock file of format {FORMAT}")
    return read_models(table.get("models"), str(path))


def read_models(table: object, where: str) -> dict[str, LockedModel]:
    """Locked models by name from a table that anybody may have written."""
    if not isinstance(table, dict) or len(table) > MOST_MODELS:
        raise RegistryError(f"{where}: models must be a table of {MOST_MODELS} at most")
    return {name: _model(row, f"{where}, model {printable(name)[:80]!r}") for name, row in table.items()}


def write(path: Path, models: Mapping[str, LockedModel]) -> None:
    """Write a lock file, whole or not at all; the same models give the same bytes. StoreError if it cannot be written."""
    _documents.write(path, {"format": FORMAT, "models": {name: models[name].table() for name in sorted(models)}})


def _model(row: object, where: str) -> LockedModel:
    keys = {"source", "quantization", "revision", "files"}
    if not isinstance(row, dict) or set(row) != keys:
        raise RegistryError(f"{where} must have {', '.join(sorted(keys))} and nothing else")
    texts = (row["quantization"], row["revision"])
    if not isinstance(row["source"], str) or not all(text is None or _is_line(text) for text in texts):
        raise RegistryError(f"{where}: source, quantization and revision must be texts")
    if not isinstance(row["files"], list) or not 0 < len(row["files"]) <= MOST_FILES:
        raise RegistryError(f"{where}: files must be a list of 1 to {MOST_FILES}")
    try:
        source = parse_source(row["source"])
    except ModelNameError as error:
        raise RegistryError(f"{where}: {error}") from None
    if isinstance(source, HubSource) and source.revision is None:
        raise RegistryError(f"{where}: a source on a Hub must be held at a revision, hf:...@COMMIT")
    return LockedModel(source, row["quantization"], row["revision"], tuple(_file(file, where) for file in row["files"]))


def _is_line(text: object) -> bool:
    return isinstance(text, str) and text == printable(text)


def _file(row: object, where: str) -> LockedFile:
    if not isinstance(row, dict) or set(row) != {"name", "size", "sha256"}:
        raise RegistryError(f"{where}: a file must have name, size and sha256, and nothing else")
    name, size, sha256 = row["name"], row["size"], row["sha256"]
    try:
        if not isinstance(name, str):
            raise RegistryError(f"{where}: a file's name must be a text")
        names.check_member(name)
    except ModelNameError as error:
        raise RegistryError(f"{where}: {error}") from None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 50:
        raise RegistryError(f"{where}: the size of {name} must be a number of bytes")
    if not names.is_sha256(sha256):
        raise RegistryError(f"{where}: the sha256 of {name} must be 64 small hexadecimal digits")
    return LockedFile(name, size, sha256)
