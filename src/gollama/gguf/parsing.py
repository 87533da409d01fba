"""A header, read and checked. Nothing in the file is believed: see Cursor and Limits."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gollama.errors import InvalidModelError
from gollama.gguf import formats
from gollama.gguf.cursor import Cursor, Limits
from gollama.gguf.records import Field, GGUFFile, Metadata, TensorInfo
from gollama.gguf.sources import ByteSource, opened

STRING_ROOM = 64  # bytes that a tensor's record has about
INT64_MAX = 2**63 - 1


def read(source: str | os.PathLike[str] | ByteSource, *, strict: bool = True, skip_numbers: bool = False,
         limits: Limits | None = None) -> GGUFFile:
    """The header of a GGUF file, from a path or a source of bytes. Needs no native code and reads no tensor's data.

    InvalidModelError, with the byte where it is, for a file that is no GGUF or is damaged; ModelNotFoundError for none.
    `strict`: also where tensors lie outside the file or on each other; without it `problems` tells. `skip_numbers`: long arrays of
    numbers are not read until they are asked for, from the source, which must be there still.
    """
    with opened(source) as opened_source:
        is_path = opened_source is not source
        file = _read(Cursor(opened_source, limits or Limits(), skip_numbers and not is_path))
    if strict and file.problems:
        raise InvalidModelError(f"{file.name}: {file.problems[0]}")
    return file


def _read(cursor: Cursor) -> GGUFFile:
    version = _version(cursor)
    tensor_count = _count(cursor, "tensors", cursor.limits.tensors)
    key_count = _count(cursor, "keys", cursor.limits.keys)
    fields: dict[str, Field] = {}
    strings = 0
    for _ in range(key_count):
        found = _field(cursor, fields, strings)
        strings += found.count if found.starts is not None else 0
        fields[found.key] = found
    metadata = Metadata(cursor.source, cursor.segments, fields, cursor.order, 8 if cursor.wide else 4)
    alignment = _alignment(cursor, metadata)
    tensors = _tensors(cursor, tensor_count, alignment)
    header_size = cursor.position
    data_offset = -(-header_size // alignment) * alignment
    placed = tuple(TensorInfo(info.name, info.shape, info.type, data_offset + info.offset, info.size, info.elements) for info in tensors)
    byte_order = "little" if cursor.order == "<" else "big"
    problems = tuple(_problems(placed, data_offset, alignment, cursor.source.size))
    return GGUFFile(cursor.source.name, cursor.source.size, version, byte_order, metadata, placed, alignment, header_size, data_offset,
                    problems)


def _version(cursor: Cursor) -> int:
    """The version; sets the byte order and the width of lengths."""
    if cursor.source.size == 0:
        raise cursor.error("the file is empty")
    if cursor.source.size < 24 or cursor.take(4, "the magic") != formats.MAGIC:
        raise cursor.error("the file is not in GGUF format: it does not begin with 'GGUF', a version and counts", 0)
    words = cursor.take(4, "the version")
    # as llama.cpp and the gguf package tell: a small number in the other byte order has nothing in its low half
    little = int.from_bytes(words, "little")
    cursor.order = "<" if little & 0xFFFF else ">"
    version = int.from_bytes(words, "little" if cursor.order == "<" else "big")
    if version not in formats.VERSIONS:
        raise cursor.error(f"the file is GGUF of version {version}; those known are {', '.join(map(str, formats.VERSIONS))}", 4)
    cursor.wide = version > 1
    return version


def _count(cursor: Cursor, what: str, most: int) -> int:
    begin = cursor.position
    count = cursor.length(f"the number of {what}")
    if count > most:
        raise cursor.error(f"the header has {count} {what}, and {most} are the most", begin)
    return count


def _field(cursor: Cursor, fields: dict[str, Field], strings: int) -> Field:
    record = cursor.position
    raw = cursor.text(cursor.limits.key_bytes, "a key")
    try:
        key = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise cursor.error(f"the key {raw[:80]!r} is not UTF-8", record) from None
    if not key:
        raise cursor.error("a key is empty", record)
    if key in fields:
        raise cursor.error(f"the key {key[:80]!r} is there twice", record)
    what = f"the value of {key[:80]!r}"
    kind = _value_type(cursor, what)
    if kind == "array":
        return _array(cursor, key, what, record, strings)
    if kind == "string":
        length = cursor.length(what)
        offset = cursor.position
        cursor.need(min(length, INT64_MAX), what)
        cursor.skip(length, what)
        return Field(key, kind, kind, 1, record, offset, cursor.position)
    offset = cursor.position
    cursor.take(formats.WIDTHS[kind], what)
    return Field(key, kind, kind, 1, record, offset, cursor.position)


def _value_type(cursor: Cursor, what: str) -> str:
    begin = cursor.position
    number = cursor.number("I", f"the type of {what}")
    if number not in formats.value_types():
        raise cursor.error(f"{what} has the type {number}, which there is none of", begin)
    return formats.value_types()[number]


def _array(cursor: Cursor, key: str, what: str, record: int, strings: int) -> Field:
    begin = cursor.position
    item = _value_type(cursor, f"the items of {what}")
    if item == "array":
        raise cursor.error(f"{what} is an array of arrays, which llama.cpp does not read", begin)
    at_count = cursor.position
    count = cursor.length(f"the number of items of {what}")
    offset = cursor.position
    if item == "string":
        if strings + count > cursor.limits.strings:
            raise cursor.error(f"{what} has {count} strings, and {cursor.limits.strings} are the most in all arrays together", at_count)
        starts = cursor.strings(count, what)
        return Field(key, "array", item, count, record, offset, cursor.position, starts)
    room = cursor.source.size - offset
    if count > room // formats.WIDTHS[item]:
        raise cursor.error(f"{what} has {count} items, which the file has no room for", at_count)
    cursor.skip(count * formats.WIDTHS[item], what)
    return Field(key, "array", item, count, record, offset, cursor.position)


def _alignment(cursor: Cursor, metadata: Metadata) -> int:
    found = metadata.fields.get(formats.ALIGNMENT)
    if found is None:
        return formats.DEFAULT_ALIGNMENT
    if found.type != "uint32":
        raise cursor.error(f"{formats.ALIGNMENT} is of the type {found.type}, and must be uint32", found.record)
    alignment: int = metadata[formats.ALIGNMENT]
    if alignment == 0 or alignment & (alignment - 1):
        raise cursor.error(f"{formats.ALIGNMENT} is {alignment}, which is no power of 2", found.offset)
    return alignment


def _tensors(cursor: Cursor, count: int, alignment: int) -> list[TensorInfo]:
    """The tensors, their offsets still from where the data begins."""
    found: dict[str, TensorInfo] = {}
    for number in range(count):
        begin = cursor.position
        cursor.need(1, "the records of the tensors", (count - number) * STRING_ROOM)
        raw = cursor.text(cursor.limits.tensor_name_bytes, "the name of a tensor")
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise cursor.error(f"the tensor's name {raw!r} is not UTF-8", begin) from None
        if name in found:
            raise cursor.error(f"the tensor {name!r} is there twice", begin)
        found[name] = _tensor(cursor, name, alignment)
    return list(found.values())


def _tensor(cursor: Cursor, name: str, alignment: int) -> TensorInfo:
    what = f"the tensor {name!r}"
    begin = cursor.position
    dimensions = cursor.number("I", what)
    if dimensions > cursor.limits.dimensions:
        raise cursor.error(f"{what} has {dimensions} dimensions, and {cursor.limits.dimensions} are the most", begin)
    shape = tuple(cursor.length(what) for _ in range(dimensions))
    elements = 1
    for length in shape:
        if not 0 < length <= INT64_MAX // elements:
            raise cursor.error(f"{what} has the shape {list(shape)}, which cannot be", begin)
        elements *= length
    at_type = cursor.position
    number = cursor.number("I", what)
    kind = formats.tensor_types().get(number)
    if kind is None:
        raise cursor.error(f"{what} has the type {number}, which the installed `gguf` package does not know", at_type)
    if (shape[0] if shape else 1) % kind.block:
        raise cursor.error(f"{what} of the type {kind.name} has rows of {shape[0] if shape else 1}, no multiple of {kind.block}", begin)
    at_offset = cursor.position
    offset = cursor.number("Q", what)
    size = kind.size(elements)
    if offset > INT64_MAX or size > INT64_MAX:
        raise cursor.error(f"{what} has the offset {offset} and {size} bytes, which cannot be", at_offset)
    if offset % alignment:
        raise cursor.error(f"{what} has the offset {offset}, no multiple of the alignment {alignment}", at_offset)
    return TensorInfo(name, shape, kind.name, offset, size, elements)


def _problems(tensors: Sequence[TensorInfo], data_offset: int, alignment: int, size: int) -> list[str]:
    """What is wrong with where the tensors lie: on each other, apart, outside the file."""
    found = []
    end, before = data_offset, ""
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.end)):
        padded = -(-end // alignment) * alignment
        if tensor.offset < end:
            found.append(f"the tensors {before!r} and {tensor.name!r} lie on each other, at byte {tensor.offset}")
        elif tensor.offset > padded:
            found.append(f"before the tensor {tensor.name!r} are {tensor.offset - padded} bytes of no tensor, at byte {padded}")
        end, before = max(end, tensor.end), tensor.name
    outside = [tensor for tensor in tensors if tensor.end > size]
    if outside:
        found.insert(0, f"the file ends at byte {size}, before the data of {len(outside)} of its {len(tensors)} tensors, which ends at "
                     f"byte {end}: it is cut off or damaged")
    return found
