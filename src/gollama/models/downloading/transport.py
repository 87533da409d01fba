"""HTTP with the rules that a download needs: no redirect out of https, to a private address or with a token to another host."""

from __future__ import annotations

from collections.abc import Mapping

from gollama.models.files import RemoteFile


def read_all(url: str, limit: int, *, headers: Mapping[str, str] | None = None) -> bytes:
    """The whole of a small resource (a registry, a manifest), at most `limit` bytes. DownloadError for everything that goes wrong."""
    raise NotImplementedError


def read_range(file: RemoteFile, start: int, count: int) -> tuple[bytes, int]:
    """(at most `count` bytes of the file from `start`, the file's size), without downloading the rest.

    For headers of remote GGUF files. The answer has fewer bytes only where the file ends. DownloadError, also where the server
    has no ranges.
    """
    raise NotImplementedError
