"""Headers of GGUF files: what the gguf package reads, ours reads too; what is damaged or hostile is refused with its place."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gollama import InvalidModelError, ModelNotFoundError, OptionError
from gollama.gguf import GGUFFile, Limits, RangeBytes, read
from tests.support import gguf_bytes as raw
from tests.support.gguf_reader import assert_same

ARCHITECTURE = raw.string("general.architecture", "llama")
MANY = 2**63


def from_bytes(content: bytes, *, strict: bool = True, limits: Limits | None = None, chunk: int = 64) -> GGUFFile:
    """Read as from elsewhere, in small pieces."""
    return read(RangeBytes(lambda offset, length: content[offset : offset + length], len(content), "x.gguf", chunk), strict=strict,
                limits=limits)


def test_a_miniature_is_what_the_gguf_package_reads(tiny_path: Path) -> None:
    file = read(tiny_path)
    assert_same(file, tiny_path)
    assert (file.architecture, file.version, file.byte_order, file.size) == ("llama", 3, "little", tiny_path.stat().st_size)
    assert file.fact("block_count") == 2


def test_pieces_of_any_size_give_the_same(tiny_path: Path) -> None:
    content = tiny_path.read_bytes()
    whole = read(tiny_path)
    for chunk in (1, 7, 4096, 10**7):
        file = from_bytes(content, chunk=chunk)
        assert file.tensors == whole.tensors and list(file.metadata) == list(whole.metadata)
        assert file.metadata["tokenizer.ggml.tokens"][:] == whole.metadata["tokenizer.ggml.tokens"][:]


@pytest.mark.parametrize("order", list(gguf.GGUFEndian))
def test_every_type_of_value_in_both_byte_orders(tmp_path: Path, order: gguf.GGUFEndian) -> None:
    path = tmp_path / "all.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=order)
    kinds = gguf.GGUFValueType
    for kind, number in ((kinds.UINT8, 200), (kinds.INT8, -3), (kinds.UINT16, 60000), (kinds.INT16, -3), (kinds.UINT32, 2**32 - 1),
                         (kinds.INT32, -7), (kinds.UINT64, 2**64 - 1), (kinds.INT64, -(2**63)), (kinds.FLOAT32, 0.5), (kinds.FLOAT64, 0.1),
                         (kinds.BOOL, True), (kinds.STRING, "wort — слово")):
        writer.add_key_value(f"one.{kind.name}", number, kind)
        writer.add_key_value(f"many.{kind.name}", [number] * 3, kinds.ARRAY, sub_type=kind)
    writer.add_tensor("a", numpy.ones((4, 8), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read(path)
    assert_same(file, path)
    assert file.byte_order == order.name.lower()


def test_version_2_is_version_3_and_version_1_has_short_lengths() -> None:
    two = raw.whole([ARCHITECTURE], [raw.tensor("a", [8])], data=32).replace(struct.pack("<I", 3), struct.pack("<I", 2), 1)
    assert from_bytes(two).version == 2 and from_bytes(two).tensors[0].shape == (8,)
    key, name = b"general.architecture", b"a"
    one = b"GGUF" + struct.pack("<III", 1, 1, 1) + struct.pack("<I", len(key)) + key + struct.pack("<II", 8, 5) + b"llama"
    one += struct.pack("<I", 1) + name + struct.pack("<IIIQ", 1, 8, 0, 0)
    file = from_bytes(one + bytes(-len(one) % 32) + bytes(32))
    assert (file.version, file.architecture, file.tensors[0].size) == (1, "llama", 32)


def test_strings_that_are_no_utf8_are_kept_and_shown() -> None:
    tokens = from_bytes(raw.whole([raw.strings("t", [b"\xff\xfe", "é"])])).metadata["t"]
    assert list(tokens) == ["\ufffd\ufffd", "é"] and tokens.raw(0) == b"\xff\xfe" and tokens[-1] == "é"


@given(st.lists(st.binary(max_size=12), max_size=20), st.binary(max_size=3))
def test_a_string_is_found_where_the_list_has_it(texts: list[bytes], wanted: bytes) -> None:
    found = from_bytes(raw.whole([raw.strings("t", texts)])).metadata["t"].find(wanted)
    assert found == (texts.index(wanted) if wanted in texts else None)


def test_numbers_that_are_skipped_are_read_when_they_are_asked_for() -> None:
    numbers = numpy.arange(10_000, dtype="<i4")
    content = raw.whole([raw.array("n", raw.INT32, len(numbers), numbers.tobytes()), raw.uint32("after", 5)])
    source = RangeBytes(lambda offset, length: content[offset : offset + length], len(content), "x", chunk=256)
    file = read(source, skip_numbers=True)
    assert source.bytes_read < 1000 and file.metadata["after"] == 5 and not file.metadata.is_here("n")
    assert (file.metadata["n"] == numbers).all()


# ---- damaged and hostile files ----

BOMBS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "another format": (b"PK\x03\x04" + bytes(100), "not in GGUF format"),
    "too short": (b"GGUF\3\0\0\0", "not in GGUF format"),
    "version 0": (raw.header(version=0), "version 0"),
    "version 4": (raw.header(version=4), "version 4"),
    "tensors beyond count": (raw.header(tensor_count=MANY), f"{MANY} tensors"),
    "keys beyond count": (raw.header(keys=MANY), f"{MANY} keys"),
    "keys that are not there": (raw.header([ARCHITECTURE], keys=60_000), "the file ends"),
    "a key of 1 GB": (raw.header([raw.text(b"x", length=2**30)]), "a key has 1073741824 bytes"),
    "a key without end": (raw.header([raw.text(b"x", length=2**64 - 1)]), "a key has"),
    "a key longer than the file": (raw.header([raw.text(b"x", length=60_000)]), "the file ends before the end of a key"),
    "a key that is empty": (raw.header([raw.uint32("", 1)]), "a key is empty"),
    "a key that is no text": (raw.header([raw.value(b"\xff", raw.UINT32, bytes(4))]), "not UTF-8"),
    "a key twice": (raw.header([ARCHITECTURE, ARCHITECTURE]), "'general.architecture' is there twice"),
    "a type of none": (raw.header([raw.value("k", 13, bytes(8))]), "has the type 13"),
    "a string of 2^63": (raw.header([raw.value("k", raw.STRING, raw.text(b"x", length=MANY))]), "the file ends"),
    "an array of 2^32 strings": (raw.header([raw.array("k", raw.STRING, 2**32)]), "4294967296 strings"),
    "an array of strings without room": (raw.header([raw.array("k", raw.STRING, 4_000_000)]), "no room"),
    "an array of 2^62 numbers": (raw.header([raw.array("k", raw.UINT32, 2**62)]), "no room"),
    "an array of arrays": (raw.header([raw.array("k", raw.ARRAY, 2**20, raw.text(b""))]), "an array of arrays"),
    "a string in an array that does not end": (raw.header([raw.array("k", raw.STRING, 2, raw.text("a") + raw.text("b", length=MANY))]),
                                               "the file ends"),
    "an alignment of 0": (raw.header([raw.uint32("general.alignment", 0)]), "no power of 2"),
    "an alignment of 24": (raw.header([raw.uint32("general.alignment", 24)]), "no power of 2"),
    "an alignment that is a text": (raw.header([raw.string("general.alignment", "32")]), "must be uint32"),
    "a tensor's name that is long": (raw.header([], [raw.tensor("n" * 64, [8])]), "64 bytes"),
    "a tensor twice": (raw.whole([], [raw.tensor("a", [8]), raw.tensor("a", [8], offset=32)], data=64), "'a' is there twice"),
    "a tensor of 5 dimensions": (raw.header([], [raw.tensor("a", [1] * 5)]), "5 dimensions"),
    "a tensor of 2^32 dimensions": (raw.header([], [raw.tensor("a", [1], dimensions=2**32 - 1)]), "dimensions"),
    "a tensor with an empty axis": (raw.header([], [raw.tensor("a", [8, 0])]), "cannot be"),
    "a tensor beyond 2^63": (raw.header([], [raw.tensor("a", [2**40, 2**40])]), "cannot be"),
    "a tensor of an unknown type": (raw.header([], [raw.tensor("a", [8], kind=999)]), "type 999"),
    "a row that is no whole block": (raw.header([], [raw.tensor("a", [33], kind=8)]), "no multiple of 32"),
    "an offset that is not aligned": (raw.whole([], [raw.tensor("a", [8], offset=4)], data=64), "no multiple of the alignment"),
    "an offset outside": (raw.whole([], [raw.tensor("a", [8], offset=2**40)], data=64), "cut off or damaged"),
    "an offset of 2^64": (raw.header([], [raw.tensor("a", [8], offset=2**64 - 32)]), "cannot be"),
    "tensors on each other": (raw.whole([], [raw.tensor("a", [16]), raw.tensor("b", [16], offset=32)], data=96), "lie on each other"),
    "tensors apart": (raw.whole([], [raw.tensor("a", [8]), raw.tensor("b", [8], offset=64)], data=96), "of no tensor"),
    "a tensor cut off": (raw.whole([], [raw.tensor("a", [64])], data=64), "before the data of 1 of its 1 tensors"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_hostile_header_is_refused_with_its_place(name: str) -> None:
    content, message = BOMBS[name]
    tracemalloc.start()
    with pytest.raises(InvalidModelError) as caught:
        from_bytes(content, chunk=2**20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message in str(caught.value) and "at byte" in str(caught.value) and peak < 2**22


def test_a_header_beyond_the_limits_is_refused_before_it_is_read() -> None:
    content = raw.whole([raw.strings("t", ["word"] * 1000)])
    source = RangeBytes(lambda offset, length: content[offset : offset + length], len(content), "x", chunk=100)
    with pytest.raises(InvalidModelError, match="larger than 2000 bytes"):
        read(source, limits=Limits(header_bytes=2000))
    assert source.bytes_read <= 2000
    with pytest.raises(InvalidModelError, match="1000 strings, and 999 are the most"):
        from_bytes(content, limits=Limits(strings=999))


def test_what_lies_wrong_is_told_and_not_raised_where_it_is_asked_for() -> None:
    file = from_bytes(raw.whole([ARCHITECTURE], [raw.tensor("a", [64])], data=64), strict=False)
    assert len(file.problems) == 1 and file.tensors[0].size == 256


def test_a_miniature_cut_anywhere_in_its_header_is_refused(tiny_path: Path) -> None:
    content = tiny_path.read_bytes()
    end = read(tiny_path).header_size
    for length in range(0, end, max(1, end // 300)):
        with pytest.raises(InvalidModelError):
            from_bytes(content[:length], strict=False, chunk=4096)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole file of all sorts, small enough to change everywhere."""
    values = [ARCHITECTURE, raw.uint32("general.alignment", 32), raw.uint32("llama.block_count", 1),
              raw.strings("tokenizer.ggml.tokens", ["<s>", "a", "b"]), raw.array("tokenizer.ggml.scores", raw.FLOAT32, 3, bytes(12)),
              raw.string("tokenizer.ggml.model", "llama"), raw.string("tokenizer.chat_template", "{{ messages }}")]
    return raw.whole(values, [raw.tensor("a", [8, 2]), raw.tensor("b", [32], kind=8, offset=64)], data=128)


