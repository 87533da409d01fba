"""Strings: `pattern`, `format`, `minLength`, `maxLength`."""

from __future__ import annotations

import re
import warnings
from typing import Any

from gollama.chat.json_schema.document import Place, Unsatisfiable
from gollama.chat.json_schema.facts import Places
from gollama.chat.json_schema.formats import format_pattern
from gollama.chat.json_schema.patterns import ANY, Node, PatternError, Repeat, read, within
from gollama.chat.json_schema.spelling import LONGEST_COUNT, spelled

LONGEST_STRING = 100_000
LONGEST_PATTERN = 2000


def string_schema(places: Places) -> dict[str, Any]:
    """One for the converter, which knows either a pattern or a length."""
    least, most = _lengths(places)
    patterns = _patterns(places)
    if len(patterns) > 1:
        (place, keyword), *_ = list(patterns.values())[1:]
        raise place.error("is not supported beside another pattern or format", keyword)
    if patterns:
        (pattern, (place, keyword)), = patterns.items()
        return {"type": "string", "pattern": _spelled(_tree(pattern, place, keyword, least, most), place, keyword)}
    if least == 0 and most is None:
        return {"type": "string"}
    bounds = {name: value for name, value in (("minLength", least), ("maxLength", most)) if value}
    if most != 0 and max(bounds.values()) <= LONGEST_COUNT:
        return {"type": "string", **bounds}
    return {"type": "string", "pattern": spelled(Repeat(ANY, least, most))}


def admits_string(value: str, places: Places) -> bool:
    least, most = _lengths(places)
    if len(value) < least or (most is not None and len(value) > most):
        return False
    return all(_found(pattern, value, place, keyword) for pattern, (place, keyword) in _patterns(places).items())


def _lengths(places: Places) -> tuple[int, int | None]:
    least = max((place.count("minLength") for place in places if place.has("minLength")), default=0)
    most = min((place.count("maxLength") for place in places if place.has("maxLength")), default=None)
    place = next((place for place in places if place.has("minLength")), None)
    if place and most is not None and most < least:
        raise place.error("no string is as long as this and as short as maxLength", "minLength", kind=Unsatisfiable)
    if place and least > LONGEST_STRING:
        raise place.error(f"more than {LONGEST_STRING} is not supported", "minLength")
    return least, most if most is None else min(most, LONGEST_STRING)


def _patterns(places: Places) -> dict[str, tuple[Place, str]]:
    found: dict[str, tuple[Place, str]] = {}
    for place in places:
        if place.has("pattern"):
            found.setdefault(place.text("pattern"), (place, "pattern"))
        pattern = format_pattern(place) if place.has("format") else None
        if pattern is not None:
            found.setdefault(pattern, (place, "format"))
    return found


def _tree(pattern: str, place: Place, keyword: str, least: int, most: int | None) -> Node:
    if len(pattern) > LONGEST_PATTERN:
        raise place.error(f"has {len(pattern)} characters, and may have {LONGEST_PATTERN}", keyword)
    try:
        tree = within(read(pattern), least, most)
    except PatternError as error:
        raise place.error(f"{pattern!r}: {error}", keyword) from None
    if tree is None:
        raise place.error("is not supported beside minLength or maxLength, unless it is one repeated character class", keyword)
    return tree


def _spelled(tree: Node, place: Place, keyword: str) -> str:
    try:
        return spelled(tree)
    except PatternError as error:
        raise place.error(f"{place.schema[keyword]!r}: {error}", keyword) from None


def _found(pattern: str, value: str, place: Place, keyword: str) -> bool:
    try:
        read(pattern)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's about character classes that may change their meaning
            return re.search(pattern, value) is not None
    except (PatternError, re.error) as error:
        raise place.error(f"{pattern!r}: {error}", keyword) from None
