"""Whether a model fits this machine, and how fast it will be: before it is downloaded, if it is not here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from gollama._cache import cache_directory
from gollama._options import record
from gollama.backends import Estimate, devices, estimate
from gollama.compatibility import quantizations
from gollama.compatibility.outline import outlined
from gollama.compatibility.quantizations import Quantization
from gollama.compatibility.speed import Speed, bandwidths, speed
from gollama.gguf import GGUFFile, read
from gollama.gguf.inspecting import with_parts
from gollama.models.remote import RemoteModel, located, read_headers
from gollama.options import LoadOptions


@dataclass(frozen=True)
class Compatibility:
    """What a model would be on this machine."""

    model: str
    file: str  # the path, or the name in its repository
    is_here: bool  # whether it needs no download
    size: int  # bytes of its files
    bytes_read: int  # over the network, to know all this
    estimate: Estimate
    speed: Speed
    disk_free: int  # bytes, where it would be kept
    problem: str | None  # why it cannot be had or does not fit; None: it fits
    quantizations: tuple[Quantization, ...]  # all of its repository, the smallest first
    recommended: str | None  # the one of them to take; None: none fits

    @property
    def fits(self) -> bool:
        return self.problem is None


def estimate_model(model: str | os.PathLike[str], options: LoadOptions, sequences: int) -> Estimate:
    """What loading would take, by llama.cpp. Of a model that is not here only the headers are read."""
    where = located(model)
    if isinstance(where, Path):
        return estimate(where, options, sequences)
    with _outline(read_headers(where)) as path:
        return estimate(path, options, sequences)


def check(model: str | os.PathLike[str], *, sequences: int = 1, options: LoadOptions | None = None, **fields: object) -> Compatibility:
    """Whether a model fits this machine, which of its repository's quantizations to take, and how fast it will be.

    Options are those of loading. An alias of a model in wheels, of which no ranges can be had, is fetched first.
    ModelNotFoundError, DownloadError, InvalidModelError, BackendError.
    """
    options = record(LoadOptions, options, fields, "options")
    where = located(model)
    if isinstance(where, Path):
        found = estimate(where, options, sequences)
        files = with_parts(read(where, strict=False), where)
        return _judged(str(model), str(where), files, found, None, {})
    remote = read_headers(where)
    with _outline(remote) as path:
        found = estimate(path, options, sequences)
    return _judged(str(model), remote.offer.files[0].name, remote.headers, found, remote, remote.offer.models)


def _outline(remote: RemoteModel) -> AbstractContextManager[Path]:
    return outlined(remote.headers, [file.name for file in remote.offer.files])


def _judged(model: str, file: str, headers: Sequence[GGUFFile], found: Estimate, remote: RemoteModel | None,
            sizes: Mapping[str, int | None]) -> Compatibility:
    size = sum(header.size for header in headers)
    here = devices()
    reached = speed(found, headers, bandwidths(found.devices, here))
    disk = shutil.disk_usage(_existing(cache_directory())).free
    problem = found.problem
    if problem is None and remote is not None and size > disk:
        problem = f"it has {size / 1e6:.0f} MB and the disk has {disk / 1e6:.0f} MB free"
    known = quantizations.judge(sizes, size, found, reached.tokens_per_second, disk)
    return Compatibility(model, file, remote is None, size, 0 if remote is None else remote.bytes_read, found, reached, disk, problem,
                         known, quantizations.recommend(known))


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())
