"""A JSON schema as a document: places with paths, and the references between them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from gollama.errors import SchemaError

# of a whole schema; those that people write stay far below
MOST_BYTES = 1_000_000
DEEPEST_JSON = 200


class Unsatisfiable(SchemaError):
    """No value is valid here: an alternative that is left out, or the end of the whole schema."""


@dataclass(frozen=True)
class Place:
    """A subschema and where it stands. Two with the same pointer are equal, whatever leads there."""

    pointer: tuple[str | int, ...]
    schema: Any = field(compare=False)
    root: str = field(default="schema", compare=False)
    taken: bool = False  # its references and combinations were taken apart already: only its other keywords count

    def has(self, keyword: str) -> bool:
        return isinstance(self.schema, dict) and keyword in self.schema

    def at(self, *steps: str | int) -> Place:
        """The subschema some steps below."""
        found = self.schema
        for step in steps:
            found = found[step]
        return Place((*self.pointer, *steps), found, self.root)

    def path(self, *more: str | int) -> str:
        return self.root + "".join(map(_step, (*self.pointer, *more)))

    def error(self, message: str, *more: str | int, kind: type[SchemaError] = SchemaError) -> SchemaError:
        """An error at this place, or at a keyword of it."""
        return kind(f"{self.path(*more)}: {message}")

    def mapping(self, keyword: str) -> dict[str, Any]:
        value = self.schema[keyword]
        if not isinstance(value, dict):
            raise self.error(f"must be an object, not {_shown(value)}", keyword)
        return value

    def array(self, keyword: str) -> list[Any]:
        value = self.schema[keyword]
        if not isinstance(value, list):
            raise self.error(f"must be an array, not {_shown(value)}", keyword)
        return value

    def text(self, keyword: str) -> str:
        value = self.schema[keyword]
        if not isinstance(value, str):
            raise self.error(f"must be a string, not {_shown(value)}", keyword)
        return value

    def number(self, keyword: str) -> float:
        value = self.schema[keyword]
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.error(f"must be a number, not {_shown(value)}", keyword)
        return value

    def count(self, keyword: str) -> int:
        value = self.number(keyword)
        if value < 0 or value != int(value):
            raise self.error(f"must be a whole number that is not negative, not {value}", keyword)
        return int(value)


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if re.fullmatch(r"[\w$-]+", step) else f"[{json.dumps(step)}]"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def holds(value: Any, name: str) -> bool:
    """Whether an object by this member is somewhere in a JSON value."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if name in value:
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


def canonical(schema: Any, root: str = "schema") -> str:
    """The schema as JSON text, which is what is kept and compared; SchemaError for what is no JSON."""
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SchemaError(f"{root}: is not JSON: {reason}") from None
    if size > MOST_BYTES:
        raise SchemaError(f"{root}: has {size} bytes as JSON, and may have {MOST_BYTES}")
    return text


class Document:
    """The whole of a schema, of which `$ref` names parts."""

    def __init__(self, schema: Any, root: str = "schema") -> None:
        self.root = Place((), schema, root)
        _check_values(schema, self.root)

    def target(self, place: Place) -> Place:
        """The place that a `$ref` names."""
        reference = place.text("$ref")
        if reference != "#" and not reference.startswith("#/"):
            raise place.error(f"{_shown(reference)} cannot be resolved: only references within the schema can, "
                              "as in '#/$defs/name'", "$ref")
        found, steps = self.root.schema, []
        for token in reference.split("/")[1:]:
            name: str | int = unquote(token).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", str(name)) and int(name) < len(found):
                name = int(name)
            elif not isinstance(found, dict) or name not in found:
                raise place.error(f"{_shown(reference)} names nothing in the schema", "$ref")
            found = found[name]
            steps.append(name)
            if isinstance(found, dict) and isinstance(found.get("$id"), str) and holds(found, "$ref"):
                raise place.error(f"{_shown(reference)} leads into a part with an $id of its own, which is not supported", "$ref")
        return Place(tuple(steps), found, self.root.root)


def _check_values(schema: Any, root: Place) -> None:
    """What holds for every value in the document, whether it is a schema or not."""
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEEPEST_JSON:
            raise root.error(f"is nested deeper than {DEEPEST_JSON} levels")
        if isinstance(value, dict):
            waiting += [(inner, depth + 1) for inner in value.values()]
            names = [name for name in value if len(name) > 500]
            if names:
                raise root.error(f"has a name of {len(names[0])} characters, and may have 500")
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]
        elif isinstance(value, float) and not math.isfinite(value):
            raise root.error("holds a number beyond those of 64 bits")
