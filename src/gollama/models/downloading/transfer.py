"""One file from its server into a Partial: who fetches which chunk, over how many connections, and what happens when one fails."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gollama.errors import DownloadError
from gollama.models.downloading.guard import origin
from gollama.models.downloading.hashing import PrefixHash
from gollama.models.downloading.limits import RateLimit, Retries
from gollama.models.downloading.state import Partial
from gollama.models.downloading.transport import Connection, StatusError, content_range, guard_of, may_pass, why
from gollama.models.files import RemoteFile

BLOCK = 1 << 20
LEAST_BLOCK = 1 << 14
LEAST_CHUNK = 4 << 20
LOOK = 0.1  # seconds between two reports
FAST = 300_000_000  # bytes a second, above which more connections cost more than they bring
MARGIN = 32 << 20  # bytes of a disk to leave free


class ChangedError(Exception):
    """What the server has is not what it had before: start over."""


class StorageError(DownloadError):
    """The disk does not take it."""

    @classmethod
    def of(cls, file: RemoteFile, target: Path, error: OSError) -> StorageError:
        return cls(f"{file.name} cannot be stored in {target.parent} ({error.strerror or error}): keep models where there is space and "
                   "leave to write (HF_HOME, GOLLAMA_HOME)")


class Stopped(Exception):
    """The transfer ended while this worker was at it."""


@dataclass(frozen=True)
class Settings:
    connections: int
    chunk_size: int
    retries: int
    timeout: float
    limit: RateLimit
    first_pause: float = 0.5


class Transfer:
    """Fetches what is missing of a file, once. The thread that runs it waits and reports; the workers are its own."""

    def __init__(self, file: RemoteFile, partial: Partial, settings: Settings) -> None:
        self.file, self.partial, self.settings = file, partial, settings
        self.retries = Retries(settings.retries, settings.first_pause)
        self._located = file.url  # where redirects led
        self._etag = ""
        self._waiting: list[int] = []
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._held: list[Connection] = []

    def run(self, report: Callable[[int, int], None]) -> str:
        """All bytes are in the partial file afterwards; their sha256.

        `report` gets (bytes done, bytes in all), in this thread; an exception of its ends the transfer. ChangedError: run another one.
        """
        with self._connection() as connection:
            whole = self._begin(connection, report)
            self._hash = PrefixHash(self.partial)
            report(self.partial.done, self.partial.size)
            if whole is None:
                self._waiting = self.partial.missing()[::-1]
                count = min(self.settings.connections, len(self._waiting))
                works: list[Callable[[Connection], None]] = [self._work] * count
            else:
                works = [lambda _: self._pull_whole(whole)]
            self._run(works, connection, report)
        return self._hash.whole(lambda: report(self.partial.size, self.partial.size))

    def _run(self, works: list[Callable[[Connection], None]], first: Connection, report: Callable[[int, int], None]) -> None:
        """Two workers, so that one receives while the other hashes, and one more at each look while they are not fast enough."""
        threads = [self._started(work, first if number == 0 else self._connection()) for number, work in enumerate(works[:2])]
        done = self.partial.done
        try:
            while running := [thread for thread in threads if thread.is_alive()]:
                running[0].join(LOOK)
                before, done = done, self.partial.done
                report(done, self.partial.size)
                if len(threads) < len(works) and self._waiting and done - before < FAST * LOOK and not self._stopped.is_set():
                    threads.append(self._started(works[len(threads)], self._connection()))
        finally:
            self._stopped.set()
            for connection in self._held:
                connection.abort()
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure

    def _started(self, work: Callable[[Connection], None], connection: Connection) -> threading.Thread:
        thread = threading.Thread(target=self._guarded, args=(work, connection), name="gollama-download", daemon=True)
        thread.start()
        return thread

    def _connection(self) -> Connection:
        made = Connection(self.settings.timeout)
        self._held.append(made)
        return made

    # ---- the first answer ----

    def _begin(self, connection: Connection, report: Callable[[int, int], None]) -> http.client.HTTPResponse | None:
        """Ask for size and ETag and have a partial file that fits; the answer, where the server sends the whole file only."""
        etag = self.partial.resume()
        while True:
            try:
                self._guard = guard_of(self.file.url)
                response, self._located = connection.get(self.file.url, {**self.file.headers, "Range": "bytes=0-0"}, self._guard)
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._pause(error, report)
        span = content_range(response)
        size = response.length if span is None else span[2]
        self._etag = response.headers.get("ETag") or ""
        size = self._checked(size)
        if etag != self._etag or self.partial.size != size or span is None:
            self.partial.discard()
        self._require_space(size)
        if not self.partial.counts:
            try:
                self.partial.begin(size, self._chunk(size), self._etag)
            except OSError as error:
                raise StorageError.of(self.file, self.partial.target, error) from error
        if span is None:
            return response
        response.read()
        return None

    def _checked(self, size: int | None) -> int:
        expected = self.file.size
        size = expected if size is None else size
        if size is None or size <= 0:
            raise DownloadError(f"{origin(self.file.url)[1]} does not tell how large {self.file.name} is, or it is empty")
        if expected is not None and size != expected:
            raise DownloadError(f"{self.file.name} has {size} bytes where it comes from and {expected} are expected: it was refused")
        return size

    def _chunk(self, size: int) -> int:
        """Small enough that every connection has work, large enough that asking for it costs little."""
        return min(self.settings.chunk_size, max(LEAST_CHUNK, -(-size // (self.settings.connections * 4))))

    def _require_space(self, size: int) -> None:
        folder = self.partial.target.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise StorageError.of(self.file, self.partial.target, error) from error
        needed = size - self.partial.done
        if free < needed + min(MARGIN, needed // 10):
            raise StorageError(f"{self.file.name} needs {needed / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB left: "
                               "free some, or keep models on another disk (HF_HOME, GOLLAMA_HOME)")

    # ---- workers ----

    def _guarded(self, work: Callable[[Connection], None], connection: Connection) -> None:
        try:
            with connection:
                work(connection)
        except BaseException as error:
            with self._lock:
                if self._failure is None and not self._stopped.is_set():
                    self._failure = error if not isinstance(error, (OSError, http.client.HTTPException)) else self._told(error)
            self._stopped.set()
            for other in self._held:
                other.abort()

    def _work(self, connection: Connection) -> None:
        while not self._stopped.is_set():
            with self._lock:
                if not self._waiting:
                    return
                number = self._waiting.pop()
            while self.partial.counts[number] < self.partial.length(number):
                try:
                    self._fetch(connection, number)
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    self._pause(error)

    def _fetch(self, connection: Connection, number: int) -> None:
        """The rest of a chunk, or what comes of it."""
        place = number * self.partial.chunk + self.partial.counts[number]
        end = self.partial.end(place)
        located = self._located
        headers = {**self.file.headers} if origin(located) == origin(self.file.url) else {}
        headers["Range"] = f"bytes={place}-{end - 1}"
        if self._etag.startswith('"'):
            headers["If-Range"] = self._etag
        try:
            response, self._located = connection.get(located, headers, self._guard)
        except StatusError as error:
            if error.status == 416:
                raise ChangedError("the file became shorter") from error
            if located != self.file.url and error.status < 500:
                self._located = self.file.url  # a signed address may have run out
                error.status = 503
            raise
        span = content_range(response)
        etag = response.headers.get("ETag") or ""
        if span is None or span[0] != place or span[2] != self.partial.size or etag != self._etag:
            raise ChangedError("another answer than to the first request")
        self._pull(response, place, min(end, span[1]))
        if response.length:
            connection.close()

    def _pull_whole(self, response: http.client.HTTPResponse) -> None:
        """All of it at one go, from a server that has no ranges."""
        try:
            self._pull(response, 0, self.partial.size)
        except (OSError, http.client.HTTPException) as error:
            self._pause(error)
            raise ChangedError(f"{why(error)}, and the server cannot go on where it ended") from error

    def _pull(self, response: http.client.HTTPResponse, place: int, end: int) -> None:
        buffer = memoryview(bytearray(min(BLOCK, end - place)))
        block = self.settings.limit.block(LEAST_BLOCK * 4)
        while place < end:
            begun = time.monotonic()
            view = buffer[:min(block, self.partial.end(place) - place, end - place)]
            count = response.readinto(view)
            if self._stopped.is_set():
                raise Stopped
            if not count:
                raise http.client.IncompleteRead(b"", end - place)
            try:
                self.partial.write(place, view[:count])
            except OSError as error:
                raise StorageError.of(self.file, self.partial.target, error) from error
            self._hash.wrote(place, view[:count])
            place += count
            self.retries.came(count)
            block = self._next_block(block, time.monotonic() - begun)
            self._stopped.wait(self.settings.limit.pause(count))

    def _next_block(self, block: int, seconds: float) -> int:
        """Large blocks cost least; those of a slow connection are small, so that a kill loses little and the bar moves."""
        wanted = block * 2 if seconds < 0.05 else block // 2 if seconds > 0.2 else block
        return self.settings.limit.block(max(LEAST_BLOCK, min(BLOCK, wanted)))

    # ---- failures ----

    def _pause(self, error: BaseException, report: Callable[[int, int], None] | None = None) -> None:
        """Wait before the next try, with reports if it is the thread that makes them; raises what is worth no other try."""
        if self._stopped.is_set():
            raise Stopped from error
        if not _may_pass(error):
            raise self._told(error) from error
        seconds = self.retries.failed(error.retry_after if isinstance(error, StatusError) else None)
        if seconds is None:
            raise self._told(error) from error
        until = time.monotonic() + seconds
        while not self._stopped.wait(max(0.0, min(until - time.monotonic(), LOOK if report else seconds))) and time.monotonic() < until:
            if report is not None:
                report(self.partial.done, self.file.size or self.partial.size)

    def _told(self, error: BaseException) -> BaseException:
        if isinstance(error, DownloadError):
            return error
        return DownloadError(f"{self.file.name} cannot be fetched from {origin(self.file.url)[1]} ({why(error)}); what has come is kept, "
                             "and the next try goes on from there")


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, StatusError):
        return may_pass(error.status)
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return not isinstance(error, (DownloadError, ssl.SSLCertVerificationError))
