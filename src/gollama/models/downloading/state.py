"""A file on its way: its bytes and, beside them, how far each chunk has come. What a killed process wrote is not fetched again."""

from __future__ import annotations

import json
import os
import struct
import threading
from pathlib import Path

VERSION = 1
HEADER = 4096
MOST_CHUNKS = 1 << 22


class Partial:
    """`PATH.partial` with bytes at their places, and `PATH.partial.state` with the count of each chunk. Under the file's lock only.

    After each block the count of its chunk is written: a system call of 4 bytes, which outlives the process as the block itself does.
    Where a whole machine dies counts may be there without their bytes: the digest tells then.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.data = target.with_name(f"{target.name}.partial")
        self.state = target.with_name(f"{target.name}.partial.state")
        self.size = 0
        self.chunk = 1
        self.counts: list[int] = []
        self._data = self._state = -1
        self._seeking = threading.Lock()

    def resume(self) -> str | None:
        """Open what an earlier process left; its ETag, or None if there is nothing to go on with. "" stands for no ETag."""
        try:
            self._state = os.open(self.state, _FLAGS)
            head = json.loads(os.read(self._state, HEADER).rstrip(b"\0 "))
            size, chunk, etag = head["size"], head["chunk"], head["etag"]
            count = -(-size // chunk)
            possible = 0 < size < 1 << 50 and 0 < chunk < 1 << 31 and count <= MOST_CHUNKS
            if head["version"] != VERSION or not possible or not isinstance(etag, str):
                raise ValueError
            text = os.read(self._state, 4 * count)
            counts = list(struct.unpack(f"<{count}I", text))
            if any(done > min(chunk, size - chunk * number) for number, done in enumerate(counts)):
                raise ValueError
            self._data = os.open(self.data, _FLAGS)
        except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError):
            self.discard()
            return None
        self.size, self.chunk, self.counts = size, chunk, counts
        return etag

    def begin(self, size: int, chunk: int, etag: str) -> None:
        """Open a new one; what was there is thrown away. OSError if it cannot be written."""
        self.discard()
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.size, self.chunk = size, max(chunk, -(-size // MOST_CHUNKS))
        self.counts = [0] * -(-size // self.chunk)
        self._data = os.open(self.data, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
        self._state = os.open(self.state, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
        head = json.dumps({"version": VERSION, "size": size, "chunk": self.chunk, "etag": etag[:1024]}).encode()
        self._write(self._state, head.ljust(HEADER, b"\0") + bytes(4 * len(self.counts)), 0)

    @property
    def done(self) -> int:
        return sum(self.counts)

    def length(self, number: int) -> int:
        return min(self.chunk, self.size - self.chunk * number)

    def missing(self) -> list[int]:
        return [number for number, done in enumerate(self.counts) if done < self.length(number)]

    def end(self, place: int) -> int:
        """Where the chunk ends that this place lies in."""
        return min(self.size, (place // self.chunk + 1) * self.chunk)

    def write(self, place: int, block: memoryview) -> None:
        """A block at the end of what its chunk has so far. One thread at a time for each chunk."""
        number = place // self.chunk
        self._write(self._data, block, place)
        done = self.counts[number] + len(block)
        self._write(self._state, struct.pack("<I", done), HEADER + 4 * number)
        self.counts[number] = done

    def read(self, place: int, buffer: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._data, [buffer], place)
        with self.data.open("rb") as file:  # Windows and macOS
            file.seek(place)
            return file.readinto(buffer) or 0

    def finish(self) -> None:
        """Put the file in its place, whole, and forget the rest."""
        self.close()
        os.replace(self.data, self.target)
        self.state.unlink(missing_ok=True)

    def close(self) -> None:
        for descriptor in (self._data, self._state):
            if descriptor >= 0:
                os.close(descriptor)
        self._data = self._state = -1

    def discard(self) -> None:
        """Leave nothing. OSError only if a file that is there cannot be removed."""
        self.close()
        self.counts = []
        for left in (self.data, self.state):
            left.unlink(missing_ok=True)

    def _write(self, descriptor: int, block: bytes | memoryview, place: int) -> None:
        view = memoryview(block)
        while view:
            if hasattr(os, "pwrite"):
                written = os.pwrite(descriptor, view, place)
            else:  # Windows
                with self._seeking:
                    os.lseek(descriptor, place, os.SEEK_SET)
                    written = os.write(descriptor, view)
            view, place = view[written:], place + written


_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)  # a link in its place is not followed