Change = tuple[str, int, int]
PLACES = st.integers(0, 2**16)
CHANGES = st.lists(st.one_of(
    st.tuples(st.just("byte"), PLACES, st.integers(0, 255)),
    st.tuples(st.just("number"), PLACES, st.sampled_from([0, 1, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1])),
    st.tuples(st.just("cut"), PLACES, st.integers(1, 16)),
    st.tuples(st.just("insert"), PLACES, st.integers(0, 2**64 - 1))), min_size=1, max_size=8)


def changed(content: bytes, changes: list[Change]) -> bytes:
    data = bytearray(content)
    for kind, place, amount in changes:
        at = place % max(len(data), 1)
        if kind == "byte":
            data[at : at + 1] = bytes([amount])
        elif kind == "number":
            data[at : at + 8] = amount.to_bytes(8, "little")
        elif kind == "cut":
            del data[at : at + amount]
        else:
            data[at:at] = amount.to_bytes(8, "little")
    return bytes(data)


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([("number", 8, 2**63 - 1)])
@given(CHANGES)
def test_a_changed_file_is_read_or_refused_and_takes_little_memory(small: bytes, changes: list[Change]) -> None:
    content = changed(small, changes)
    tracemalloc.start()
    try:
        with contextlib.suppress(InvalidModelError):
            file = from_bytes(content, strict=False, chunk=512)
            for key in file.metadata:
                file.metadata[key]
            assert file.header_size <= len(content) and all(tensor.size > 0 for tensor in file.tensors)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2**20


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_behind_the_magic_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(InvalidModelError):
        from_bytes(b"GGUF\3\0\0\0" + content)


@pytest.mark.parametrize(("make", "error"), [
    (lambda folder: folder / "missing.gguf", ModelNotFoundError), (lambda folder: folder, ModelNotFoundError),
    (lambda folder: "/dev/zero", ModelNotFoundError), (lambda folder: "a\0b", OptionError),
])
def test_what_is_no_file_is_told(tmp_path: Path, make: Callable[[Path], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        read(make(tmp_path))


def test_a_server_that_sends_too_little_is_told() -> None:
    with pytest.raises(InvalidModelError, match="3 bytes came for"):
        read(RangeBytes(lambda offset, length: b"GGU", 1000, "x.gguf"))
