"""Records of model files: what can be had from a source, and what is here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gollama import _files
from gollama.errors import DownloadError, ModelNameError
from gollama.models.names import Source, check_member, is_sha256

Progress = Callable[[int, int], object]  # bytes done, bytes in all; returning False, or an exception, stops the download

MOST_FILES = 1000
MOST_MANIFEST = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded over HTTP.

    `name` is its path inside the source, with `/`. `size` in bytes and `sha256` are None where the source does not tell. `headers` go to
    the address's own host only, never to one that it redirects to.
    """

    name: str
    url: str
    size: int | None = None
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold a token

    def __post_init__(self) -> None:
        check_member(self.name)


@dataclass(frozen=True)
class Offer:
    """What a source offers for a name: the files of one model, in loading order; `revision` is the commit, for a Hub's.

    `models` are all the models of a Hub's repository by name, with the bytes of each, this one among them.
    """

    source: Source
    files: tuple[RemoteFile, ...]
    revision: str | None = None
    models: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def size(self) -> int | None:
        """Bytes in all, None where a file's is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


@dataclass(frozen=True)
class LocalModel:
    """A model whose files are here. `files` in loading order; llama.cpp is given the first."""

    source: Source
    files: tuple[Path, ...]
    revision: str | None = None

    @property
    def path(self) -> Path:
        return self.files[0]

    @property
    def size(self) -> int:
        return sum(file.stat().st_size for file in self.files)


@dataclass(frozen=True)
class ManifestFile:
    name: str
    size: int
    sha256: str
    url: str | None = None  # relative to the manifest's, or whole; None: beside it, by its name


@dataclass(frozen=True)
class Manifest:
    """The files of a model with their sizes and digests, as JSON `{"files": [{"name", "size", "sha256", "url"}, ...]}`."""

    files: tuple[ManifestFile, ...]

    @classmethod
    def read(cls, text: bytes, sha256: str | None = None) -> Manifest:
        """DownloadError for one that has another digest than `sha256`, or that is malformed; nothing of it is used then."""
        if len(text) > MOST_MANIFEST:
            raise DownloadError(f"a manifest of {len(text)} bytes; {MOST_MANIFEST} are the most")
        found = hashlib.sha256(text).hexdigest()
        if sha256 is not None and found != sha256:
            raise DownloadError(f"the manifest has the sha256 {found[:16]}… and {sha256[:16]}… is expected: it was refused")
        try:
            table: dict[str, Any] = json.loads(text)
            files = tuple(ManifestFile(**row) for row in table["files"])
            for file in files:
                _check(file)
        except (ValueError, KeyError, TypeError, RecursionError, ModelNameError) as error:
            raise DownloadError(f"the manifest is malformed ({error})") from None
        if not 1 <= len(files) <= MOST_FILES or len({file.name for file in files}) != len(files):
            raise DownloadError(f"the manifest names {len(files)} files, each once and {MOST_FILES} at the most")
        return cls(files)

    def verify(self, folder: Path) -> None:
        """DownloadError naming the first file of `folder` that is missing or is not the manifest's. Reads them all."""
        for file in self.files:
            path = folder / file.name
            if not path.is_file() or path.stat().st_size != file.size:
                raise DownloadError(f"{path} is not there, or has not the {file.size} bytes of the manifest")
            digest = _files.sha256(path)
            if digest != file.sha256:
                raise DownloadError(f"{path} has the sha256 {digest[:16]}… and the manifest says {file.sha256[:16]}…")


def _check(file: ManifestFile) -> None:
    check_member(file.name)
    if not (isinstance(file.size, int) and not isinstance(file.size, bool) and 0 <= file.size < 1 << 50):
        raise ValueError(f"the size {str(file.size)[:40]} of {file.name}")
    if not is_sha256(file.sha256):
        raise ValueError(f"the sha256 of {file.name}")
    if file.url is not None and not isinstance(file.url, str):
        raise ValueError(f"the url of {file.name}")
