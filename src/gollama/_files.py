"""Whole files: read for their digest, and written so that they are there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

BLOCK = 1 << 20


def sha256(file: Path, on_block: Callable[[int], object] | None = None) -> str:
    """The sha256 of a file, in hexadecimal digits; `on_block` gets the number of bytes of each piece that was read."""
    found = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            found.update(block)
            if on_block is not None:
                on_block(len(block))
    return found.hexdigest()


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[IO[bytes]]:
    """A file beside the target, which takes its place at the end of the block; where that fails the target stays as it was."""
    import secrets

    scratch = target.with_name(f".{target.name[:40]}-{secrets.token_hex(8)}.partial")
    try:
        with scratch.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def creating(target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A file beside the target, and where it lies; at the end it takes the target's place, unless somebody made one (FileExistsError)."""
    import tempfile

    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".partial", dir=target.absolute().parent)
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, staged
        try:
            os.link(staged, target)  # which never overwrites
        except FileExistsError:
            raise FileExistsError(f"{target} came into being meanwhile, and is not overwritten") from None
        except OSError:  # a file system without links
            if os.path.lexists(target):
                raise FileExistsError(f"{target} came into being meanwhile, and is not overwritten") from None
            os.rename(staged, target)
    finally:
        staged.unlink(missing_ok=True)
