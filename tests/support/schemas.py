"""Random JSON schemas, to be drawn by hypothesis: mostly such as people write, with everything that may stand beside everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "ab", "abc", "decimal_part", "string", "root", "space", "*", "é", 'q"', "x-y", "", "char", "$id")
PATTERNS = ("^[a-z]+$", "^a*b?$", "ab", "^\\d{2,4}$", "^[^x]*$", "^(foo|bar)$", "^\\w+@\\w+$", '"', "\\\\", "^.{3}$", "^a|b$",
            "^(a*|b*)*c$", "[\\s\\S]", "^\\W$", "\\n", "^[\\u00e9-\\u00ff]{1,3}$", "(?=x)", "^a$|^$", "^(a?){3}$")
FORMATS = ("date", "time", "date-time", "uuid", "uuid4", "ipv4", "email", "duration", "int32", "password", "hostname")
VALUES = st.sampled_from([None, True, False, 0, 1, -1, 1.0, 2.5, 10**16, -(2**62), 1e300, "", "a", "ab", "é", '"', "\\", "\n", "\x7f", "😀",
                          [], [1], {}, {"a": 1}, {"b": [None]}])
BOUNDS = st.one_of(st.integers(-1200, 1200), st.sampled_from([0.5, -0.5, 9.5, 99, 100, 101, 1e15, 10**17, -(10**18), 2**63, 1e30]))


def _object(draw: Any, inner: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["properties"] = draw(st.dictionaries(st.sampled_from(NAMES), inner, max_size=4))
    if draw(st.booleans()):
        found["required"] = draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True))
    if draw(st.booleans()):
        found["additionalProperties"] = draw(inner)
    if draw(st.integers(0, 5)) == 0:
        found["propertyNames"] = {"enum": draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))}
    if draw(st.integers(0, 7)) == 0:
        found[draw(st.sampled_from(("minProperties", "maxProperties")))] = draw(st.integers(0, 4))
    return found


def _array(draw: Any, inner: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["items"] = draw(inner)
    if draw(st.integers(0, 2)) == 0:
        found["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=3))
    for keyword in ("minItems", "maxItems"):
        if draw(st.integers(0, 2)) == 0:
            found[keyword] = draw(st.integers(0, 4))
    if draw(st.integers(0, 9)) == 0:
        found["uniqueItems"] = draw(st.booleans())
    return found


def _string(draw: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw(st.integers(0, 2)) == 0:
        found["pattern"] = draw(st.sampled_from(PATTERNS))
    if draw(st.integers(0, 4)) == 0:
        found["format"] = draw(st.sampled_from(FORMATS))
    for keyword in ("minLength", "maxLength"):
        if draw(st.integers(0, 2)) == 0:
            found[keyword] = draw(st.integers(0, 6))
    return found


def _number(draw: Any) -> dict[str, Any]:
    keywords = draw(st.lists(st.sampled_from(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")), max_size=2, unique=True))
    found = {keyword: draw(BOUNDS) for keyword in keywords}
    if draw(st.integers(0, 5)) == 0:
        found["multipleOf"] = draw(st.sampled_from([1, 2, 7, 0.5, 2.5, 1.0]))
    return found


@st.composite
def _schema(draw: Any, inner: Any) -> Any:
    kind = draw(st.sampled_from(("object", "object", "array", "string", "integer", "number", "listed", "either", "mixed", "reference",
                                 "boolean")))
    if kind == "boolean":
        return draw(st.sampled_from([True, False, {}, {"type": "boolean"}, {"type": "null"}]))
    if kind == "reference":
        return {"$ref": draw(st.sampled_from(("#", "#/$defs/one", "#/$defs/two")))}
    if kind == "listed":
        listed = {"enum": draw(st.lists(VALUES, min_size=1, max_size=4))} if draw(st.booleans()) else {"const": draw(VALUES)}
        return {**listed, **({"type": draw(st.sampled_from(("string", "integer", "object")))} if draw(st.integers(0, 2)) == 0 else {})}
    found: dict[str, Any] = {"title": "t"} if draw(st.booleans()) else {}
    if kind in ("either", "mixed"):
        found[draw(st.sampled_from(("anyOf", "oneOf", "allOf")))] = draw(st.lists(inner, min_size=1, max_size=3))
        kind = draw(st.sampled_from(("object", "array", "string", "integer"))) if kind == "mixed" else kind
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "object": lambda: _object(draw, inner), "array": lambda: _array(draw, inner), "string": lambda: _string(draw),
        "integer": lambda: _number(draw), "number": lambda: _number(draw), "either": dict}
    found.update(parts[kind]())
    if kind != "either" and draw(st.integers(0, 5)):
        found["type"] = [kind, "null"] if draw(st.integers(0, 5)) == 0 else kind
    return found


_simple = st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": "null"}, {"type": "number"}])
_parts: st.SearchStrategy[Any] = st.deferred(lambda: st.one_of(_simple, _schema(_parts)))


@st.composite
def schemas(draw: Any) -> Any:
    """A schema whose references lead to itself and to two definitions."""
    found = draw(_schema(_parts))
    return {**found, "$defs": {"one": draw(_parts), "two": draw(_parts)}} if isinstance(found, dict) else found
