"""Objects: which names they have, and what stands under each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from gollama.chat.json_schema.document import Place, Unsatisfiable
from gollama.chat.json_schema.facts import Places

REFUSED = ("patternProperties", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties")
# what the converter's rule for all other names can hold; it writes the characters of a name into a grammar as they are
WRITABLE = re.compile(r"[A-Za-z0-9_$.:/@ -]+")
MOST_NAMES = 400


class Inner(Protocol):
    """Rewrites what a value must meet that stands inside another."""

    def __call__(self, places: Places) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Names:
    """The properties of an object that several places speak of together."""

    properties: dict[str, Places]
    required: tuple[str, ...]
    others: Places | None  # what stands under all other names; None: there are none


def names(places: Places) -> Names:
    """Where nobody says what stands under other names, there are none, unless nobody names any."""
    required = tuple(dict.fromkeys(name for place in places if place.has("required") for name in _strings(place, "required")))
    declared = [name for place in places if place.has("properties") for name in place.mapping("properties")]
    properties = {name: tuple(_under(name, places)) for name in dict.fromkeys((*declared, *required))}
    said = [place.at("additionalProperties") for place in places if place.has("additionalProperties")]
    others: Places | None = tuple(place for place in said if place.schema is not True)
    if any(place.schema is False for place in said) or (not said and (required or any(place.has("properties") for place in places))):
        others = None
    return Names(properties, required, others)


def _under(name: str, places: Places) -> Iterator[Place]:
    for place in places:
        if place.has("properties") and name in place.mapping("properties"):
            yield place.at("properties", name)
        elif place.has("additionalProperties"):
            yield place.at("additionalProperties")


def _strings(place: Place, keyword: str) -> list[str]:
    values = place.array(keyword)
    if not all(isinstance(value, str) for value in values):
        raise place.error("must be an array of strings", keyword)
    return values


def object_schema(places: Places, inner: Inner) -> dict[str, Any]:
    for place in places:
        for keyword in REFUSED:
            if place.has(keyword):
                raise place.error("is not supported", keyword)
    found = _named_only(names(places), places, inner)
    properties, missing = _properties(found, inner)
    others: dict[str, Any] | bool = False
    if found.others is not None:
        others = True if found.others == () else _or_false(found.others, inner)
    _check_number(places, found.required, len(properties), bool(others))
    if others is True and not properties and not missing:
        return {"type": "object"}
    if "$ref" in properties:
        raise places[0].error("has a property by the name '$ref', which llama.cpp takes for a reference", "properties")
    if others is not False:
        _check_writable(places[0], properties, missing)
    return {"type": "object", "properties": properties, "required": list(found.required), "additionalProperties": others}


def _properties(found: Names, inner: Inner) -> tuple[dict[str, Any], list[str]]:
    """The rewritten properties, and the names that may not be there."""
    properties, missing = {}, []
    for name, under in found.properties.items():
        try:
            properties[name] = inner(under)
        except Unsatisfiable:
            if name in found.required:
                raise
            missing.append(name)
    return properties, missing


def _or_false(places: Places, inner: Inner) -> dict[str, Any] | bool:
    try:
        return inner(places)
    except Unsatisfiable:
        return False


def _named_only(found: Names, places: Places, inner: Inner) -> Names:
    """With `propertyNames` that lists names, the object that has those only."""
    said = tuple(place.at("propertyNames") for place in places if place.has("propertyNames") and place.schema["propertyNames"] is not True)
    if not said:
        return found
    name_is_text = Place((*said[0].pointer, "(a name)"), {"type": "string"}, said[0].root)
    try:
        rewritten = inner((*said, name_is_text))
    except Unsatisfiable:
        rewritten = {"enum": []}
    admitted = [rewritten["const"]] if "const" in rewritten else rewritten.get("enum")
    if admitted is None:
        raise said[0].error("is not supported, unless it is an enum")
    for name in found.required:
        if name not in admitted:
            raise said[0].error(f"does not admit {name!r}, which is required", kind=Unsatisfiable)
    properties = {name: under for name, under in found.properties.items() if name in admitted}
    if found.others is not None:
        properties.update((name, found.others) for name in admitted if name not in properties)
    return Names(properties, found.required, None)


def _check_number(places: Places, required: tuple[str, ...], number: int, is_open: bool) -> None:
    for place in places:
        if place.has("minProperties") and place.count("minProperties") > len(required):
            raise place.error("is not supported, unless as many are required", "minProperties")
        if place.has("maxProperties") and (is_open or place.count("maxProperties") < number):
            raise place.error("is not supported, unless no more can be there", "maxProperties")
    if number > MOST_NAMES:
        raise places[0].error(f"has {number} properties, and may have {MOST_NAMES}")


def _check_writable(place: Place, properties: dict[str, Any], missing: list[str]) -> None:
    if missing:
        raise place.error(f"{missing[0]!r} may not be there, which is not supported beside additionalProperties")
    for name in properties:
        if not WRITABLE.fullmatch(name):
            raise place.error(f"is not supported beside a property by the name {name!r}", "additionalProperties")
