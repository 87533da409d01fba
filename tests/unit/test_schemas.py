"""Schemas of Python types and of requests, and texts read back."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import re
import subprocess
import sys
import threading
from random import Random
from typing import Annotated, Any, Literal

import pydantic
import pytest
from typing_extensions import TypedDict

from gollama import Schema, SchemaError
from tests.support.gbnf import Grammar


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Address(pydantic.BaseModel):
    street: str = pydantic.Field(min_length=1, max_length=20)
    number: int = pydantic.Field(ge=1, lt=1000)


class Person(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    name: str = pydantic.Field(pattern=r"^[A-Z][a-z]+$")
    born: datetime.date
    favourite: Colour | None = None
    addresses: list[Address] = pydantic.Field(max_length=2)
    friends: list[Person] = []


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Home(pydantic.BaseModel):
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    label: str | None = None


class Options(TypedDict, total=False):
    verbose: bool
    level: Literal[1, 2, 3]


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int


TYPES = [Person, Home, Point, Options, Open, Colour, Literal["yes", "no", 3], int, str, bool, float, type(None), list[int], dict[str, int],
         int | None, int | str | None, tuple[int, str], dict[Colour, int], list[Point], datetime.datetime,
         Annotated[int, pydantic.Field(gt=5)],
         Annotated[str, pydantic.StringConstraints(min_length=2, max_length=400)], Any]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_what_a_types_grammar_admits_is_of_the_type(kind: Any) -> None:
    schema = Schema.of(kind)
    adapter = pydantic.TypeAdapter(kind)
    grammar = Grammar(schema.grammar)
    for number in range(50):
        value = schema.parse(grammar.generate(Random(number)))
        assert adapter.validate_python(value) == value


def test_the_values_are_of_the_types() -> None:
    assert Schema.of(Point).parse('{"x": 3}') == Point(3)
    assert Schema.of(Colour).parse('"red"') is Colour.RED
    assert Schema.of(int).parse("42") == 42
    assert Schema.of(tuple[int, str]).parse('[1, "a"]') == (1, "a")
    home = Schema.of(Home).parse('{"pet": {"kind": "dog", "tricks": ["sit"]}}')
    assert home == Home(pet=Dog(kind="dog", tricks=["sit"]))


def test_the_schema_is_the_one_that_pydantic_writes() -> None:
    assert Schema.of(Person).json_schema == pydantic.TypeAdapter(Person).json_schema()


@pytest.mark.parametrize(("kind", "text", "message"), [
    (Address, '{"street": "x", "number": 0}', "the text does not fit its schema: number: Input should be greater than or equal to 1"),
    (Person, "{}", "the text does not fit its schema: name: Field required; born: Field required"),
    (int, "{", r"the text does not fit its schema: \$: Invalid JSON"),
    (int, '"x"', "Input should be a valid integer"),
    ({"type": "integer"}, "{", "the text is not JSON: "),
    ({"type": "integer"}, "NaN", "the text is not JSON: NaN is not a JSON number"),
    ({"type": "integer"}, '"x"', r"the text does not fit its schema: \$: 'x' is not of type 'integer'"),
    ({"properties": {"a": {"items": {"type": "string"}}}}, '{"a": [1]}',
     r"the text does not fit its schema: \$.a\[0\]: 1 is not of type 'string'"),
    ({"type": "string", "format": "date"}, '"2020-13-01"', "is not a 'date'"),
])
def test_a_text_that_does_not_fit_is_told_why(kind: Any, text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Schema.of(kind).parse(text)


def test_nullable_is_read_as_it_is_generated() -> None:
    assert Schema.of({"type": "string", "nullable": True}).parse("null") is None


def test_a_schema_is_made_once() -> None:
    assert Schema.of(Person) is Schema.of(Person)
    assert Schema.of(list[int]) is Schema.of(list[int])
    assert Schema.of({"type": "string"}) is Schema.of({"type": "string"})
    assert Schema.of({"type": "string"}) is not Schema.of({"type": "null"})
    assert Schema.of(Schema.of(int)) is Schema.of(int)
    assert len({Schema.of(int), Schema.of(int), Schema.of(str)}) == 2


def test_the_order_of_properties_is_kept() -> None:
    orders = [("a", "b"), ("b", "a")]
    found = [Schema.of({"properties": {name: {} for name in order}}) for order in orders]
    assert [tuple(schema.grammar_schema["properties"]) for schema in found] == orders


def test_what_was_given_may_be_changed_afterwards() -> None:
    given: dict[str, Any] = {"properties": {"a": {"type": "string"}}}
    schema = Schema.of(given)
    given["properties"]["a"]["type"] = "integer"
    assert schema.json_schema == {"properties": {"a": {"type": "string"}}}
    assert Schema.of(given).grammar_schema["properties"]["a"] == {"type": "integer"}


def test_threads_may_make_schemas_at_once() -> None:
    found: list[str] = []
    given = {"items": {"type": "string", "maxLength": 77}}
    threads = [threading.Thread(target=lambda: found.append(Schema.of(given).grammar)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


@pytest.mark.parametrize("value", [None, "string", b"x", 5, True, [1], set()])
def test_what_is_no_schema_is_refused(value: Any) -> None:
    with pytest.raises(SchemaError, match="a schema is a dict or a type, not"):
        Schema.of(value)


class Opaque:
    pass


@pytest.mark.parametrize(("kind", "message"), [
    (Opaque, "has no JSON schema"), (set[int], "schema.uniqueItems: is not supported"),
    (Annotated[float, pydantic.Field(ge=0)], "schema.minimum: is not supported for numbers"),
    (re.Pattern, "schema.format: 'regex' is not supported"), (pydantic.HttpUrl, "schema.format: 'uri' is not supported"),
])
def test_a_type_that_cannot_be_enforced_is_refused(kind: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Schema.of(kind)


def test_a_type_whose_annotations_have_no_hash_is_taken() -> None:
    assert Schema.of(Annotated[int, {"unhashable": []}]).parse("3") == 3


@pytest.mark.parametrize(("given", "expected"), [
    ({"type": "text"}, None),
    ({"type": "json_object"}, {"type": "object"}),
    ({"type": "json_object", "schema": {"type": "object", "required": ["a"]}}, {"type": "object", "required": ["a"]}),
    ({"type": "json_schema", "json_schema": {"name": "n", "strict": True, "description": "d", "schema": {"type": "null"}}},
     {"type": "null"}),
])
def test_a_response_format_is_read(given: Any, expected: Any) -> None:
    found = Schema.from_response_format(given)
    assert (found and found.json_schema) == expected


def test_a_response_formats_schema_has_a_name() -> None:
    found = Schema.from_response_format({"type": "json_schema", "json_schema": {"name": "answer", "schema": {}}})
    assert found is not None and found.name == "answer"


@pytest.mark.parametrize(("given", "message"), [
    ("json", "response_format must be a dict, not str"),
    ({}, "response_format.type is missing"),
    ({"type": 1}, "response_format.type must be a str, not 1"),
    ({"type": "xml"}, "response_format.type must be one of text, json_object, json_schema, not 'xml'"),
    ({"type": "text", "schema": {}}, "response_format.schema is not a field here; there are: type"),
    ({"type": "json_schema"}, "response_format.json_schema is missing"),
    ({"type": "json_schema", "json_schema": {"name": "n"}}, "response_format.json_schema.schema is missing"),
    ({"type": "json_schema", "json_schema": {"schema": {}, "strict": 1}}, "response_format.json_schema.strict must be a bool, not 1"),
    ({"type": "json_schema", "json_schema": {"schema": {}, "extra": 1}}, "response_format.json_schema.extra is not a field here"),
    ({"type": "json_schema", "json_schema": {"schema": {"items": {"not": {"type": "null"}}}}},
     "response_format.json_schema.schema.items.not: is not supported"),
    ({"type": "json_object", "schema": {"type": "strin"}}, "response_format.schema.type: 'strin' is not a type"),
])
def test_a_wrong_response_format_is_told_by_its_path(given: Any, message: str) -> None:
    with pytest.raises(SchemaError, match="^" + re.escape(message)):
        Schema.from_response_format(given)


BARE = """
import sys
sys.modules.update(dict.fromkeys(("pydantic", "jsonschema", "docstring_parser")))  # as if they were not installed
import gollama
from gollama.chat.functions import Function
schema = gollama.Schema.of({"type": "object", "properties": {"a": {"type": "integer"}}})
assert "root ::=" in schema.grammar and schema.parse('{"a": "not checked"}') == {"a": "not checked"}
for make in (lambda: gollama.Schema.of(int), lambda: Function.of(len)):
    try:
        make()
    except gollama.OptionError as error:
        print(error)
"""


def test_json_schemas_need_nothing_else_and_types_say_what_they_need() -> None:
    result = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first == "a schema from a Python type needs pydantic: pip install gollama-cpu[schema]"
    assert second.endswith("pip install gollama-cpu[schema]")


def test_the_grammar_of_a_type_is_json_for_its_schema() -> None:
    import jsonschema

    schema = Schema.of(Person)
    for number in range(50):
        jsonschema.validate(json.loads(Grammar(schema.grammar).generate(Random(number))), schema.json_schema)
