"""Metadata changed into a new file: what is named changes, all else stays to the byte."""

from __future__ import annotations

import dataclasses
import os
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gollama import InvalidModelError, OptionError
from gollama.gguf import GGUFFile, Value, edit, read
from tests.support import gguf_bytes as raw
from tests.support import tiny


def data_of(path: Path) -> dict[str, bytes]:
    content, file = path.read_bytes(), read(path)
    return {tensor.name: content[tensor.offset : tensor.end] for tensor in file.tensors}


def records(file: GGUFFile) -> dict[str, bytes]:
    return {key: file.metadata.raw(found.record, found.end) for key, found in file.metadata.fields.items()}


def test_nothing_changed_is_the_same_file(tiny_path: Path, tmp_path: Path) -> None:
    edit(tiny_path, tmp_path / "same.gguf")
    assert (tmp_path / "same.gguf").read_bytes() == tiny_path.read_bytes()


def test_the_header_of_what_was_written_is_returned(tiny_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    told, found = edit(tiny_path, target, set={"general.name": "Other"}), read(target)
    for field in dataclasses.fields(found):
        assert field.name == "metadata" or getattr(told, field.name) == getattr(found, field.name)
    assert told.metadata.fields == found.metadata.fields
    assert told.metadata.raw(0, told.header_size) == found.metadata.raw(0, found.header_size)


def test_values_are_set_removed_and_renamed_and_the_rest_stays(tiny_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.gguf"
    file = edit(tiny_path, target, set={"general.name": "Mine – 私", "x.flags": [True, False]}, remove=["tokenizer.ggml.unknown_token_id"],
                rename={"llama.rope.dimension_count": "llama.other"})
    before, after = records(read(tiny_path)), records(file)
    assert file.metadata["general.name"] == "Mine – 私" and file.metadata["x.flags"].tolist() == [True, False]
    assert file.metadata["llama.other"] == 8
    kept = before.keys() & after.keys() - {"general.name"}
    assert before.keys() - kept == {"general.name", "tokenizer.ggml.unknown_token_id", "llama.rope.dimension_count"}
    assert {key: before[key] for key in kept} == {key: after[key] for key in kept} and data_of(target) == data_of(tiny_path)
    theirs = gguf.GGUFReader(target)
    assert theirs.fields["general.name"].contents() == "Mine – 私" and len(theirs.tensors) == len(file.tensors)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).map("k.".__add__),
    st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(width=32, allow_nan=False), st.text(max_size=20),
              st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5), st.lists(st.text(max_size=5), min_size=1, max_size=5)),
    max_size=6))
