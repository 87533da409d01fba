"""Where model files come from: find one that is here, say what a source offers, fetch it.

`find` never uses a network and takes milliseconds. `offer` asks the source for sizes and digests without fetching. `fetch` does both
and downloads what is missing; it is what everything above calls.
"""

from __future__ import annotations

from pathlib import Path

from gollama.models.downloading import ModelDownloader
from gollama.models.files import LocalModel, Offer, Progress
from gollama.models.names import Source

__all__ = ["fetch", "find", "offer"]


def find(source: Source, *, into: Path | None = None) -> LocalModel | None:
    """The model if all its files are here, without a network; None otherwise.

    A Hub's lie in the cache that every tool shares (HF_HOME), a file's at its path; a wheel's and an address's at `into`, or below
    `cache_directory() / "models"` at a place the source determines.
    """
    raise NotImplementedError


def offer(source: Source, *, memory: int | None = None) -> Offer:
    """What the source offers, over the network: names, sizes, digests, addresses. For a Hub's and an address's source.

    `memory`: bytes that a model may take, for the choice of a quantization; None: what this machine has free.
    `read_range` of gollama.models.downloading reads a part of such a file. ModelNotFoundError, DownloadError; OptionError for a
    source in wheels.
    """
    raise NotImplementedError


def fetch(source: Source, *, into: Path | None = None, sha256: str | None = None, size: int | None = None, memory: int | None = None,
          refresh: bool = False, on_progress: Progress | None = None, downloader: ModelDownloader | None = None) -> LocalModel:
    """The model's verified files, downloaded if they are not here.

    `into` is the whole path that a wheel's or an address's file gets. `sha256` and `size` are what a registry says of it: what comes with
    others is thrown away (DownloadError). `refresh` asks a Hub whether a branch moved, although its files are here. Without `on_progress`
    a bar is shown where stderr is a terminal. A returned path is whole and verified; a failure leaves nothing but what a resume needs.
    ModelNotFoundError, DownloadError; CancelledError if `on_progress` returned False.
    """
    raise NotImplementedError
