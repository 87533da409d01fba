"""The libraries of the extra `schema`, imported when they are first needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from gollama.errors import OptionError


def extra(name: str, purpose: str) -> ModuleType:
    """A library of the extra; OptionError that says how to get it."""
    found = extra_if_there(name)
    if found is None:
        raise OptionError(f"{purpose} needs {name}: pip install gollama-cpu[schema]")
    return found


def extra_if_there(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise  # it is there and lacks something itself
        return None
