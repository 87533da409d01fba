"""Which models a pool may give, and how each is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from gollama.errors import ModelNotFoundError, OptionError
from gollama.options import LoadOptions
from gollama.pool.entries import Entry

LONGEST_NAME = 4096
MOST_NAMED = 20  # in a message
DEFAULT = LoadOptions(max_sequences=4)  # memory is kept for so many generations at once

Models = Mapping[str, LoadOptions | None] | Iterable[str]


class Names:
    """The models that were named, with their options; others with the default ones, if any may be had."""

    def __init__(self, models: Models | None, default: LoadOptions | None, any_model: bool | None, ttl: float | None) -> None:
        if default is not None and not isinstance(default, LoadOptions):
            raise OptionError(f"default must be LoadOptions, not {default!r}")
        self.default = default or DEFAULT
        self.ttl = seconds("ttl", ttl)
        self.known = {name_of(name): self._options(name, options) for name, options in _pairs(models)}
        self.any_model = not self.known if any_model is None else bool(any_model)

    def _options(self, name: str, options: Any) -> LoadOptions:
        if options is not None and not isinstance(options, LoadOptions):
            raise OptionError(f"the options of {name!r} must be LoadOptions, not {options!r}")
        return options or self.default

    def entries(self) -> dict[str, Entry]:
        return {name: Entry(name, options, True, self.ttl) for name, options in self.known.items()}

    def find(self, entries: dict[str, Entry], model: str | os.PathLike[str]) -> Entry:
        """The model's entry, a new one if need be. ModelNotFoundError."""
        name = model if type(model) is str else name_of(model)
        entry = entries.get(name)
        if entry is None:
            name = name_of(name)
            if not self.any_model:
                known = ", ".join([*self.known][:MOST_NAMED]) + ", …" * (len(self.known) > MOST_NAMED)
                raise ModelNotFoundError(f"the pool has no model {name[:100]!r}; it has: {known}")
            entry = entries[name] = Entry(name, self.default, False, self.ttl)
        return entry


def _pairs(models: Any) -> Iterable[tuple[Any, Any]]:
    if models is None:
        return ()
    if isinstance(models, Mapping):
        return models.items()
    if isinstance(models, (str, bytes)) or not isinstance(models, Iterable):
        raise OptionError(f"models must be names, or a mapping of names to LoadOptions, not {models!r}")
    return ((name, None) for name in models)


def name_of(model: Any) -> str:
    """The name as text. ModelNotFoundError for what cannot be one."""
    try:
        name = os.fspath(model)
    except TypeError:
        raise OptionError(f"a model is a name or a path, not {model!r}") from None
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise ModelNotFoundError(f"{name[:100]!r} is no name of a model: one has 1 to {LONGEST_NAME} characters, all of them printable")
    return name


def seconds(what: str, value: Any, *, least: float = 0.0) -> float | None:
    """A number of seconds, checked; None stays None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf):
        raise OptionError(f"{what} must be None or a number of seconds of at least {least:g}, not {value!r}")
    return value