def test_what_is_set_is_read_again(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("set")
    (folder / "a.gguf").write_bytes(raw.whole([raw.string("general.architecture", "llama")], [raw.tensor("a", [8])], data=32))
    file = edit(folder / "a.gguf", folder / "b.gguf", set=values)
    read_again = {key: list(file.metadata[key]) if isinstance(value, list) else file.metadata[key] for key, value in values.items()}
    assert read_again == values


@pytest.mark.parametrize("alignment", [8, 4096])
def test_another_alignment_moves_the_tensors(tiny_path: Path, tmp_path: Path, alignment: int) -> None:
    target = tmp_path / "aligned.gguf"
    file = edit(tiny_path, target, set={"general.alignment": alignment})
    assert file.alignment == alignment and all(tensor.offset % alignment == 0 for tensor in file.tensors)
    assert data_of(target) == data_of(tiny_path)
    assert edit(target, tmp_path / "back.gguf", remove=["general.alignment"]).alignment == 32
    assert data_of(tmp_path / "back.gguf") == data_of(tiny_path)


def test_the_byte_order_stays(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "big.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_context_length(77)
    writer.add_tensor("a", numpy.arange(8, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = edit(tmp_path / "big.gguf", tmp_path / "new.gguf", set={"x.y": 5, "llama.context_length": 78})
    assert (file.byte_order, file.metadata["x.y"], file.metadata["llama.context_length"]) == ("big", 5, 78)
    assert gguf.GGUFReader(tmp_path / "new.gguf").tensors[0].data.tolist() == list(range(8))


def test_types_are_kept_or_said_or_the_ones_that_fit(tiny_path: Path, tmp_path: Path) -> None:
    file = edit(tiny_path, tmp_path / "n.gguf", set={
        "llama.block_count": 3, "a": 1, "b": -1, "c": 2**40, "d": 1.5, "e": "t", "f": Value([1, 2], "uint8"), "g": [1, -1],
        "h": numpy.float64(2)})
    kinds = {key: file.metadata.fields[key].item_type for key in ("llama.block_count", *"abcdefgh")}
    assert kinds == {"llama.block_count": "uint32", "a": "uint32", "b": "int32", "c": "int64", "d": "float32", "e": "string", "f": "uint8",
                     "g": "int32", "h": "float32"}


@pytest.mark.parametrize(("changes", "message"), [
    ({"remove": ["nope"]}, "has no metadata key 'nope'"),
    ({"rename": {"nope": "x"}}, "has no metadata key 'nope'"),
    ({"rename": {"llama.block_count": "llama.context_length"}}, "would be there twice"),
    ({"rename": {"llama.block_count": "x"}, "remove": ["llama.block_count"]}, "both removed and renamed"),
    ({"set": {"llama.block_count": "two"}}, "is of the type uint32, and 'two' is none"),
    ({"set": {"llama.block_count": 2**32}}, "does not fit"),
    ({"set": {"llama.block_count": True}}, "is of the type uint32"),
    ({"set": {"k": None}}, "must be a bool, a number, a text"),
    ({"set": {"k": []}}, "say the type"),
    ({"set": {"k": [1, "a"]}}, "say the type"),
    ({"set": {"": 1}}, "a metadata key is a text of 1 to"),
    ({"set": {"k" * 70_000: 1}}, "a metadata key is a text of 1 to"),
    ({"set": {"general.alignment": 24}}, "power of 2"),
])
def test_a_change_that_cannot_be_leaves_nothing(tiny_path: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        edit(tiny_path, tmp_path / "new.gguf", **changes)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OptionError, match="must be one of uint8"):
        Value(1, "uint128")


def test_a_file_that_is_there_is_never_overwritten(tiny_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "there.gguf"
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        edit(tiny_path, target)
    os.symlink(tmp_path / "nowhere", tmp_path / "link.gguf")
    with pytest.raises(FileExistsError):
        edit(tiny_path, tmp_path / "link.gguf")
    late = tmp_path / "late.gguf"
    with pytest.raises(FileExistsError, match="came into being meanwhile"):
        edit(tiny_path, late, on_progress=lambda done, total: late.write_bytes(b"theirs"))
    assert target.read_bytes() == b"mine" and late.read_bytes() == b"theirs"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["late.gguf", "link.gguf", "there.gguf"]


def test_an_interrupted_edit_leaves_nothing(tiny_path: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edit(tiny_path, tmp_path / "new.gguf", on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_source_is_refused(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "t.gguf")
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(InvalidModelError, match="cut off"):
        edit(path, tmp_path / "new.gguf")


def test_progress_counts_the_bytes_of_tensors(tiny_path: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    edit(tiny_path, tmp_path / "new.gguf", on_progress=lambda done, total: told.append((done, total)))
    total = sum(tensor.size for tensor in read(tiny_path).tensors)
    assert told[-1] == (total, total) and [done for done, _ in told] == sorted(done for done, _ in told)


def test_version_1_stays_version_1(tmp_path: Path) -> None:
    key = b"general.architecture"
    head = b"GGUF" + struct.pack("<III", 1, 0, 1) + struct.pack("<I", len(key)) + key + struct.pack("<II", 8, 5) + b"llama"
    (tmp_path / "one.gguf").write_bytes(head)
    file = edit(tmp_path / "one.gguf", tmp_path / "new.gguf", set={"k": ["a", "bc"]})
    assert file.version == 1 and file.metadata["k"][:] == ["a", "bc"]
