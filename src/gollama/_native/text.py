"""Strings and arrays on their way into C and out of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gollama.errors import OptionError, TextError


def utf8(text: str, what: str = "the text") -> bytes:
    """UTF-8 of a str; TextError for a lone surrogate, which has none."""
    if not isinstance(text, str):
        raise TextError(f"{what} must be a str, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TextError(f"{what} holds the lone surrogate U+{ord(text[error.start]):04X} at index {error.start}, "
                        "which is not valid Unicode") from None


def c_string(text: str, what: str) -> bytes:
    """UTF-8 for a C string, which cannot hold a NUL."""
    data = utf8(text, what)
    if b"\0" in data:
        raise TextError(f"{what} holds a NUL character at byte {data.index(0)}, which it may not")
    return data


def path_bytes(path: str | os.PathLike[str]) -> bytes:
    data = os.fsencode(Path(path))
    if b"\0" in data:
        raise OptionError("a path may not hold a NUL character")
    return data


def decode(data: bytes) -> str:
    """Text of bytes that need not be whole characters: what is none becomes U+FFFD."""
    return data.decode("utf-8", "replace")


def c_text(ffi: Any, pointer: Any) -> str | None:
    return None if pointer == ffi.NULL else decode(ffi.string(pointer))
