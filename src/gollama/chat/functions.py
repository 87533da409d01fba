"""Python functions as tools: what a model is told of one, and how its arguments become a call."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gollama.chat.json_schema.document import canonical
from gollama.chat.json_schema.extras import extra
from gollama.chat.json_schema.reading import type_schema
from gollama.chat.schemas import Schema, made
from gollama.errors import SchemaError

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
Parameter = inspect.Parameter


@dataclass(frozen=True, eq=False)
class Function:
    """A function that a model may call. The hints of its parameters are their schema, its docstring their description."""

    name: str
    description: str
    schema: Schema
    """Of the arguments, an object; `schema.parse` reads them as `arguments` does."""
    callable: Callable[..., Any]

    @classmethod
    def of(cls, function: Any, *, name: str | None = None, description: str | None = None) -> Function:
        """From a function, a method or a partial one, also an async one. A parameter without a hint takes any value.

        SchemaError for a function with *args or **kwargs, or a hint with no JSON schema.
        """
        if isinstance(function, Function):
            return function
        if not callable(function):
            raise SchemaError(f"a tool is a function, not {function!r}")
        plain = _plain(function)
        name = str(getattr(plain, "__name__", "") if name is None else name)
        if not NAME.fullmatch(name):
            raise SchemaError(f"{name!r} cannot be a tool's name: letters, digits, _ and - can, up to 64; give one as `name`")
        documented = extra("docstring_parser", "a tool from a Python function").parse(inspect.getdoc(plain) or "")
        summary = "\n".join(filter(None, (documented.short_description, documented.long_description)))
        about = {entry.arg_name: entry.description for entry in documented.params if entry.description}
        return cls(name, summary if description is None else description, _arguments_schema(function, plain, name, about), function)

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        schema: dict[str, Any] = self.schema.json_schema
        return schema

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(_plain(self.callable))

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, validated and converted to the types of the hints, defaults filled in; SchemaError names a wrong one."""
        if not isinstance(given, Mapping):
            raise SchemaError(f"the arguments of {self.name} must be a dict, not {type(given).__name__}")
        found: dict[str, Any] = self.schema.parse(canonical(dict(given), f"the arguments of {self.name}"))
        return found

    def call(self, given: Mapping[str, Any]) -> Any:
        """Call the function; of an async one the result is a coroutine. What the function raises comes through."""
        values = self.arguments(given)
        parameters = inspect.signature(self.callable).parameters.values()
        by_position = [values.pop(parameter.name) for parameter in parameters if parameter.kind is Parameter.POSITIONAL_ONLY]
        return self.callable(*by_position, **values)


def _plain(function: Any) -> Any:
    """The function that has the name, the docstring and the hints."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not inspect.isclass(function):
        return type(function).__call__
    return function


def _arguments_schema(function: Any, plain: Any, name: str, about: Mapping[str, str]) -> Schema:
    try:
        hints = typing.get_type_hints(plain, include_extras=True)
        parameters = inspect.signature(function).parameters.values()
    except Exception as error:  # a hint is any expression
        raise SchemaError(f"{name}: the hints of its parameters cannot be read: {error}") from error
    for parameter in parameters:
        if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            raise SchemaError(f"{name}: {parameter} has no names that a model could be told")

    def collect(**values: Any) -> dict[str, Any]:
        return values

    # pydantic validates the arguments of `collect`, whose signature is the function's by name only
    collect.__annotations__ = {parameter.name: hints.get(parameter.name, Any) for parameter in parameters}
    collect.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=collect.__annotations__[parameter.name]) for parameter in parameters])
    schema, reader = type_schema(collect, f"the arguments of {name} are wrong")
    for parameter_name, text in about.items():
        if parameter_name in schema.get("properties", {}):
            schema["properties"][parameter_name].setdefault("description", text)
    return made(schema, reader, name, name)
