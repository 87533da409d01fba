"""The gguf package's reader, which ours is compared with."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy

from gollama.gguf import GGUFFile, StringArray


def assert_same(file: GGUFFile, path: Path) -> None:
    """That ours is what the gguf package's reader reads."""
    reader = gguf.GGUFReader(path)
    expected = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert list(file.metadata) == list(expected)
    for key, field in expected.items():
        theirs, ours = field.contents(), file.metadata[key]
        if isinstance(ours, StringArray):
            assert ours[:] == theirs
        elif isinstance(ours, numpy.ndarray):
            assert ours.tolist() == theirs
        else:
            assert ours == theirs and type(ours) is type(theirs)
    assert [(tensor.name, tensor.shape, tensor.type, tensor.offset, tensor.size) for tensor in file.tensors] == [
        (tensor.name, tuple(tensor.shape.tolist()), tensor.tensor_type.name, tensor.data_offset, tensor.n_bytes)
        for tensor in reader.tensors]
