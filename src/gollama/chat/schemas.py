"""Schemas: what an answer must look like, as JSON schema, as grammar, and as the Python value that it is read back into."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gollama.chat.json_schema.document import canonical
from gollama.chat.json_schema.grammar import grammar_text
from gollama.chat.json_schema.reading import Reader, json_reader, read_json, type_schema
from gollama.chat.json_schema.rewrite import rewrite
from gollama.errors import SchemaError

RESPONSE_FORMATS = {"text": (), "json_object": ("schema",), "json_schema": ("json_schema",)}


@dataclass(frozen=True, eq=False)
class Schema:
    """A checked JSON schema. Made by `of` or `from_response_format`, which keep what they made; from any thread."""

    json_schema: Any
    """As it was given, or as pydantic wrote it."""
    grammar_schema: dict[str, Any]
    """As it is handed to llama.cpp, which enforces all of it. What it admits `json_schema` admits too."""
    name: str | None = None
    _reader: Reader = field(default=read_json, repr=False)

    @classmethod
    def of(cls, value: Any) -> Schema:
        """The schema of a JSON schema (a dict), or of a Python type that pydantic knows.

        SchemaError names the path of a keyword that no grammar enforces; OptionError what has to be installed for a type.
        """
        if isinstance(value, Schema):
            return value
        if isinstance(value, Mapping):
            return _from_json(canonical(value), "schema", None)
        if value is None or isinstance(value, (str, bytes, bool, int, float, list, tuple, set)):
            raise SchemaError(f"a schema is a dict or a type, not {value!r}")
        try:
            return _from_type(value)
        except TypeError:  # of the cache: Annotated with something that has no hash
            return _type_made(value)

    @classmethod
    def from_response_format(cls, value: Any) -> Schema | None:
        """The schema in OpenAI's `response_format`; None for plain text. SchemaError names the path of a wrong field."""
        path = "response_format"
        kind = _member(value, path, "type", str, required=True)
        if kind not in RESPONSE_FORMATS:
            raise SchemaError(f"{path}.type must be one of {', '.join(RESPONSE_FORMATS)}, not {kind!r}")
        _known(value, path, ("type", *RESPONSE_FORMATS[kind]))
        if kind == "json_object":
            schema = _member(value, path, "schema", dict)
            return _from_json(canonical({"type": "object"} if schema is None else schema), f"{path}.schema", None)
        if kind == "text":
            return None
        inner = _member(value, path, "json_schema", dict, required=True)
        path += ".json_schema"
        _known(inner, path, ("name", "description", "schema", "strict"))
        name = _member(inner, path, "name", str)
        for field_name, field_kind in (("description", str), ("strict", bool)):
            _member(inner, path, field_name, field_kind)
        return _from_json(canonical(_member(inner, path, "schema", dict, required=True)), f"{path}.schema", name)

    @property
    def grammar(self) -> str:
        """The grammar, to be given as `grammar`; what llama.cpp wrote is kept."""
        return grammar_text(json.dumps(self.grammar_schema, ensure_ascii=False))

    def parse(self, text: str) -> Any:
        """The value that a text stands for: of the Python type, or plain JSON.

        SchemaError says what is wrong with the text. For a schema that was a dict that needs jsonschema; without it only what is
        no JSON at all is told.
        """
        return self._reader(text)


def made(schema: Any, reader: Reader, name: str | None = None, root: str = "schema") -> Schema:
    """A schema with its own way to read."""
    text = canonical(schema, root)
    return Schema(json.loads(text), _rewritten(text, root), name, reader)


# rewriting is pure, and the same schema comes with every request of a server
@functools.lru_cache(maxsize=256)
def _rewritten(text: str, root: str) -> dict[str, Any]:
    return rewrite(text, root)


@functools.lru_cache(maxsize=256)
def _from_json(text: str, root: str, name: str | None) -> Schema:
    schema = json.loads(text)
    return made(schema, json_reader(schema), name, root)


@functools.lru_cache(maxsize=256)
def _from_type(kind: Any) -> Schema:
    return _type_made(kind)


def _type_made(kind: Any) -> Schema:
    schema, reader = type_schema(kind)
    return made(schema, reader, getattr(kind, "__name__", None))


def _known(value: Mapping[str, Any], path: str, names: tuple[str, ...]) -> None:
    for name in value:
        if name not in names:
            raise SchemaError(f"{path}.{name} is not a field here; there are: {', '.join(names)}")


def _member(value: Any, path: str, name: str, kind: type, *, required: bool = False) -> Any:
    if not isinstance(value, Mapping):
        raise SchemaError(f"{path} must be a dict, not {type(value).__name__}")
    found = value.get(name)
    if found is None and not required:
        return None
    wanted: Any = Mapping if kind is dict else kind
    if not isinstance(found, wanted):
        raise SchemaError(f"{path}.{name} must be a {kind.__name__}, not {found!r}" if name in value else f"{path}.{name} is missing")
    return found
