"""Other metadata for the same tensors, in a new file."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from gollama import _files
from gollama.errors import InvalidModelError, OptionError
from gollama.gguf import formats
from gollama.gguf.cursor import Limits
from gollama.gguf.packing import Packer, Value, typed
from gollama.gguf.parsing import read
from gollama.gguf.records import GGUFFile, TensorInfo
from gollama.gguf.sources import FileBytes

BLOCK = 4 * 2**20
LARGEST_ALIGNMENT = 2**20

Progress = Callable[[int, int], object]


def edit(source: str | os.PathLike[str], target: str | os.PathLike[str], *, set: Mapping[str, Any] | None = None,
         remove: Iterable[str] = (), rename: Mapping[str, str] | None = None, on_progress: Progress | None = None) -> GGUFFile:
    """Write the source's tensors with other metadata to a new file; the header of what was written.

    `set` gives keys values: bool, int, float, str or lists of one of them, of the type that the key had or the one that fits;
    gguf.Value(value, type) says it. `remove` takes keys out, `rename` gives them other names (old to new), before `set`. What is not
    named stays as it was, byte for byte. `on_progress` gets (bytes of tensors written, in all).

    The target appears whole or not at all, after it was read again and compared; one that is there is never overwritten
    (FileExistsError). OptionError for a key that is not there, or a value that does not fit.
    """
    target = Path(target)
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already: metadata is edited into a new file")
    with FileBytes(source) as opened:
        file = read(opened)
        records = _records(file, dict(set or {}), list(remove), dict(rename or {}))
        alignment = _alignment(file, dict(set or {}), records)
        header, offsets = _header(file, records, alignment)
        _require_room(target, len(header) + offsets[-1])
        with _files.creating(target) as (output, staged):
            output.write(header)
            _copy(file, opened, output, offsets, len(header), on_progress)
            output.flush()
            os.fsync(output.fileno())
            written = read(staged, limits=Limits(header_bytes=max(2 * len(header), Limits.header_bytes)))
            _compare(file, written, records)
            shutil.copymode(source, staged)
    return dataclasses.replace(written, name=str(target))


def _records(file: GGUFFile, given: dict[str, Any], removed: list[str], renamed: dict[str, str]) -> dict[str, bytes]:
    """Each key's record, in the order of the file."""
    fields = file.metadata.fields
    missing = [key for key in (*removed, *renamed) if key not in fields]
    if missing:
        raise OptionError(f"{file.name} has no metadata key {missing[0]!r}")
    if any(key in renamed for key in removed):
        raise OptionError("a key is both removed and renamed")
    packer = Packer(file)
    records: dict[str, bytes] = {}
    for key, found in fields.items():
        if key in removed:
            continue
        name = renamed.get(key, key)
        if name in records:
            raise OptionError(f"the key {name!r} would be there twice")
        raw = file.metadata.raw(found.record, found.end)
        records[name] = raw if name == key else packer.text(name) + raw[len(packer.text(key)) :]
    for key, value in given.items():
        if not isinstance(key, str) or not 0 < len(key.encode("utf-8", "surrogatepass")) <= Limits.key_bytes:
            raise OptionError(f"a metadata key is a text of 1 to {Limits.key_bytes} bytes, not {key!r}")
        records[key] = packer.record(key, typed(key, value, fields.get(key)))
    return records


def _alignment(file: GGUFFile, given: dict[str, Any], records: Mapping[str, bytes]) -> int:
    if formats.ALIGNMENT in given:
        value = given[formats.ALIGNMENT]
        alignment = value.value if isinstance(value, Value) else value
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1) or alignment > LARGEST_ALIGNMENT:
            raise OptionError(f"{formats.ALIGNMENT} must be a power of 2 up to {LARGEST_ALIGNMENT}, not {alignment!r}")
        return alignment
    return file.alignment if formats.ALIGNMENT in records else formats.DEFAULT_ALIGNMENT


def _header(file: GGUFFile, records: Mapping[str, bytes], alignment: int) -> tuple[bytes, list[int]]:
    """The whole header, padded; where each tensor will begin behind it, and behind them all where the file ends."""
    packer = Packer(file)
    numbers = {kind.name: number for number, kind in formats.tensor_types().items()}
    parts = [formats.MAGIC, packer.number("I", file.version), packer.length(len(file.tensors)), packer.length(len(records)),
             *records.values()]
    offsets = [0]
    for tensor in _in_order(file):
        offsets.append(_padded(offsets[-1] + tensor.size, alignment))
    place = {tensor.name: offset for tensor, offset in zip(_in_order(file), offsets)}
    for tensor in file.tensors:
        parts += [packer.text(tensor.name), packer.number("I", len(tensor.shape)), *map(packer.length, tensor.shape),
                  packer.number("I", numbers[tensor.type]), packer.number("Q", place[tensor.name])]
    header = b"".join(parts)
    return header.ljust(_padded(len(header), alignment), b"\0") if file.tensors else header, offsets


def _in_order(file: GGUFFile) -> list[TensorInfo]:
    return sorted(file.tensors, key=lambda tensor: tensor.offset)


def _padded(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment


def _require_room(target: Path, size: int) -> None:
    free = shutil.disk_usage(target.absolute().parent).free
    if free < size:
        raise OSError(f"{target} needs {size / 1e6:.0f} MB and its disk has {free / 1e6:.0f} MB left")


def _copy(file: GGUFFile, source: FileBytes, output: IO[bytes], offsets: list[int], begin: int, on_progress: Progress | None) -> None:
    total, done = sum(tensor.size for tensor in file.tensors), 0
    for tensor, offset in zip(_in_order(file), offsets):
        output.write(bytes(begin + offset - output.tell()))
        for at in range(tensor.offset, tensor.end, BLOCK):
            output.write(source.read(at, min(BLOCK, tensor.end - at)))
            done += min(BLOCK, tensor.end - at)
            if on_progress is not None:
                on_progress(done, total)
    if file.tensors:
        output.write(bytes(begin + offsets[-1] - output.tell()))


def _compare(file: GGUFFile, written: GGUFFile, records: Mapping[str, bytes]) -> None:
    """That what was read again is what was meant: each key's bytes, each tensor's name, shape, type and size."""
    fields = written.metadata.fields
    same = {key: written.metadata.raw(found.record, found.end) for key, found in fields.items()} == dict(records)
    tensors = [(tensor.name, tensor.shape, tensor.type, tensor.size) for tensor in written.tensors]
    if not same or tensors != [(tensor.name, tensor.shape, tensor.type, tensor.size) for tensor in file.tensors]:
        raise InvalidModelError(f"{written.name}: what was written is not what was meant; nothing was kept")
