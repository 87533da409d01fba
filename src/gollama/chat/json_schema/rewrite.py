"""A schema written anew in the forms that llama.cpp's converter enforces."""

from __future__ import annotations

import hashlib
import json
from itertools import combinations
from typing import Any

from gollama.chat.json_schema.arrays import array_schema
from gollama.chat.json_schema.document import Document, Place, Unsatisfiable, holds
from gollama.chat.json_schema.exclusive import exclusive
from gollama.chat.json_schema.facts import (
    SPOKEN_OF,
    Facts,
    Group,
    Places,
    gather,
    is_reference,
    listed_values,
    stated_types,
    type_of,
    types,
)
from gollama.chat.json_schema.numbers import MOST_INT64, admits_number, integer_schema, number_schema
from gollama.chat.json_schema.objects import object_schema
from gollama.chat.json_schema.strings import admits_string, string_schema
from gollama.errors import SchemaError

ANY = {"description": "any value"}  # the converter takes {} for an object
DEEPEST = 64  # the converter recurses
MOST_PARTS = 5000
MOST_ALTERNATIVES = 200
REFERENCE = "#/$defs/"


def rewrite(text: str, root: str = "schema") -> dict[str, Any]:
    """The rewritten schema of a JSON text; SchemaError with the path of the first keyword that cannot be enforced."""
    document = Document(json.loads(text), root)
    # the converter keeps the references of all tools of a request in one table, and makes names out of them by dropping signs
    rewriter = _Rewriter(document, "g" + hashlib.sha256(text.encode()).hexdigest()[:12])
    try:
        written = rewriter.value((document.root,))
    except Unsatisfiable as error:
        raise SchemaError(str(error)) from None
    except RecursionError:
        raise document.root.error("is nested too deeply") from None
    rewriter.check_ends()
    while "$ref" in written:
        written = rewriter.definitions[written["$ref"].removeprefix(REFERENCE)]
    return {**written, "$defs": rewriter.definitions} if rewriter.definitions else written


