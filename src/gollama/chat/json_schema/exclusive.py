"""Whether two alternatives of a `oneOf` can both hold. What cannot be told is taken for yes."""

from __future__ import annotations

from itertools import product
from typing import Any

from gollama.chat.json_schema.document import Document, Unsatisfiable
from gollama.chat.json_schema.facts import TYPES, Places, gather, listed_values, stated_types, type_of, types
from gollama.chat.json_schema.objects import names

DEEPEST = 3
MOST_BRANCHES = 50


def exclusive(document: Document, first: Places, second: Places, depth: int = 0) -> bool:
    """Whether no text that is generated for one is valid for the other.

    That is more than that no value is valid for both: an object is generated with the names it is given and no others.
    """
    if depth > DEEPEST:
        return False
    mine, theirs = _branches(document, first), _branches(document, second)
    if mine is None or theirs is None:
        return False
    return all(_apart(document, one, other, depth) and _apart(document, other, one, depth) for one, other in product(mine, theirs))


def _branches(document: Document, places: Places) -> list[Places] | None:
    """The places with every choice of alternatives; None where they are too many."""
    try:
        facts = gather(document, places)
    except Unsatisfiable:
        return []
    branches: list[Places] = []
    for chosen in product(*(group.alternatives for group in facts.groups)):
        if not chosen:
            return [facts.places]
        inner = _branches(document, (*facts.places, *chosen))
        if inner is None or len(branches) + len(inner) > MOST_BRANCHES:
            return None
        branches += inner
    return branches


def _apart(document: Document, made: Places, met: Places, depth: int) -> bool:
    """Whether no text generated for `made` is valid for `met`."""
    values = listed_values(made)
    if values is not None:
        return not any(_may_admit(met, value) for value in values)
    listed = listed_values(met)
    if listed is not None:
        return not any(_may_admit(made, value) for value in listed)
    stated = stated_types(met)
    common = types(made) & (set(TYPES) if stated is None else stated)
    return not common or (common == {"object"} and _objects_apart(document, made, met, depth))


def _may_admit(places: Places, value: Any) -> bool:
    stated, listed = stated_types(places), listed_values(places)
    return (stated is None or type_of(value) in stated) and (listed is None or value in listed)


def _objects_apart(document: Document, made: Places, met: Places, depth: int) -> bool:
    own, other = names(made), names(met)
    if own.others is None and any(name not in own.properties for name in other.required):
        return True
    for name in own.required:
        under = other.properties.get(name, other.others if any(place.has("additionalProperties") for place in met) else ())
        if under is None or exclusive(document, own.properties[name], under, depth + 1):
            return True
    return False
