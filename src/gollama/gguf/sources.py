"""Where the bytes of a GGUF file come from: a file here, or ranges of one elsewhere."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from gollama.errors import InvalidModelError, ModelNotFoundError, OptionError

KIB = 2**10
LOCAL_CHUNK = 1024 * KIB
REMOTE_CHUNK = 128 * KIB


class ByteSource(Protocol):
    """Bytes at offsets. One thread at a time."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""

    @property
    def chunk(self) -> int:
        """Least bytes that are worth a call of `read`, and most that are worth reading to reach what is behind them."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly those bytes, which lie within the file."""


class FileBytes:
    """A file here. A `with` block. ModelNotFoundError where there is none."""

    chunk = LOCAL_CHUNK

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = str(self.path)
        if "\0" in self.name:
            raise OptionError("a path may not hold a NUL character")
        try:
            # a pipe that nobody writes to would be waited for
            self._file = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise ModelNotFoundError(f"{self.name}: {error.strerror or error}") from None
        facts = os.fstat(self._file)
        if not stat.S_ISREG(facts.st_mode):
            self.close()
            raise ModelNotFoundError(f"{self.name}: is not a regular file")
        self.size = facts.st_size

    def __enter__(self) -> FileBytes:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def read(self, offset: int, length: int) -> bytes:
        """Reads and does not map: a mapped file that another program cuts off kills the process."""
        parts = []
        os.lseek(self._file, offset, os.SEEK_SET)
        while length > 0:
            part = os.read(self._file, length)
            if not part:
                raise InvalidModelError(f"{self.name}: the file ended at byte {offset} while it was read")
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class RangeBytes:
    """A file elsewhere, of which ranges can be had.

    `read_range(offset, length)` returns the bytes; what it raises passes through. `chunk` is the least that is asked for at once.
    """

    def __init__(self, read_range: Callable[[int, int], bytes], size: int, name: str, chunk: int = REMOTE_CHUNK) -> None:
        self._read_range = read_range
        self.size = size
        self.name = name
        self.chunk = chunk
        self.bytes_read = 0

    def read(self, offset: int, length: int) -> bytes:
        content = self._read_range(offset, length) if length else b""
        if len(content) != length:
            raise InvalidModelError(f"{self.name}: {len(content)} bytes came for the {length} at byte {offset}")
        self.bytes_read += length
        return content


@contextlib.contextmanager
def opened(source: str | os.PathLike[str] | ByteSource) -> Iterator[ByteSource]:
    """The source, or the file of the path."""
    if isinstance(source, (str, os.PathLike)):
        with FileBytes(source) as file:
            yield file
    else:
        yield source
