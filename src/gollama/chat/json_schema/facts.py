"""What several places of a schema demand of one value together: references and `allOf` are followed, alternatives kept for later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gollama.chat.json_schema.document import Document, Place, Unsatisfiable, holds
from gollama.chat.json_schema.formats import is_enforced_or_refused

Places = tuple[Place, ...]

# JSON's types, with numbers that are whole apart from those that are not
TYPES = ("object", "array", "string", "integer", "fraction", "boolean", "null")
NAMES = {"object": {"object"}, "array": {"array"}, "string": {"string"}, "integer": {"integer"}, "number": {"integer", "fraction"},
         "boolean": {"boolean"}, "null": {"null"}}

# keywords that speak of one type only, and say nothing of a value of another
SPOKEN_OF = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties", "propertyNames",
               "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"),
    "array": ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains", "unevaluatedItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "divisibleBy"),
}
NEVER = ("$dynamicRef", "$recursiveRef", "if", "not", "extends", "disallow")
COMBINING = ("$ref", "allOf", "anyOf", "oneOf")
CONSTRAINING = frozenset({"type", "const", "enum", "nullable", *NEVER, *COMBINING}.union(*SPOKEN_OF.values()))
LONGEST_CHAIN = 200  # of references to references


@dataclass(frozen=True)
class Group:
    """Alternatives, of which a value meets at least one, and of `oneOf` no more."""

    place: Place
    keyword: str
    alternatives: Places


@dataclass(frozen=True)
class Facts:
    places: Places  # all taken: what they refer to and combine is among them, or in the groups
    groups: tuple[Group, ...]

    @property
    def constraining(self) -> bool:
        """Whether any keyword outside the groups demands something."""
        return any(_demands(place) for place in self.places)


def _demands(place: Place) -> bool:
    return any(keyword in CONSTRAINING and keyword not in COMBINING for keyword in place.schema)


def is_reference(place: Place) -> bool:
    """A `$ref` and nothing beside it that demands anything."""
    return place.has("$ref") and not place.taken and not any(keyword in CONSTRAINING for keyword in place.schema if keyword != "$ref")


def gather(document: Document, places: Iterable[Place]) -> Facts:
    """SchemaError for what no rewriting can enforce, Unsatisfiable where one of the places admits nothing."""
    taken: dict[Place, None] = {}
    groups: dict[tuple[Place, str], Group] = {}
    seen: set[Place] = set()

    def visit(place: Place, chain: Places) -> None:
        if place in chain or len(chain) > LONGEST_CHAIN:
            raise place.error("refers to itself with nothing in between")
        if place in seen or place.schema is True:
            return
        seen.add(place)
        _check(place)
        if not place.taken:
            if place.has("$ref"):
                visit(document.target(place), (*chain, place))
            for alternative in _alternatives(place, "allOf"):
                visit(alternative, (*chain, place))
            for keyword in ("anyOf", "oneOf"):
                if place.has(keyword):
                    groups[place, keyword] = Group(place, keyword, tuple(_alternatives(place, keyword)))
        taken[replace(place, taken=True)] = None

    for place in places:
        visit(place, ())
    return Facts(tuple(taken), tuple(groups.values()))


def _alternatives(place: Place, keyword: str) -> Iterator[Place]:
    if place.has(keyword):
        if not place.array(keyword):
            raise place.error("must not be empty", keyword)
        yield from (place.at(keyword, index) for index in range(len(place.schema[keyword])))


def _check(place: Place) -> None:
    """The keywords that are refused whatever the type."""
    schema = place.schema
    if schema is False:
        raise place.error("nothing is valid here", kind=Unsatisfiable)
    if not isinstance(schema, dict):
        raise place.error("must be an object or a boolean")
    for keyword in NEVER:
        if keyword in schema:
            if keyword == "not" and schema["not"] in (True, {}):
                raise place.error("nothing is valid here", "not", kind=Unsatisfiable)
            vacuous = schema["not"] is False if keyword == "not" else keyword == "if" and not {"then", "else"} & schema.keys()
            if not vacuous:
                raise place.error("is not supported", keyword)
    if place.pointer and isinstance(schema.get("$id"), str) and holds(schema, "$ref"):
        raise place.error("is not supported in front of a $ref, which would be relative to it", "$id")


def stated_types(places: Places) -> set[str] | None:
    """The types that `type` admits; None where no place has one."""
    found: set[str] | None = None
    for place in places:
        if place.has("type"):
            stated = place.schema["type"]
            names = stated if isinstance(stated, list) else [stated]
            for name in names:
                if not isinstance(name, str) or name not in NAMES:
                    raise place.error(f"{name!r} is not a type; there are: {', '.join(NAMES)}", "type")
            admitted = set().union(*(NAMES[name] for name in names))
            if place.schema.get("nullable") is True:  # OpenAPI 3.0's way to say it
                admitted.add("null")
            found = admitted if found is None else found & admitted
    return found


def types(places: Places) -> set[str]:
    """The types to generate: the stated ones, else those that the keywords speak of, else all."""
    stated = stated_types(places)
    if stated is not None:
        return stated
    spoken_of = {kind for kind, keywords in SPOKEN_OF.items() for place in places for keyword in keywords
                 if place.has(keyword) and (keyword != "format" or is_enforced_or_refused(place))}
    if not spoken_of:
        return set(TYPES)
    return set().union(*(NAMES[kind] for kind in spoken_of))


def identity(value: Any) -> Any:
    """Equal for values that JSON Schema takes for equal: 1 and 1.0, but not 1 and true."""
    if isinstance(value, bool) or value is None:
        return ("literal", value)
    if isinstance(value, list):
        return ("array", *map(identity, value))
    if isinstance(value, dict):
        return ("object", frozenset((name, identity(inner)) for name, inner in value.items()))
    return value


def type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "fraction"
    return {dict: "object", list: "array", str: "string", int: "integer", type(None): "null"}[type(value)]


def listed_values(places: Places) -> list[Any] | None:
    """The values that every `const` and `enum` admits; None where there is neither."""
    found: dict[Any, Any] | None = None
    for place in places:
        for keyword in ("const", "enum"):
            if place.has(keyword):
                values = place.array("enum") if keyword == "enum" else [place.schema["const"]]
                listed = {identity(value): value for value in values}
                found = listed if found is None else {key: value for key, value in found.items() if key in listed}
    return None if found is None else list(found.values())
