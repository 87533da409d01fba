"""Reading forward through a header that nobody vouches for."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

from gollama.errors import InvalidModelError
from gollama.gguf.sources import ByteSource

STARTS = "Q"


@dataclass(frozen=True)
class Limits:
    """The most that a header may have; more is InvalidModelError before anything is allocated for it.

    The largest vocabularies known have 262,144 tokens and 514,906 merges, in a header of 16 MB.
    """

    header_bytes: int = 256 * 2**20
    keys: int = 2**16
    key_bytes: int = 2**16 - 1  # the format's own
    strings: int = 2**22  # in all arrays together
    tensors: int = 2**16
    tensor_name_bytes: int = 63  # llama.cpp's own, GGML_MAX_NAME
    dimensions: int = 4  # llama.cpp's own, GGML_MAX_DIMS


class Cursor:
    """A place in a source, of which it keeps what it has passed in segments; bytes that are skipped are not read.

    Every length is checked against what is left of the file and against the limits before it is read.
    """

    def __init__(self, source: ByteSource, limits: Limits, skipping: bool) -> None:
        self.source = source
        self.limits = limits
        self.order = "<"  # as struct says it; the header's first words tell
        self.wide = True  # whether lengths have 64 bits
        self._skipping = skipping
        self._base = 0  # where the segment begins in the file
        self._segment = bytearray()
        self._at = 0  # in the segment
        self._read = 0
        self.segments: list[tuple[int, bytearray]] = [(0, self._segment)]

    @property
    def position(self) -> int:
        """Where the next byte lies in the file."""
        return self._base + self._at

    def error(self, message: str, position: int | None = None) -> InvalidModelError:
        return InvalidModelError(f"{self.source.name}: {message}, at byte {self.position if position is None else position}")

    def need(self, length: int, what: str, expected: int = 0) -> None:
        """Have that many bytes from here in the segment; `expected`: how many will likely be wanted."""
        missing = self._at + length - len(self._segment)
        if missing <= 0:
            return
        if length > self.source.size - self.position:
            raise self.error(f"the file ends before the end of {what}: it is cut off or damaged")
        self._require_room(missing, what)
        end = self._base + len(self._segment)
        wanted = max(missing, self.source.chunk, self._at + expected - len(self._segment))
        wanted = min(wanted, self.source.size - end, max(missing, self.limits.header_bytes - self._read))
        self._segment += self.source.read(end, wanted)
        self._read += wanted

    def _require_room(self, length: int, what: str) -> None:
        if self._read + length > self.limits.header_bytes:
            raise self.error(f"the header is larger than {self.limits.header_bytes} bytes, with {what}")

    def take(self, length: int, what: str, expected: int = 0) -> bytes:
        self.need(length, what, expected)
        self._at += length
        return bytes(self._segment[self._at - length : self._at])

    def number(self, letter: str, what: str) -> int:
        """A number, of struct's type."""
        kind = struct.Struct(self.order + letter)
        self.need(kind.size, what)
        (value,) = kind.unpack_from(self._segment, self._at)
        self._at += kind.size
        return int(value)

    def length(self, what: str) -> int:
        """A count or a length, which the file's version gives 32 or 64 bits."""
        return self.number("Q" if self.wide else "I", what)

    def text(self, most: int, what: str) -> bytes:
        """A string of at most that many bytes."""
        begin = self.position
        length = self.length(what)
        if length > most:
            raise self.error(f"{what} has {length} bytes, and {most} are the most", begin)
        return self.take(length, what)

    def skip(self, length: int, what: str) -> None:
        """Pass over bytes. They are kept where the cursor does not skip, or where reading on is cheaper than reading anew."""
        if length > self.source.size - self.position:
            raise self.error(f"the file ends before the end of {what}: it is cut off or damaged")
        ahead = self._at + length - len(self._segment)
        if not self._skipping or ahead < self.source.chunk:
            self.need(length, what, length)
            self._at += length
            return
        # what was begun of it would be of no use
        self._base, self._segment, self._at = self.position + length, bytearray(), 0
        self.segments.append((self._base, self._segment))

    def strings(self, count: int, what: str) -> array[int]:
        """Pass over strings; where the text of each begins in the file, behind its length."""
        kind = struct.Struct(self.order + ("Q" if self.wide else "I"))
        unpack, width = kind.unpack_from, kind.size
        if count > (self.source.size - self.position) // width:
            raise self.error(f"{what} has {count} strings, which the file has no room for")
        starts = array(STARTS)
        begin, base, segment, at = self.position, self._base, self._segment, self._at
        found = 0
        while found < count:
            try:
                at_text = at + width
                (length,) = unpack(segment, at)
                end = at_text + length
            except struct.error:
                end = at + width
            if end > len(segment):
                self._at = at
                mean = (base + at - begin) // found + 1 if found else width
                self.need(end - at, what, mean * (count - found))
                continue
            starts.append(base + at_text)
            at = end
            found += 1
        self._at = at
        return starts
