"""What a header holds: metadata, tensors, and where all of it lies."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, overload

from gollama.gguf.formats import NUMBERS
from gollama.gguf.sources import ByteSource


@dataclass(frozen=True)
class Field:
    """A key of the metadata and where its value lies. Offsets and lengths are bytes of the file."""

    key: str
    type: str  # "uint32", "string", "array"
    item_type: str  # of an array's items; else the same as `type`
    count: int  # of an array's items; else 1
    record: int  # where the key's record begins
    offset: int  # where the value begins; of an array its first item, of a string its text
    end: int  # where the value ends
    starts: array[int] | None = field(default=None, repr=False)  # of strings in an array


@dataclass(frozen=True)
class TensorInfo:
    """A tensor. Its shape is in ggml's order, the fastest axis first; offset and size are bytes of the file."""

    name: str
    shape: tuple[int, ...]
    type: str  # "Q4_K"
    offset: int
    size: int
    elements: int

    @property
    def end(self) -> int:
        return self.offset + self.size


class StringArray(Sequence[str]):
    """The strings of an array, turned to text when they are asked for. Bytes that are no UTF-8 become U+FFFD; `raw` has them."""

    def __init__(self, content: bytes | bytearray, starts: Sequence[int], base: int, end: int, width: int) -> None:
        self._content, self._starts, self._base, self._end, self._width = content, starts, base, end, width

    def __len__(self) -> int:
        return len(self._starts)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"<{len(self)} strings: {shown}{', …' if len(self) > 3 else ''}>"

    def raw(self, index: int) -> bytes:
        """The bytes of one."""
        index = range(len(self))[index]
        following = self._starts[index + 1] - self._width if index + 1 < len(self) else self._end
        return bytes(self._content[self._starts[index] - self._base : following - self._base])

    def find(self, content: bytes) -> int | None:
        """The index of the first string with these bytes. Searches the file's bytes, which is quicker than turning all to text."""
        begin, end = self._starts[0] - self._base if self._starts else 0, self._end - self._base
        while (at := self._content.find(content, begin, end)) >= 0:
            index = bisect.bisect_left(self._starts, at + self._base)
            if index < len(self) and self._starts[index] == at + self._base and len(self.raw(index)) == len(content):
                return index
            begin = at + 1
        return None

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self.raw(index).decode("utf-8", "replace")


class Metadata(Mapping[str, Any]):
    """The values by key: bool, int, float, str, numpy arrays, StringArray. What was skipped is read from the source when asked for.

    `fields` tells each key's type and place.
    """

    def __init__(self, source: ByteSource, segments: Sequence[tuple[int, bytearray]], fields: Mapping[str, Field], order: str,
                 width: int) -> None:
        self.fields = MappingProxyType(dict(fields))
        self._source, self._segments, self._order, self._width = source, segments, order, width
        self._values: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            self._values[key] = self._value(self.fields[key])
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __contains__(self, key: object) -> bool:
        return key in self.fields

    def raw(self, begin: int, end: int) -> bytes:
        """Bytes of the header, as they stand in the file."""
        for base, segment in self._segments:
            if base <= begin and end <= base + len(segment):
                return bytes(segment[begin - base : end - base])
        return self._source.read(begin, end - begin)

    def is_here(self, key: str) -> bool:
        """Whether the value was read with the header."""
        found = self.fields[key]
        return any(base <= found.offset and found.end <= base + len(segment) for base, segment in self._segments)

    def _value(self, found: Field) -> Any:
        if found.type == "array" and found.item_type == "string":
            assert found.starts is not None
            base, segment = next((base, segment) for base, segment in self._segments if base <= found.offset <= base + len(segment))
            return StringArray(segment, found.starts, base, found.end, self._width)
        content = self.raw(found.offset, found.end)
        if found.type == "string":
            return content.decode("utf-8", "replace")
        import numpy

        if found.item_type == "bool":
            numbers: Any = numpy.frombuffer(content, "u1") != 0
        else:
            numbers = numpy.frombuffer(content, self._order + NUMBERS[found.item_type])
            numbers = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
        return numbers if found.type == "array" else numbers[0].item()


@dataclass(frozen=True)
class GGUFFile:
    """A GGUF file's header. Offsets and sizes are bytes of the file."""

    name: str  # the path, or where it came from
    size: int
    version: int
    byte_order: str  # "little", "big"
    metadata: Metadata = field(repr=False)
    tensors: tuple[TensorInfo, ...] = field(repr=False)
    alignment: int
    header_size: int  # where the records of the tensors end
    data_offset: int  # where the data of the tensors begins
    problems: tuple[str, ...] = ()  # what is wrong with where the tensors lie

    @property
    def architecture(self) -> str:
        """As general.architecture says; "" where it does not."""
        value = self.metadata.get("general.architecture", "")
        return value if isinstance(value, str) else ""

    @property
    def data_end(self) -> int:
        """Where the last tensor ends; the size that a whole file has at least."""
        return max((tensor.end for tensor in self.tensors), default=self.header_size)

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The value of a key, if it is there and of that type."""
        value = self.metadata.get(key)
        return value if isinstance(value, kind) and (not isinstance(value, bool) or kind is bool) else default

    def fact(self, name: str, default: Any = None) -> Any:
        """A whole number of the architecture: `context_length` for llama.context_length."""
        return self.get(f"{self.architecture}.{name}", int, default)
