"""Saved prefixes in a file: written whole or not at all, and read only by the model and settings they are of.

The file: a line that tells what it is, a line of JSON, and behind it each prefix's tokens (32-bit, little-endian) and memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from gollama import _native
from gollama.engine import Saved
from gollama.errors import StateError
from gollama.options import MOST_SEQUENCES

MAGIC = b"gollama state 1\n"
MOST_HEADER = 2**24
NUMBERS = ("tokens", "bytes", "first", "sequences", "partial")  # that describe a prefix


def write(path: str | os.PathLike[str], fingerprint: str, entries: Sequence[Saved]) -> None:
    """Write a state file in place of what is there."""
    import tempfile

    target = Path(path)
    header = {"fingerprint": fingerprint, "prefixes": [_describe(entry) for entry in entries]}
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            file.write(MAGIC)
            file.write(json.dumps(header).encode() + b"\n")
            for entry in entries:
                file.write(_tokens(entry))
                file.write(entry.state.data)  # type: ignore[attr-defined]
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def _tokens(entry: Saved) -> bytes:
    return array("i", entry.tokens).tobytes()


def _describe(entry: Saved) -> dict[str, Any]:
    state: Any = entry.state
    described: dict[str, Any] = {"tokens": len(entry.tokens), "bytes": state.size, "first": entry.first, "sequences": state.sequences,
                                 "partial": state.partial}
    described["adapters"] = [[handle.fingerprint, scale] for handle, scale in entry.adapters]
    return {**described, "sha256": digest(described, _tokens(entry), state.data)}


def digest(entry: dict[str, Any], *data: Any) -> str:
    """Of a prefix: of what describes it, its tokens and its memory."""
    result = hashlib.sha256(json.dumps([*(entry[key] for key in NUMBERS), entry["adapters"]]).encode())
    for part in data:
        result.update(part)
    return result.hexdigest()


def read(path: str | os.PathLike[str], fingerprint: str, n_vocab: int, context_size: int,
         adapters: Mapping[str, Any] = MappingProxyType({})) -> list[Saved]:
    """The prefixes of a state file. StateError if it is damaged, or of another model, release or settings.

    `adapters` are those there are, by fingerprint; prefixes that were computed with others are left out.
    """
    target = Path(path)
    with target.open("rb") as file:
        header = _header(file, target)
        if header["fingerprint"] != fingerprint:
            raise StateError(f"{target}: was saved with another model, another release of llama.cpp, or other settings")
        left = target.stat().st_size - file.tell()
        entries = []
        for number, entry in enumerate(header["prefixes"]):
            left -= 4 * entry["tokens"] + entry["bytes"]
            if left < 0:
                raise StateError(f"{target}: is damaged, it ends in the midst of prefix {number}")
            saved = _entry(file, target, number, entry, n_vocab, context_size)
            if all(digest in adapters for digest, _ in entry["adapters"]):
                saved.adapters = tuple((adapters[digest], scale) for digest, scale in entry["adapters"])
                entries.append(saved)
    if left:
        raise StateError(f"{target}: is damaged, something follows its end")
    return entries


def _header(file: IO[bytes], target: Path) -> dict[str, Any]:
    if file.readline(len(MAGIC)) != MAGIC:
        raise StateError(f"{target}: is not a state file of gollama")
    header: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        header = json.loads(file.readline(MOST_HEADER))
    if not isinstance(header, dict) or not isinstance(header.get("fingerprint"), str) or not isinstance(header.get("prefixes"), list) \
            or not all(map(_is_description, header["prefixes"])):
        raise StateError(f"{target}: is damaged, its header cannot be read")
    return header


def _is_description(entry: Any) -> bool:
    kinds = {**dict.fromkeys(NUMBERS, int), "adapters": list, "sha256": str}
    return (isinstance(entry, dict) and {key: type(value) for key, value in entry.items()} == kinds
            and all(0 <= entry[key] < 2**63 for key in NUMBERS) and 0 < entry["sequences"] <= MOST_SEQUENCES
            and all(isinstance(one, list) and list(map(type, one)) == [str, float] for one in entry["adapters"]))


def _entry(file: IO[bytes], target: Path, number: int, entry: dict[str, Any], n_vocab: int, context_size: int) -> Saved:
    data = file.read(4 * entry["tokens"] + entry["bytes"])
    if digest(entry, data) != entry["sha256"]:
        raise StateError(f"{target}: is damaged, prefix {number} does not match its digest")
    tokens = array("i", data[: 4 * entry["tokens"]]).tolist()
    if not tokens or len(tokens) > context_size or min(tokens) < 0 or max(tokens) >= n_vocab:
        raise StateError(f"{target}: prefix {number} does not fit this model and its context of {context_size} tokens")
    state = _native.State(memoryview(data)[4 * entry["tokens"] :], entry["sequences"], entry["partial"])
    return Saved(tokens, state, entry["first"], 0)
