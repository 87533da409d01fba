"""Reading and writing the small files that registries, locks and the store are made of."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from gollama import _files
from gollama.errors import GollamaError, StoreError

LARGEST = 4 << 20  # bytes of a registry, a lock file or a manifest


def read(path: Path, refused: type[GollamaError], largest: int = LARGEST) -> bytes:
    """The bytes of a regular file no larger than `largest`. FileNotFoundError as it comes; else `refused`."""
    try:
        with open(path, "rb", opener=_opener) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise refused(f"{path} is no file")
            content = file.read(largest + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refused(f"{path} cannot be read ({error.strerror or error})") from error
    if len(content) > largest:
        raise refused(f"{path} is larger than the {largest >> 20} MiB that such a file may have")
    return content


def beginning(path: Path, length: int) -> bytes:
    """The first bytes of a regular file; none of anything else. OSError if it cannot be read."""
    with open(path, "rb", opener=_opener) as file:
        return file.read(length) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe must not make us wait for its other end


def parse(content: bytes, where: str, refused: type[GollamaError], *, toml: bool = False) -> dict[str, Any]:
    """The table that a JSON or TOML text holds, or `refused`."""
    try:
        text = content.decode("utf-8")
        table = _toml(text) if toml else json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise refused(f"{where} is not {'TOML' if toml else 'JSON'} ({_first_line(error)})") from None
    if not isinstance(table, dict):
        raise refused(f"{where} must hold an object, not {type(table).__name__}")
    return table


def _toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that comes twice means two things to two readers."""
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} comes twice")
    return table


def _first_line(error: BaseException) -> str:
    return printable((str(error) or type(error).__name__).splitlines()[0])[:200]


def printable(text: str) -> str:
    """The text with what a terminal would obey, or would show in another order, replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def write(path: Path, table: dict[str, Any]) -> None:
    """Put a JSON file in place whole or not at all. StoreError if it cannot be written."""
    content = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, content.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """`write` for bytes as they are."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _files.replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror or error})") from error
