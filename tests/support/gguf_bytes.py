"""GGUF files by the byte, also such as no writer writes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

STRING, ARRAY, UINT32, INT32, FLOAT32 = 8, 9, 4, 5, 6
F32 = 0


def text(content: str | bytes, length: int | None = None) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(content) if length is None else length) + content


def value(key: str | bytes, kind: int, content: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + content


def string(key: str, content: str | bytes) -> bytes:
    return value(key, STRING, text(content))


def uint32(key: str, number: int) -> bytes:
    return value(key, UINT32, struct.pack("<I", number))


def array(key: str, item: int, count: int, content: bytes = b"") -> bytes:
    return value(key, ARRAY, struct.pack("<IQ", item, count) + content)


def strings(key: str, texts: Sequence[str | bytes]) -> bytes:
    return array(key, STRING, len(texts), b"".join(map(text, texts)))


def tensor(name: str | bytes, shape: Sequence[int], kind: int = F32, offset: int = 0, dimensions: int | None = None) -> bytes:
    count = len(shape) if dimensions is None else dimensions
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", count, *shape, kind, offset)


def header(values: Sequence[bytes] = (), tensors: Sequence[bytes] = (), *, version: int = 3, keys: int | None = None,
           tensor_count: int | None = None) -> bytes:
    counts = struct.pack("<QQ", len(tensors) if tensor_count is None else tensor_count, len(values) if keys is None else keys)
    return b"GGUF" + struct.pack("<I", version) + counts + b"".join(values) + b"".join(tensors)


def whole(values: Sequence[bytes] = (), tensors: Sequence[bytes] = (), *, data: int = 0, alignment: int = 32) -> bytes:
    """The header, padded, and behind it that many bytes."""
    head = header(values, tensors)
    return head + bytes(-len(head) % alignment) + bytes(data)