class _Rewriter:
    def __init__(self, document: Document, salt: str) -> None:
        self.document = document
        self.definitions: dict[str, dict[str, Any]] = {}
        self._salt = salt
        self._names: dict[Places, str] = {}
        self._open: dict[Places, int] = {}  # what is being written, and how deep inside other values
        self._depth = 0
        self._parts = 0

    def inside(self, places: Places) -> dict[str, Any]:
        """The schema of a value inside the one that is being written."""
        if self._depth >= DEEPEST:
            raise places[0].error(f"is nested deeper than {DEEPEST} levels")
        self._depth += 1
        try:
            return self.value(places)
        finally:
            self._depth -= 1

    def value(self, places: Places) -> dict[str, Any]:
        places = tuple(dict.fromkeys(places))
        if len(places) == 1 and is_reference(places[0]):
            return self._shared((self.document.target(places[0]),), always=True)
        return self._shared(places, always=False)

    def _shared(self, places: Places, always: bool) -> dict[str, Any]:
        """What is referred to gets a definition: `always`, or because it is inside itself."""
        if places in self._open:
            if self._open[places] == self._depth:
                raise places[0].error("refers to itself with nothing in between")
            return self._reference(places)
        if self._names.get(places) in self.definitions:
            return self._reference(places)
        self._open[places] = self._depth
        finished = len(self.definitions)
        try:
            written = self._written(places)
        except Unsatisfiable:
            for name in list(self.definitions)[finished:]:  # they may refer to this
                del self.definitions[name]
            raise
        finally:
            del self._open[places]
        if not always and places not in self._names:
            return written
        reference = self._reference(places)
        self.definitions[self._names[places]] = written
        return reference

    def _reference(self, places: Places) -> dict[str, Any]:
        name = self._names.setdefault(places, f"{self._salt}x{len(self._names)}x")
        return {"$ref": REFERENCE + name}

    def _written(self, places: Places) -> dict[str, Any]:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise self.document.root.error(f"has more than {MOST_PARTS} parts when written out")
        facts = gather(self.document, places)
        return self._alternatives(facts) if facts.groups else self._plain(facts.places)

    def _alternatives(self, facts: Facts) -> dict[str, Any]:
        """What stands beside alternatives is demanded in each of them."""
        base = facts.places if facts.constraining else ()
        chosen: list[Places] = [base]
        for group in facts.groups:
            chosen = [(*places, alternative) for places in chosen for alternative in group.alternatives]
            if len(chosen) > MOST_ALTERNATIVES:
                raise group.place.error(f"leads to more than {MOST_ALTERNATIVES} alternatives", group.keyword)
        written = self._either([(self.value, places) for places in chosen])
        for group in facts.groups:
            if group.keyword == "oneOf":
                self._check_exclusive(group, base)
        return written

    def _check_exclusive(self, group: Group, base: Places) -> None:
        for (one, first), (other, second) in combinations(enumerate(group.alternatives), 2):
            if not exclusive(self.document, (*base, first), (*base, second)):
                raise group.place.error(f"the alternatives {one} and {other} may both hold, which is not supported: "
                                        "use anyOf, or tell them apart by a property with a const", "oneOf")

    def _plain(self, places: Places) -> dict[str, Any]:
        values = listed_values(places)
        if values is not None:
            return _listed(values, places)
        kinds = types(places)
        if stated_types(places) is None and len(kinds) == len(types(())):
            return ANY
        if not kinds:
            raise places[0].error("no type is admitted by everything that is said here", kind=Unsatisfiable)
        number = number_schema if "fraction" in kinds else integer_schema
        writers = {"object": lambda places: object_schema(places, self.inside), "array": lambda places: array_schema(places, self.inside),
                   "string": string_schema, "integer": number, "boolean": lambda _: {"type": "boolean"}, "null": lambda _: {"type": "null"}}
        return self._either([(write, places) for kind, write in writers.items() if kind in kinds])

    @staticmethod
    def _either(options: list[tuple[Any, Places]]) -> dict[str, Any]:
        """The options of which at least one value is valid."""
        written: dict[str, dict[str, Any]] = {}
        failure: Unsatisfiable | None = None
        for write, places in options:
            try:
                found = write(places)
            except Unsatisfiable as error:
                failure = error
                continue
            for option in found.get("anyOf", [found]):
                written[json.dumps(option)] = option
        if not written:
            assert failure is not None
            raise failure
        return {"anyOf": list(written.values())} if len(written) > 1 else next(iter(written.values()))

    def check_ends(self) -> None:
        """Refuse what no text can ever come to the end of: a reference to itself in a place that must be there."""
        ending: set[str] = set()
        while grown := {name for name, schema in self.definitions.items() if name not in ending and _ends(schema, ending)}:
            ending |= grown
        for places, name in self._names.items():
            if name in self.definitions and name not in ending:
                raise places[0].error("holds itself in a place that cannot be left out, so that no value ever ends")


def _ends(schema: dict[str, Any], ending: set[str]) -> bool:
    if "$ref" in schema:
        return schema["$ref"].removeprefix(REFERENCE) in ending
    if "anyOf" in schema:
        return any(_ends(option, ending) for option in schema["anyOf"])
    inside = [schema["properties"][name] for name in schema.get("required", ())]
    inside += schema.get("prefixItems", ())
    inside += [schema["items"]] if schema.get("minItems") else []
    return all(_ends(inner, ending) for inner in inside)


def _listed(values: list[Any], places: Places) -> dict[str, Any]:
    """The values among those of `const` and `enum` that everything beside it admits."""
    stated = stated_types(places)
    place, keyword = next((place, keyword) for place in places for keyword in ("enum", "const") if place.has(keyword))
    found = [value for value in values if (stated is None or type_of(value) in stated) and _admitted(value, places)]
    if not found:
        raise place.error("no value that is listed is valid", keyword, kind=Unsatisfiable)
    for value in found:
        _check_value(value, place, keyword)
    return {"enum": found} if len(found) > 1 else {"const": found[0]}


def _admitted(value: Any, places: Places) -> bool:
    kind = type_of(value)
    if kind == "string":
        return admits_string(value, places)
    if kind in ("integer", "fraction"):
        return admits_number(value, places)
    for place in places:
        for keyword in SPOKEN_OF.get(kind, ()):
            if place.has(keyword):
                raise place.error("is not supported beside const or enum", keyword)
    return True


def _check_value(value: Any, place: Place, keyword: str) -> None:
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        waiting += inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else []
        if isinstance(inner, int) and abs(inner) > MOST_INT64:
            raise place.error(f"holds {inner}, which is beyond 64-bit numbers", keyword)
    if holds(value, "$ref"):
        raise place.error("holds an object with the name '$ref', which llama.cpp takes for a reference", keyword)
