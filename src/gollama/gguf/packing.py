"""Metadata values to bytes of the format."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gollama.errors import OptionError
from gollama.gguf import formats
from gollama.gguf.records import Field, GGUFFile

LETTERS = {"uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "uint32": "I", "int32": "i", "float32": "f", "bool": "?",
           "uint64": "Q", "int64": "q", "float64": "d"}
TYPES = (*LETTERS, "string")


@dataclass(frozen=True)
class Value:
    """A metadata value and its type: "uint32", "string", …, or that of the items where the value is a list."""

    value: Any
    type: str

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise OptionError(f"the type of a metadata value must be one of {', '.join(TYPES)}, not {self.type!r}")


class Packer:
    """Packs for one file's byte order and version. OptionError for what does not fit."""

    def __init__(self, file: GGUFFile) -> None:
        self._order = "<" if file.byte_order == "little" else ">"
        self._length = "I" if file.version == 1 else "Q"

    def length(self, count: int) -> bytes:
        return struct.pack(self._order + self._length, count)

    def number(self, letter: str, value: Any) -> bytes:
        return struct.pack(self._order + letter, value)

    def text(self, text: str | bytes) -> bytes:
        content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        return self.length(len(content)) + content

    def record(self, key: str, value: Value) -> bytes:
        """A key with its type and value. A list's items all have the type."""
        numbers = formats.value_numbers()
        head = self.text(key)
        if not is_list(value.value):
            return head + self.number("I", numbers[value.type]) + self._item(key, value.value, value.type)
        items = list(value.value)
        kinds = self.number("I", numbers["array"]) + self.number("I", numbers[value.type])
        return head + kinds + self.length(len(items)) + b"".join(self._item(key, item, value.type) for item in items)

    def _item(self, key: str, value: Any, kind: str) -> bytes:
        value = value.item() if hasattr(value, "item") else value  # numpy's numbers
        if kind == "string":
            if not isinstance(value, (str, bytes)):
                raise OptionError(f"{key} is of the type string, and {value!r} is none")
            return self.text(value)
        wanted = (bool,) if kind == "bool" else (int, float) if kind.startswith("float") else (int,)
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
            raise OptionError(f"{key} is of the type {kind}, and {value!r} is none")
        try:
            return self.number(LETTERS[kind], value)
        except (struct.error, OverflowError):
            raise OptionError(f"{key} is of the type {kind}, which {value!r} does not fit") from None


def is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def typed(key: str, value: Any, before: Field | None) -> Value:
    """The value with its type: its own, that of the value it replaces, or the one that fits."""
    if isinstance(value, Value):
        return value
    items: Sequence[Any] = list(value) if is_list(value) else [value]
    if before is not None and (before.type == "array") == is_list(value):
        return Value(value, before.item_type)
    kinds = {_fitting(key, item) for item in items}
    if kinds == {"uint32", "int32"}:
        kinds = {"int32"}
    if len(kinds) != 1:
        held = ", ".join(sorted(kinds)) or "none"
        raise OptionError(f"{key}: say the type of the list's items with gguf.Value(list, type); it holds {held}")
    return Value(value, kinds.pop())


def _fitting(key: str, value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "uint32" if 0 <= value < 2**32 else "int32" if -(2**31) <= value < 0 else "int64"
    if isinstance(value, float):
        return "float32"
    if isinstance(value, (str, bytes)):
        return "string"
    raise OptionError(f"{key} must be a bool, a number, a text or a list of one of them, not {value!r}")
