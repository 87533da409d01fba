"""Headers of models that are not here, read by HTTP ranges. Nothing is downloaded or kept."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gollama.errors import InvalidModelError, ModelNotFoundError
from gollama.gguf import GGUFFile, Limits, RangeBytes, read
from gollama.models import sources
from gollama.models.files import Offer, RemoteFile
from gollama.models.lookup import OTHERS, Lookup
from gollama.models.names import FileSource, HubSource, UrlSource, parse

LIMITS = Limits(header_bytes=64 * 2**20)  # a stranger's server is believed less than a file here
AT_ONCE = 4  # parts of a split model whose headers are read at the same time


@dataclass(frozen=True)
class RemoteModel:
    """A model that a source offers: its files and their headers, in loading order."""

    offer: Offer
    headers: tuple[GGUFFile, ...]
    bytes_read: int  # of the files, over the network


def located(model: str | os.PathLike[str]) -> HubSource | UrlSource | Path:
    """The source of a name whose files are not here, if ranges of them can be had; else the file, as `gollama.models.resolve` has it."""
    if not isinstance(model, str):
        return Path(model)
    registry = Lookup()
    return remote_source(registry, model) or registry.resolve(model)


def remote_source(registry: Lookup, model: str) -> HubSource | UrlSource | None:
    """Where a name's files are, if they are not here and ranges of them can be had; else None. No network."""
    if model.startswith(OTHERS) or isinstance(parse(model), FileSource):
        return None
    try:
        found = registry.target(model).sources
    except ModelNotFoundError:
        return None  # a file of that name, or an error that loading tells
    if any(sources.find(source) is not None for source in found):
        return None
    return next((source for source in found if isinstance(source, (HubSource, UrlSource))), None)


def read_headers(source: HubSource | UrlSource, *, skip_numbers: bool = False) -> RemoteModel:
    """The headers of what the source offers. ModelNotFoundError, DownloadError, InvalidModelError."""
    offered = sources.offer(source)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        contents = list(pool.map(_bytes_of, offered.files))
        headers = list(pool.map(lambda content: read(content, strict=False, skip_numbers=skip_numbers, limits=LIMITS), contents))
    return RemoteModel(offered, tuple(headers), sum(content.bytes_read for content in contents))


def _bytes_of(file: RemoteFile) -> RangeBytes:
    from gollama.models.downloading import read_range

    size, probed = file.size, 0
    if size is None:
        probe, size = read_range(file, 0, 1)
        probed = len(probe)
    if size < 1:
        raise InvalidModelError(f"{file.name}: the file is empty")

    def ranged(offset: int, length: int) -> bytes:
        content, told = read_range(file, offset, length)
        if told != size:
            raise InvalidModelError(f"{file.name}: the file has {told} bytes, and {size} were announced")
        return content

    found = RangeBytes(ranged, size, file.name)
    found.bytes_read = probed
    return found
