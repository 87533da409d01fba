"""ModelDownloader: remote files to verified local ones."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from gollama.errors import CancelledError, DownloadError, OptionError
from gollama.models.downloading.limits import RateLimit
from gollama.models.downloading.state import Partial
from gollama.models.downloading.transfer import ChangedError, Settings, StorageError, Transfer
from gollama.models.files import Progress, RemoteFile

RESTARTS = 3
LOCK_LOOK = 0.1

Files = Sequence[tuple[RemoteFile, Path]]


@dataclass(frozen=True)
class DownloadEvent:
    """How far a download is. `done` and `total` are bytes of all files (`total` grows where a size was not known), `speed` bytes a second
    since the event before, `file` the one that is being fetched."""

    file: str
    done: int
    total: int
    speed: float


class ModelDownloader:
    """Downloads files over HTTP and verifies them. Any thread may use one; it holds no connection between calls.

    connections: ranges of a file that are fetched at once. chunk_size: bytes of a range, at most. rate_limit: bytes a second, over all
    connections of a call; None for as fast as it goes. retries: tries after the first, with growing pauses or those that the server asks
    for, of what may pass (a broken connection, 408, 425, 429, 5xx); bytes that come set the count back. timeout: seconds without a byte.
    OptionError for a value that cannot be.
    """

    def __init__(self, *, connections: int = 4, chunk_size: int = 16 << 20, rate_limit: int | None = None, retries: int = 5,
                 timeout: float = 30.0, first_pause: float = 0.5) -> None:
        for name, value, least, most in (("connections", connections, 1, 64), ("chunk_size", chunk_size, 1 << 16, 1 << 30),
                                         ("rate_limit", rate_limit, 1024, 1 << 50), ("retries", retries, 0, 1000),
                                         ("timeout", timeout, 0.1, 86400), ("first_pause", first_pause, 0, 60)):
            if value is not None and not (isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most):
                raise OptionError(f"{name} must be between {least} and {most}, not {value!r}")
        self.connections, self.chunk_size, self.rate_limit = connections, chunk_size, rate_limit
        self.retries, self.timeout, self.first_pause = retries, timeout, first_pause

    def download(self, files: Files, *, on_progress: Progress | None = None, lock: Callable[[Path], Path] | None = None) -> list[Path]:
        """Each file to its path, whole and verified; one that is there already is left as it is. Processes that want the same file wait
        for the first.

        DownloadError tells what failed; what has come stays beside the path as `NAME.partial` for the next try, unless the disk is full
        or the bytes are wrong. CancelledError if `on_progress` returned False; whatever it raises ends the download too. It is called in
        this thread, several times a second. `lock` tells the lock file of a path, `NAME.lock` beside it if not given.
        """
        counts = _Counts(files, on_progress)
        for file, path in files:
            counts.begin(file)
            self._one(file, path, lock(path) if lock else path.with_name(f"{path.name}.lock"), counts)
        return [path for _, path in files]

    def _one(self, file: RemoteFile, path: Path, lock: Path, counts: _Counts) -> None:
        if path.exists():
            counts.end(path)
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.parent.mkdir(parents=True, exist_ok=True)
            with _held(lock, counts):
                if not path.exists():  # another process was first
                    self._transfer(file, path, counts)
        except OSError as error:
            if isinstance(error, DownloadError):
                raise
            raise StorageError.of(file, path, error) from error
        counts.end(path)

    def _transfer(self, file: RemoteFile, path: Path, counts: _Counts) -> None:
        settings = Settings(self.connections, self.chunk_size, self.retries, self.timeout, RateLimit(self.rate_limit), self.first_pause)
        partial = Partial(path)
        try:
            for again in range(RESTARTS + 1):
                resumed = partial.state.exists()
                try:
                    found = Transfer(file, partial, settings).run(counts.report)
                except ChangedError as error:
                    partial.discard()
                    if again == RESTARTS:
                        raise DownloadError(f"{file.name} keeps changing while it is fetched ({error}): try again later") from None
                    continue
                if file.sha256 in (None, found):
                    partial.finish()
                    return
                partial.discard()
                if not resumed:
                    raise _wrong(file, found)
            raise _wrong(file, found)
        except StorageError:
            with contextlib.suppress(OSError):
                partial.discard()
            raise
        finally:
            partial.close()

    def events(self, files: Files, *, lock: Callable[[Path], Path] | None = None) -> Iterator[DownloadEvent]:
        """The same as an iterator of progress; the last event is when all is there. Closing it cancels, and waits for that."""
        told: queue.SimpleQueue[DownloadEvent | BaseException | None] = queue.SimpleQueue()
        cancelled = threading.Event()
        thread = threading.Thread(target=self._tell, args=(files, lock, told.put, cancelled), name="gollama-downloader", daemon=True)
        thread.start()
        try:
            while (event := told.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            cancelled.set()
            thread.join()

    async def events_async(self, files: Files, *, lock: Callable[[Path], Path] | None = None) -> AsyncIterator[DownloadEvent]:
        """The same for asyncio."""
        import asyncio

        told: asyncio.Queue[DownloadEvent | BaseException | None] = asyncio.Queue()
        loop, cancelled = asyncio.get_running_loop(), threading.Event()

        def put(event: DownloadEvent | BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(told.put_nowait, event)

        running = asyncio.ensure_future(asyncio.to_thread(self._tell, files, lock, put, cancelled))
        try:
            while (event := await told.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            cancelled.set()
            await asyncio.shield(running)

    async def download_async(self, files: Files, *, on_progress: Progress | None = None,
                             lock: Callable[[Path], Path] | None = None) -> list[Path]:
        """`download` for asyncio. Cancelling the task cancels the download; what has come stays for the next try. `on_progress` is called
        in another thread."""
        import asyncio

        cancelled = threading.Event()

        def progress(done: int, total: int) -> object:
            return False if cancelled.is_set() else on_progress and on_progress(done, total)

        running = asyncio.ensure_future(asyncio.to_thread(self.download, files, on_progress=progress, lock=lock))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            cancelled.set()
            with contextlib.suppress(Exception):
                await running
            raise

    def _tell(self, files: Files, lock: Callable[[Path], Path] | None, put: Callable[[DownloadEvent | BaseException | None], None],
              cancelled: threading.Event) -> None:
        before = [time.monotonic(), 0.0]

        def progress(done: int, total: int) -> object:
            now = time.monotonic()
            speed = max(0.0, (done - before[1]) / max(now - before[0], 1e-6)) if before[1] else 0.0
            before[:] = now, float(done)
            put(DownloadEvent(counts_file(done), done, total, speed))
            return not cancelled.is_set()

        def counts_file(done: int) -> str:
            for file, _ in files:
                if file.size is None or done < file.size:
                    return file.name
                done -= file.size
            return files[-1][0].name if files else ""

        try:
            self.download(files, on_progress=progress, lock=lock)
        except BaseException as error:
            put(error)
        else:
            put(None)


class _Counts:
    """Bytes of all files of a download."""

    def __init__(self, files: Files, on_progress: Progress | None) -> None:
        self._on_progress = on_progress
        self._sizes = {file.name: file.size or 0 for file, _ in files}
        self._before = 0
        self._name = ""

    def begin(self, file: RemoteFile) -> None:
        self._name = file.name

    def report(self, done: int, size: int) -> None:
        self._sizes[self._name] = size
        if self._on_progress is not None and self._on_progress(self._before + done, sum(self._sizes.values())) is False:
            raise CancelledError("the download was cancelled; what has come is kept, and the next try goes on from there")

    def wait(self) -> None:
        self.report(0, self._sizes[self._name])

    def end(self, path: Path) -> None:
        size = path.stat().st_size
        self.report(size, size)
        self._before += size


@contextlib.contextmanager
def _held(lock: Path, counts: _Counts) -> Iterator[None]:
    """The lock of other processes and threads; a wait for it can be cancelled."""
    held = FileLock(lock)
    while True:
        try:
            held.acquire(timeout=LOCK_LOOK)
            break
        except Timeout:
            counts.wait()
    try:
        yield
    finally:
        held.release()


def _wrong(file: RemoteFile, found: str) -> DownloadError:
    expected = file.sha256 or ""
    return DownloadError(f"what came for {file.name} has the sha256 {found[:16]}… and {expected[:16]}… is expected; it was thrown away. "
                         "Try again; if it stays, ask who runs the server")
