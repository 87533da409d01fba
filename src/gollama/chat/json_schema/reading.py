"""A text back to the value that its schema is of, or what is wrong with it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

from gollama.chat.json_schema.extras import extra, extra_if_there
from gollama.errors import SchemaError

Reader = Callable[[str], Any]
MOST_SHOWN = 5


def json_reader(schema: Any) -> Reader:
    """Plain JSON; checked against the schema where jsonschema is installed."""
    library = extra_if_there("jsonschema")
    if library is None:
        return read_json
    kind = _nullable(library, library.validators.validator_for(schema, default=library.Draft202012Validator))
    # an empty registry: what a reference names is never fetched
    validator = kind(schema, format_checker=kind.FORMAT_CHECKER, registry=extra("referencing", "validation").Registry())

    def read(text: str) -> Any:
        value = read_json(text)
        try:
            error = library.exceptions.best_match(validator.iter_errors(value))
        except Exception as failure:  # a part of the schema that no rule of ours reads, and that is wrong
            raise SchemaError(f"the schema cannot be validated against: {failure}") from failure
        if error is not None:
            raise SchemaError(f"the text does not fit its schema: {error.json_path}: {error.message}")
        return value

    return read


def _nullable(library: Any, kind: Any) -> Any:
    """The validator with OpenAPI 3.0's `nullable`, which stands beside `type`."""
    plain = kind.VALIDATORS["type"]

    def check(validator: Any, types: Any, instance: Any, schema: Any) -> Any:
        if instance is None and schema.get("nullable") is True:
            return ()
        return plain(validator, types, instance, schema) or ()

    return library.validators.extend(kind, {"type": check})


def type_schema(kind: Any, what: str = "the text does not fit its schema") -> tuple[dict[str, Any], Reader]:
    """The JSON schema of a Python type by pydantic, and what makes its values; `what` stands before an error's words."""
    pydantic = extra("pydantic", "a schema from a Python type")
    try:
        adapter = pydantic.TypeAdapter(kind)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about defaults that are no JSON, which are annotations
            schema: dict[str, Any] = adapter.json_schema()
    except Exception as error:  # pydantic's own and whatever a type's hooks raise
        raise SchemaError(f"{kind!r} has no JSON schema: {error}") from error

    def read(text: str) -> Any:
        try:
            return adapter.validate_json(text)
        except pydantic.ValidationError as error:
            raise SchemaError(f"{what}: {_described(error)}") from None

    return schema, read


def read_json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"the text is not JSON: {error}") from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _described(error: Any) -> str:
    """The places and messages of a pydantic ValidationError in one line."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, problem['loc'])) or '$'}: {problem['msg']}" for problem in problems[:MOST_SHOWN]]
    return "; ".join(lines) + (f"; and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else "")
