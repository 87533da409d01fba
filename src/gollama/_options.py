"""Frozen option records: fields that know their range and their help text, checked when a record is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from gollama.errors import OptionError, UnknownOptionError

Record = TypeVar("Record")

INT32_MAX = 2**31 - 1
FLOAT32_MAX = 3.4028234e38


def described(default: Any, help: str) -> Any:
    """A dataclass field whose record checks it itself. The default is a function that makes one, or a value that cannot change."""
    if callable(default):
        return dataclasses.field(default_factory=default, metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


def option(default: Any, help: str, kind: type, *, least: float | None = None, most: float | None = None,
           choices: tuple[str, ...] = (), words: tuple[str, ...] = (), optional: bool = False) -> Any:
    """A dataclass field; `optional` admits None, whose meaning the help text tells. A number may have `words` in its place."""
    metadata = {"help": help, "kind": kind, "least": least, "most": most, "choices": choices, "words": words, "optional": optional}
    return dataclasses.field(default=default, metadata=metadata)


def help_text(record: type, name: str) -> str:
    return str(next(field for field in dataclasses.fields(record) if field.name == name).metadata["help"])


def check(record: Any) -> None:
    """Check every field of a record that was made with `option`; numbers of the other kind are converted."""
    for field in dataclasses.fields(record):
        if "kind" in field.metadata:
            value = _checked(field.name, getattr(record, field.name), field.metadata)
            object.__setattr__(record, field.name, value)


def _checked(name: str, value: Any, rule: Mapping[str, Any]) -> Any:
    kind = rule["kind"]
    if (value is None and rule["optional"]) or (isinstance(value, str) and value in rule["words"]):
        return value
    if kind is bool or kind is str:
        if not isinstance(value, kind):
            raise OptionError(f"{name} must be a {kind.__name__}, not {value!r}")
        if rule["choices"] and value not in rule["choices"]:
            raise OptionError(f"{name} must be one of {', '.join(map(repr, rule['choices']))}, not {value!r}")
        return value
    accepted = (int, float) if kind is float else int
    if not isinstance(value, accepted) or isinstance(value, bool):
        try:  # numpy's numbers, but no bool and no text
            if isinstance(value, (bool, str, bytes)):
                raise TypeError
            value = value.__index__() if kind is int else float(value)
        except (AttributeError, TypeError, ValueError, OverflowError):
            value_kind = " or ".join(["a whole number" if kind is int else "a number", *map(repr, rule["words"])])
            raise OptionError(f"{name} must be {value_kind}, not {value!r}") from None
    if kind is float:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value) or abs(value) > FLOAT32_MAX:
            raise OptionError(f"{name} must be a finite number, not {value}")
    least, most = rule["least"], rule["most"]
    most = INT32_MAX if most is None and kind is int else most
    if (least is not None and value < least) or (most is not None and value > most):
        raise OptionError(f"{name} must be {_range(least, most)}, not {value}")
    return value


def _range(least: float | None, most: float | None) -> str:
    if most is None or most == INT32_MAX:
        return f"at least {least}"
    return f"at most {most}" if least is None else f"between {least} and {most}"


def record(kind: type[Record], whole: Record | None, fields: Mapping[str, Any], argument: str) -> Record:
    """The record passed whole, or one made of single options; both at once is `whole` with those replaced."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in fields:
        if name not in names:
            import difflib

            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"
            raise UnknownOptionError(f"there is no option {name!r}; {hint}")
    if whole is None:
        return kind(**fields)
    if not isinstance(whole, kind):
        raise OptionError(f"{argument} must be a {kind.__name__}, not {type(whole).__name__}")
    return dataclasses.replace(whole, **fields) if fields else whole  # type: ignore[type-var]
