"""Arrays: lists of one kind of items, and tuples."""

from __future__ import annotations

from typing import Any

from gollama.chat.json_schema.document import Place, Unsatisfiable
from gollama.chat.json_schema.facts import Places
from gollama.chat.json_schema.objects import Inner

REFUSED = ("contains", "unevaluatedItems")
LONGEST_ARRAY = 1000  # llama.cpp's grammars take counts from 2000 on for no limit at all
EMPTY = {"type": "array", "items": {"type": "null"}, "maxItems": 0}


def array_schema(places: Places, inner: Inner) -> dict[str, Any]:
    """A list, or where there are items by position a tuple of just those: the converter has no tuples of several lengths."""
    for place in places:
        for keyword in REFUSED:
            if place.has(keyword):
                raise place.error("is not supported", keyword)
    least = max((place.count("minItems") for place in places if place.has("minItems")), default=0)
    most = min((place.count("maxItems") for place in places if place.has("maxItems")), default=None)
    if least > LONGEST_ARRAY:
        raise next(place for place in places if place.has("minItems")).error(f"more than {LONGEST_ARRAY} is not supported", "minItems")
    first = max(len(_first(place)) for place in places) if places else 0
    rewritten = _tuple(places, inner, first, least, most) if first else _list(places, inner, least, most)
    _check_unique(places, rewritten)
    return rewritten


def _list(places: Places, inner: Inner, least: int, most: int | None) -> dict[str, Any]:
    said = _under(places, 0)
    item: dict[str, Any] = {}
    if most != 0:
        try:
            item = inner(said)
        except Unsatisfiable:
            most = 0
    if most is not None and most < least:
        raise _bounds_error(places)
    if most == 0:
        return EMPTY
    if not said and least == 0 and most is None:
        return {"type": "array"}
    bounds = {"minItems": least} if least else {}
    return {"type": "array", "items": item, **bounds, **({} if most is None else {"maxItems": min(most, LONGEST_ARRAY)})}


def _tuple(places: Places, inner: Inner, first: int, least: int, most: int | None) -> dict[str, Any]:
    items: list[dict[str, Any]] = []
    wanted = max(first, least) if most is None else min(max(first, least), most)
    if wanted > LONGEST_ARRAY:
        raise places[0].error(f"more than {LONGEST_ARRAY} items are not supported")
    for index in range(wanted):
        try:
            items.append(inner(_under(places, index)))
        except Unsatisfiable:
            break  # the array ends in front of what nothing can stand for
    if len(items) < least:
        raise _bounds_error(places)
    return {"type": "array", "prefixItems": items} if items else EMPTY


def _first(place: Place) -> list[Any]:
    """The items by position: `prefixItems`, or `items` as drafts before 2020 have it."""
    if place.has("prefixItems"):
        return place.array("prefixItems")
    return place.array("items") if place.has("items") and isinstance(place.schema["items"], list) else []


def _under(places: Places, index: int) -> Places:
    """What the places say of the item at an index; behind all items by position the same for each."""
    found = []
    for place in places:
        if index < len(_first(place)):
            found.append(place.at("prefixItems" if place.has("prefixItems") else "items", index))
        elif place.has("items") and not isinstance(place.schema["items"], list):
            found.append(place.at("items"))
        elif place.has("additionalItems") and isinstance(place.schema.get("items"), list):
            found.append(place.at("additionalItems"))
    return tuple(found)


def _bounds_error(places: Places) -> Exception:
    place = next(place for place in places if place.has("minItems"))
    return place.error("no array has as many items as this, and no more than it may have", "minItems", kind=Unsatisfiable)


def _check_unique(places: Places, rewritten: dict[str, Any]) -> None:
    most = len(rewritten["prefixItems"]) if "prefixItems" in rewritten else rewritten.get("maxItems")
    for place in places:
        if place.has("uniqueItems") and place.schema["uniqueItems"] is not False and (most is None or most > 1):
            raise place.error("is not supported", "uniqueItems")
