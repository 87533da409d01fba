"""The digest of a file that comes in pieces: over the part from its beginning that has no gap, as that part grows."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

from gollama.models.downloading.state import Partial

BLOCK = 1 << 20
BACKLOG = 4 * BLOCK


class PrefixHash:
    """sha256 of a Partial. A block that continues the prefix is hashed where it lies, in the processor's cache still; others are
    read back when the prefix has come to them."""

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self._digest = hashlib.sha256()
        self._place = 0
        self._lock = threading.Lock()
        self._buffer = bytearray()

    def wrote(self, place: int, block: memoryview) -> None:
        """After a block was written at `place`. Any thread; one of them hashes, the others go on."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if place == self._place:
                self._digest.update(block)
                self._place += len(block)
            if self._there() - self._place >= BACKLOG:
                self._catch_up(2 * BACKLOG)
        finally:
            self._lock.release()

    def whole(self, on_block: Callable[[], None]) -> str:
        """The digest, when all bytes are there; `on_block` is called between blocks."""
        with self._lock:
            while self._place < self._partial.size:
                self._catch_up(BACKLOG)
                on_block()
            return self._digest.hexdigest()

    def _catch_up(self, most: int) -> None:
        """Hash what lies behind the prefix without a gap, at most `most` bytes."""
        end = min(self._there(), self._place + most)
        if self._place < end and not self._buffer:
            self._buffer = bytearray(BLOCK)
        while self._place < end:
            view = memoryview(self._buffer)[:min(BLOCK, end - self._place)]
            count = self._partial.read(self._place, view)
            if count == 0:
                raise OSError("the partial file was cut off while it was read")
            self._digest.update(view[:count])
            self._place += count

    def _there(self) -> int:
        """Where the first gap at or behind the prefix begins."""
        partial, place = self._partial, self._place
        number = place // partial.chunk
        while number < len(partial.counts):
            place = number * partial.chunk + partial.counts[number]
            if partial.counts[number] < partial.length(number):
                break
            number += 1
        return place
