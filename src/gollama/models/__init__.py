"""Names to verified model files: what a name means, where its files lie, how they are fetched."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gollama.models.entries import ModelEntry, Variant
    from gollama.models.files import LocalModel, Manifest, Offer, Progress, RemoteFile
    from gollama.models.listing import StoredModel
    from gollama.models.lockfile import LockedModel
    from gollama.models.names import Alias, FileSource, HubSource, Source, UrlSource, WheelPart, WheelSource, parse
    from gollama.models.registry import ModelRegistry
    from gollama.models.store import ModelStore

__all__ = [
    "Alias", "FileSource", "HubSource", "LocalModel", "LockedModel", "Manifest", "ModelEntry", "ModelRegistry", "ModelStore", "Offer",
    "Progress", "RemoteFile", "Source", "StoredModel", "UrlSource", "Variant", "WheelPart", "WheelSource", "fetch", "parse", "resolve",
]

_HOMES = {
    "entries": ("ModelEntry", "Variant"),
    "files": ("LocalModel", "Manifest", "Offer", "Progress", "RemoteFile"),
    "lockfile": ("LockedModel",),
    "names": ("Alias", "FileSource", "HubSource", "Source", "UrlSource", "WheelPart", "WheelSource", "parse"),
    "registry": ("ModelRegistry",),
    "listing": ("StoredModel",),
    "store": ("ModelStore",),
}


def resolve(model: str | os.PathLike[str], on_progress: Progress | None = None) -> Path:
    """The file of a path or a name; a name's is fetched if need be, and then it is `fetch` that says what may go wrong.

    A path is taken as it is, whether there is such a file or not. What a name means, and in which order, ModelRegistry says.
    ModelNotFoundError names the models there are, ModelNameError is for what cannot be a name.
    """
    if not isinstance(model, str):
        return Path(model)
    from gollama.models.registry import ModelRegistry

    return ModelRegistry().resolve(model, on_progress=on_progress)


def fetch(name: str, on_progress: Progress | None = None) -> Path:
    """The verified file of a name; downloads it the first time. Of a split model it is the first file.

    Processes that fetch the same model at once fetch it once. ModelNotFoundError, ModelNameError; DownloadError says what failed and what
    to do. `on_progress` gets (bytes done, bytes in all); CancelledError if it returns False. Without it a bar is shown where stderr is a
    terminal.
    """
    from gollama.models.registry import ModelRegistry

    return ModelRegistry().fetch(name, on_progress=on_progress).path


def __getattr__(name: str) -> Any:
    """What reads names and registries takes longer to import than a path needs."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"gollama.models.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
