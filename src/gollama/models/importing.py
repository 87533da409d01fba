"""Giving files that are here already a name, without copying them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from gollama import _files
from gollama.errors import InvalidModelError, OptionError, RegistryError, StoreError
from gollama.models import choosing, deleting, names, others, records
from gollama.models.files import LocalModel
from gollama.models.listing import Listing
from gollama.models.names import Alias, FileSource
from gollama.models.sources import local

HOW = ("auto", "link", "reference", "copy")


def add(store: Listing, path: Path, name: str, how: str, replace: bool) -> None:
    """Link, note or copy a model's files, and add the name to the user's registry. A failure leaves nothing behind."""
    if how not in HOW:
        raise OptionError(f"how must be one of {', '.join(HOW)}, not {how!r}")
    alias = names.parse(name)
    if not isinstance(alias, Alias):
        raise OptionError(f"a model is imported under an alias such as mine:7b, not {name!r}")
    files: Sequence[Path] = local.find(FileSource(os.path.abspath(path))).files
    for file in files:
        if not others.is_gguf(file):
            raise InvalidModelError(f"{file} is not in GGUF format")
    _make_room(store, str(alias), files, replace)
    folder = store.root / "imported" / str(alias).replace(":", "-")
    placed = files if how == "reference" else _place(store.root, folder, files, how)
    source = FileSource(str(placed[0]))
    try:
        size = sum(file.stat().st_size for file in placed)
        store.registry.add(name, [str(source)], quantization=choosing.quantization(path.name) or "unknown", size=size, replace=replace)
    except BaseException:
        if placed is not files:
            _undo(folder, placed)
        raise
    records.touch(LocalModel(source, tuple(placed)))


def _make_room(store: Listing, name: str, files: Sequence[Path], replace: bool) -> None:
    """Remove what was imported under a name before, if it is to be replaced. RegistryError if it is not."""
    if name not in store.registry.own:
        return
    if not replace:
        raise RegistryError(f"{name!r} is a name of yours already: take another, `gollama rm {name}`, or replace it")
    before = store.registry.locate(name, note=False)
    if before is not None and before.path.is_relative_to(store.root / "imported"):
        if before.path.samefile(files[0]):
            raise RegistryError(f"{name!r} is this very file already")
        deleting.remove(store, [store.find(name)], dry_run=False)


def _place(root: Path, folder: Path, files: Sequence[Path], how: str) -> Sequence[Path]:
    """The files in the store, or as they are if they cannot be linked and `how` is auto."""
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if Path(os.path.realpath(folder)) != Path(os.path.realpath(root)) / folder.relative_to(root):
            raise StoreError(f"{folder} is a link that leads out of the store: nothing was imported")
        for file in files:
            target = folder / (file.name if file.suffix == ".gguf" else f"{folder.name}.gguf")  # Ollama's are named by their digest
            if how == "copy":
                _copy(file, target)
            else:
                os.link(os.path.realpath(file), target)
            made.append(target)
    except FileExistsError:
        _undo(folder, made)
        raise StoreError(f"{folder} holds an imported file of that name already: `gollama rm` removes it") from None
    except OSError as error:
        _undo(folder, made)
        if isinstance(error, StoreError):
            raise
        if how == "auto":  # another disk, a file system without links, a folder that is read only
            return files
        raise StoreError(f"{files[0]} cannot be put into {folder} ({error.strerror or error})"
                         + (": `--reference` notes where it lies" if how == "link" else "")) from error
    return made


def _copy(file: Path, target: Path) -> None:
    """A whole copy or none, and never over something."""
    with file.open("rb") as source, _files.creating(target) as (output, _):
        shutil.copyfileobj(source, output, _files.BLOCK)


def _undo(folder: Path, made: Sequence[Path]) -> None:
    for file in made:
        with contextlib.suppress(OSError):
            file.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
