"""A model's file without its content: the header, and a hole as large as the tensors. llama.cpp lays it out like the whole file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from gollama._cache import cache_directory
from gollama.errors import InvalidModelError, OptionError
from gollama.gguf import GGUFFile

HOLE = 16 * 2**20  # a disk that takes up more than this beside the header knows no holes


@contextlib.contextmanager
def outlined(files: Sequence[GGUFFile], names: Sequence[str]) -> Iterator[Path]:
    """The first of the files, with the others beside it. They lie in the cache while the block runs, and take up what their headers take.

    The headers were read whole. `names` are the files' own, by which llama.cpp finds the parts of a model.
    OptionError where the disk cannot keep holes.
    """
    folder = cache_directory() / "outlines"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="outline-", dir=folder) as staging:
        paths = [Path(staging) / Path(name).name for name in names]
        for file, path in zip(files, paths, strict=True):
            _write(file, path)
        yield paths[0]


def _write(file: GGUFFile, path: Path) -> None:
    if file.problems:
        raise InvalidModelError(f"{file.name}: {file.problems[0]}")
    with path.open("xb") as output:
        output.write(file.metadata.raw(0, file.header_size))
        output.flush()
        try:
            os.truncate(output.fileno(), file.size)
        except OSError as error:
            raise OptionError(f"{path.parent} cannot keep a file of {file.size} bytes with a hole ({error.strerror}): set GOLLAMA_HOME "
                              "to a folder on another disk") from None
        taken = getattr(os.fstat(output.fileno()), "st_blocks", 0) * 512
    if taken > file.header_size + HOLE:
        path.unlink()
        raise OptionError(f"{path.parent} lies on a disk that keeps no holes: set GOLLAMA_HOME to a folder on another disk")
