"""Files that are on this machine already."""

from __future__ import annotations

from pathlib import Path

from gollama.errors import ModelNotFoundError
from gollama.models import choosing
from gollama.models.files import LocalModel
from gollama.models.names import FileSource


def find(source: FileSource) -> LocalModel:
    """The file, with the other parts if it is the first of a split one. ModelNotFoundError names what is missing."""
    path = Path(source.path).expanduser()
    names = choosing.parts(path.name) or [path.name]
    files = tuple(path.with_name(name) for name in names)
    for file in files:
        if not file.is_file():
            raise ModelNotFoundError(f"there is no file {file}")
    return LocalModel(source, files)
