"""ModelDownloader: remote files to verified local ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gollama.models.files import Progress, RemoteFile


@dataclass(frozen=True)
class DownloadEvent:
    """How far a download is. `done` and `total` are bytes of all files, `speed` bytes a second of late; `file` is what came last."""

    file: str
    done: int
    total: int
    speed: float


class ModelDownloader:
    """Downloads files over HTTP and verifies them. Any thread may use one; it holds no connection between calls.

    connections: ranges of a file fetched at once. chunk_size: bytes of a range. rate_limit: bytes a second in all, None for as
    fast as it goes. retries: tries after the first, with growing pauses, of whatever may pass (5xx, 429, a broken connection); each
    byte that comes sets the count back. timeout: seconds without a byte.
    """

    def __init__(self, *, connections: int = 4, chunk_size: int = 16 << 20, rate_limit: int | None = None, retries: int = 5,
                 timeout: float = 30.0) -> None:
        raise NotImplementedError

    def download(self, files: Sequence[tuple[RemoteFile, Path]], *, on_progress: Progress | None = None) -> list[Path]:
        """Each file to its path, whole and verified; one that is there already is left as it is."""
        raise NotImplementedError

    def events(self, files: Sequence[tuple[RemoteFile, Path]]) -> Iterator[DownloadEvent]:
        """The same as an iterator of progress; closing it cancels."""
        raise NotImplementedError

    async def download_async(self, files: Sequence[tuple[RemoteFile, Path]], *, on_progress: Progress | None = None) -> list[Path]:
        """The same for asyncio; cancelling the task cancels the download, which may be resumed."""
        raise NotImplementedError

    def events_async(self, files: Sequence[tuple[RemoteFile, Path]]) -> AsyncIterator[DownloadEvent]:
        raise NotImplementedError
