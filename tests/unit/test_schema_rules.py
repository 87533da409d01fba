"""What a JSON schema is rewritten to, and what is refused, keyword by keyword. Whether the grammars hold: test_schema_grammars.py."""

from __future__ import annotations

from typing import Any

import pytest

from gollama import Schema, SchemaError

STRING, INTEGER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}
ANY = {"description": "any value"}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def listed(item: dict[str, Any], **bounds: int) -> dict[str, Any]:
    return {"type": "array", "items": item, **bounds}


EMPTY_ARRAY = listed(NULL, maxItems=0)

REWRITTEN: list[tuple[Any, Any]] = [
    # nothing said, and annotations
    ({}, ANY),
    ({"title": "x", "description": "y", "default": 1, "examples": [1], "$comment": "c", "deprecated": True, "readOnly": True}, ANY),
    ({"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:x", "type": "string", "x-of-mine": {"minimum": 1}}, STRING),
    ({"type": "number", "format": "float"}, {"type": "number"}),
    ({"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}, STRING),
    # types
    ({"type": ["string", "null"]}, {"anyOf": [STRING, NULL]}),
    ({"type": ["integer", "number"]}, {"type": "number"}),
    ({"type": "string", "nullable": True}, {"anyOf": [STRING, NULL]}),
    ({"type": ["string", "null"], "minLength": 2}, {"anyOf": [{"type": "string", "minLength": 2}, NULL]}),
    # keywords of another type say nothing, and without a type they tell it
    ({"type": "string", "minimum": 3, "patternProperties": {}}, STRING),
    ({"minLength": 1}, {"type": "string", "minLength": 1}),
    ({"properties": {"a": STRING}}, closed({"a": STRING})),
    ({"items": STRING}, listed(STRING)),
    ({"if": {"type": "string"}, "not": False, "type": "null"}, NULL),
    # const and enum
    ({"const": None}, {"const": None}),
    ({"enum": ["a", 1, None], "type": ["string", "null"]}, {"enum": ["a", None]}),
    ({"const": 1.0, "type": "integer"}, {"const": 1.0}),
    ({"enum": [1, True, 1.0]}, {"enum": [1.0, True]}),
    ({"allOf": [{"enum": [1, 2, 3]}, {"enum": [3, 2, 9]}], "maximum": 2}, {"const": 2}),
    ({"enum": ["a", "bb", "ccc"], "minLength": 2, "pattern": "^[abc]*$"}, {"enum": ["bb", "ccc"]}),
    ({"enum": [1, 2, 2.5], "multipleOf": 2}, {"const": 2}),
    ({"enum": ["2020-02-01", "2020-13-01"], "format": "date"}, {"const": "2020-02-01"}),
    # references
    ({"$ref": "#/$defs/a", "description": "beside it", "$defs": {"a": STRING}}, STRING),
    ({"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": STRING}}, STRING),
    ({"$ref": "#/allOf/0", "allOf": [INTEGER]}, INTEGER),
    ({"$ref": "#/$defs/a", "maxLength": 3, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": STRING}}, {"type": "string", "maxLength": 3}),
    # allOf
    ({"allOf": [STRING]}, STRING),
    ({"allOf": [{"properties": {"a": STRING}}, {"properties": {"b": INTEGER}, "required": ["b"]}], "type": "object"},
     closed({"a": STRING, "b": INTEGER}, "b")),
    ({"allOf": [{"properties": {"a": {"minimum": 1}}}, {"properties": {"a": {"type": "integer", "maximum": 5}}}]},
     closed({"a": {"type": "integer", "minimum": 1, "maximum": 5}})),
    ({"allOf": [{"type": ["string", "null"]}, {"type": ["string", "integer"]}]}, STRING),
    ({"allOf": [True, {"minLength": 1}], "type": "string", "maxLength": 2}, {"type": "string", "minLength": 1, "maxLength": 2}),
    # anyOf and oneOf, and what stands beside them
    ({"anyOf": [STRING, False, NULL]}, {"anyOf": [STRING, NULL]}),
    ({"anyOf": [STRING, {"anyOf": [NULL, STRING]}]}, {"anyOf": [STRING, NULL]}),
    ({"type": "string", "anyOf": [{"minLength": 1}, {"type": "null"}]}, {"type": "string", "minLength": 1}),
    ({"type": "object", "properties": {"a": STRING, "b": STRING}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
     {"anyOf": [closed({"a": STRING, "b": STRING}, "a"), closed({"a": STRING, "b": STRING}, "b")]}),
    ({"oneOf": [STRING, INTEGER]}, {"anyOf": [STRING, INTEGER]}),
    ({"oneOf": [{"const": 1}, {"const": 2}]}, {"anyOf": [{"const": 1}, {"const": 2}]}),
    ({"oneOf": [closed({"k": {"const": "a"}}, "k"), closed({"k": {"const": "b"}, "x": STRING}, "k")]},
     {"anyOf": [closed({"k": {"const": "a"}}, "k"), closed({"k": {"const": "b"}, "x": STRING}, "k")]}),
    ({"oneOf": [closed({"a": STRING}, "a"), closed({"b": STRING}, "b")]},
     {"anyOf": [closed({"a": STRING}, "a"), closed({"b": STRING}, "b")]}),
    # objects
    ({"type": "object"}, {"type": "object"}),
    ({"type": "object", "properties": {}}, closed({})),
    ({"type": "object", "additionalProperties": False}, closed({})),
    ({"type": "object", "required": ["a"]}, closed({"a": ANY}, "a")),
    ({"additionalProperties": INTEGER, "required": ["a"]}, {**closed({"a": INTEGER}, "a"), "additionalProperties": INTEGER}),
    ({"properties": {"a": STRING}, "additionalProperties": True}, {**closed({"a": STRING}), "additionalProperties": True}),
    ({"properties": {"a": STRING, "b": False}}, closed({"a": STRING})),
    ({"properties": {"a": STRING}, "minProperties": 1, "maxProperties": 3, "required": ["a"]}, closed({"a": STRING}, "a")),
    ({"additionalProperties": INTEGER, "propertyNames": {"enum": ["a", "b"]}}, closed({"a": INTEGER, "b": INTEGER})),
    ({"allOf": [{"properties": {"a": {}}, "additionalProperties": STRING}, {"properties": {"b": {"minLength": 2}}}]},
     {**closed({"a": ANY, "b": {"type": "string", "minLength": 2}}), "additionalProperties": STRING}),
    # arrays
    ({"type": "array"}, {"type": "array"}),
    ({"type": "array", "minItems": 2}, listed(ANY, minItems=2)),
    ({"items": STRING, "minItems": 1, "maxItems": 3.0}, listed(STRING, minItems=1, maxItems=3)),
    ({"items": False}, EMPTY_ARRAY),
    ({"type": "array", "maxItems": 0}, EMPTY_ARRAY),
    ({"items": STRING, "maxItems": 5000}, listed(STRING, maxItems=1000)),
    ({"prefixItems": [STRING, INTEGER]}, {"type": "array", "prefixItems": [STRING, INTEGER]}),
    ({"prefixItems": [STRING], "items": INTEGER, "minItems": 3}, {"type": "array", "prefixItems": [STRING, INTEGER, INTEGER]}),
    ({"prefixItems": [STRING, False]}, {"type": "array", "prefixItems": [STRING]}),
    ({"items": [STRING, INTEGER], "additionalItems": False, "maxItems": 1}, {"type": "array", "prefixItems": [STRING]}),
    ({"items": STRING, "uniqueItems": True, "maxItems": 1}, listed(STRING, maxItems=1)),
    # integers
    ({"type": "integer", "minimum": 1.5, "maximum": 9.9}, {"type": "integer", "minimum": 2, "maximum": 9}),
    ({"type": "integer", "exclusiveMinimum": 2, "minimum": 1}, {"type": "integer", "minimum": 3}),
    ({"type": "integer", "minimum": 2, "exclusiveMinimum": True}, {"type": "integer", "minimum": 3}),
    ({"type": "integer", "exclusiveMaximum": 5, "maximum": 5}, {"type": "integer", "maximum": 4}),
    ({"type": "integer", "minimum": 100}, {"type": "integer", "minimum": 100, "maximum": 10**16 - 1}),
    ({"type": "integer", "maximum": -5}, {"type": "integer", "minimum": -(10**16) + 1, "maximum": -5}),
    ({"type": "integer", "minimum": 0, "maximum": 20, "multipleOf": 5}, {"enum": [0, 5, 10, 15, 20]}),
    ({"type": "integer", "multipleOf": 0.5}, INTEGER),
    ({"type": "number", "multipleOf": 1, "minimum": 0}, {"type": "integer", "minimum": 0}),
    # strings
    ({"type": "string", "minLength": 0}, STRING),
    ({"type": "string", "pattern": "^[a-z]+$", "maxLength": 8}, {"type": "string", "pattern": "^[a-z]{1,8}$"}),
    ({"type": "string", "pattern": "^(ab|c)$", "minLength": 1, "maxLength": 2}, {"type": "string", "pattern": "^(ab|c)$"}),
]


@pytest.mark.parametrize(("schema", "expected"), REWRITTEN, ids=str)
def test_a_schema_is_rewritten(schema: Any, expected: Any) -> None:
    found = Schema.of(schema).grammar_schema
    definitions = found.get("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, dict) and "$ref" in part:
            return inline(definitions[part["$ref"].removeprefix("#/$defs/")])
        if isinstance(part, dict):
            return {name: inline(inner) for name, inner in part.items() if name != "$defs"}
        return [inline(inner) for inner in part] if isinstance(part, list) else part

    assert inline(found) == expected


REFUSED: list[tuple[Any, str]] = [
    ({"not": {}}, "schema.not: nothing is valid here"),
    ({"allOf": [False]}, r"schema.allOf\[0\]: nothing is valid here"),
    ({"type": "strin"}, "schema.type: 'strin' is not a type; there are"),
    ({"properties": {"a": 5}}, "schema.properties.a: must be an object or a boolean"),
    ({"properties": []}, r"schema.properties: must be an object, not \[\]"),
    ({"type": "string", "minLength": "3"}, 'schema.minLength: must be a number, not "3"'),
    ({"type": "string", "minLength": -1}, "schema.minLength: must be a whole number that is not negative"),
    ({"anyOf": []}, "schema.anyOf: must not be empty"),
    # references
    ({"$ref": "https://example.com/x"}, r'schema.\$ref: "https://example.com/x" cannot be resolved'),
    ({"items": {"$ref": "other.json#/a"}}, r'schema.items.\$ref: "other.json#/a" cannot be resolved'),
    ({"$ref": "#anchor", "$defs": {"a": {"$anchor": "anchor"}}}, r'schema.\$ref: "#anchor" cannot be resolved'),
    ({"$ref": "#/$defs/none"}, r'schema.\$ref: "#/\$defs/none" names nothing in the schema'),
    ({"$dynamicRef": "#x"}, r"schema.\$dynamicRef: is not supported"),
    ({"$recursiveRef": "#"}, r"schema.\$recursiveRef: is not supported"),
    ({"items": {"$id": "urn:a", "items": {"$ref": "#"}}}, r"schema.items.\$id: is not supported"),
    ({"$ref": "#"}, "schema: refers to itself with nothing in between"),
    ({"anyOf": [{"$ref": "#"}, STRING]}, "schema: refers to itself with nothing in between"),
    ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "schema: holds itself in a place that cannot be left out"),
    # combinations
    ({"not": STRING}, "schema.not: is not supported"),
    ({"if": {"minLength": 1}, "then": {"maxLength": 3}}, "schema.if: is not supported"),
    ({"allOf": [STRING, NULL]}, r"schema.*: no type is admitted"),
    ({"oneOf": [INTEGER, {"type": "number"}]}, "schema.oneOf: the alternatives 0 and 1 may both hold"),
    ({"oneOf": [{"properties": {"a": STRING}}, {"properties": {"b": STRING}}]}, "schema.oneOf: the alternatives 0 and 1 may both hold"),
    ({"allOf": [{"anyOf": [{"minLength": length} for length in range(15)]}, {"anyOf": [{"maxLength": 90}] * 15}]},
     r"schema.allOf\[1\].anyOf: leads to more than 200 alternatives"),
    # const and enum
    ({"enum": []}, "schema.enum: no value that is listed is valid"),
    ({"enum": ["a"], "type": "integer"}, "schema.enum: no value that is listed is valid"),
    ({"const": {"a": 1}, "required": ["b"]}, "schema.required: is not supported beside const or enum"),
    ({"const": 2**70}, f"schema.const: holds {2**70}, which is beyond 64-bit numbers"),
    ({"const": {"$ref": "x"}}, r"schema.const: holds an object with the name '\$ref'"),
    # objects
    *(({"type": "object", keyword: value}, f"schema.{keyword}: is not supported") for keyword, value in {
        "patternProperties": {"a": {}}, "minProperties": 1, "maxProperties": 1, "propertyNames": {"pattern": "^a$"},
        "dependentRequired": {}, "dependentSchemas": {}, "dependencies": {}, "unevaluatedProperties": False}.items()),
    ({"properties": {"a": False}, "required": ["a"]}, "schema.properties.a: nothing is valid here"),
    ({"properties": {"a": False}, "additionalProperties": True}, "schema: 'a' may not be there"),
    ({"properties": {"é": STRING}, "additionalProperties": STRING},
     "schema.additionalProperties: is not supported beside a property by the name 'é'"),
    ({"properties": {"$ref": STRING}}, r"schema.properties: has a property by the name '\$ref'"),
    ({"properties": {"a b": {"minimum": 1, "type": "number"}}}, r'schema.properties\["a b"\].minimum: is not supported for numbers'),
    ({"required": ["a", 5]}, "schema.required: must be an array of strings"),
    # arrays
    *(({"type": "array", keyword: value}, f"schema.{keyword}: is not supported") for keyword, value in {
        "contains": STRING, "uniqueItems": True, "unevaluatedItems": False}.items()),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "schema.minItems: no array has as many items"),
    ({"type": "array", "minItems": 1001}, "schema.minItems: more than 1000 is not supported"),
    # numbers
    *(({"type": "number", keyword: 0.5}, f"schema.{keyword}: is not supported for numbers, only for integers")
      for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
    ({"minimum": 3}, "schema.minimum: is not supported for numbers"),
    ({"type": "integer", "multipleOf": 3}, "schema.multipleOf: is not supported without bounds"),
    ({"type": "integer", "multipleOf": 0}, "schema.multipleOf: must be more than 0"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "schema: no whole number is between the bounds"),
    ({"type": "integer", "minimum": 2**70}, "schema: has bounds beyond 64-bit numbers"),
    # strings
    ({"format": "uri"}, "schema.format: 'uri' is not supported"),
    ({"items": {"type": "string", "pattern": "(?=a)"}}, r"schema.items.pattern: '\(\?=a\)': lookaround and flags are not supported"),
    ({"type": "string", "pattern": "^(a|bc)$", "minLength": 2}, "schema.pattern: is not supported beside minLength or maxLength"),
    ({"type": "string", "pattern": "a", "format": "date"}, "schema.format: is not supported beside another pattern or format"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "schema.minLength: no string is as long"),
]


@pytest.mark.parametrize(("schema", "message"), REFUSED, ids=str)
def test_what_cannot_be_enforced_is_refused_by_its_path(schema: Any, message: str) -> None:
    with pytest.raises(SchemaError, match="^" + message):
        Schema.of(schema)


def test_a_recursive_schema_refers_to_definitions_of_its_own() -> None:
    tree = {"type": "object", "properties": {"value": INTEGER, "left": {"$ref": "#"}, "right": {"$ref": "#"}}, "required": ["value"]}
    found = Schema.of(tree).grammar_schema
    (name, inner), = found["$defs"].items()
    reference = {"$ref": f"#/$defs/{name}"}
    assert inner == closed({"value": INTEGER, "left": reference, "right": reference}, "value")
    assert found == {**inner, "$defs": {name: inner}}


def test_definitions_of_two_schemas_have_different_names() -> None:
    """llama.cpp keeps those of all tools of a request in one table, and takes the first of two with the same name."""
    names = [set(Schema.of({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": kind}}).grammar_schema["$defs"]) for kind in (STRING, INTEGER)]
    assert not names[0] & names[1]


def test_what_admits_nothing_is_left_out_also_where_it_refers_to_what_holds_it() -> None:
    schema = {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {
        "a": {"properties": {"b": {"$ref": "#/$defs/b"}, "x": False}, "required": ["x"]},
        "b": {"properties": {"a": {"$ref": "#/$defs/a"}, "y": STRING}}}}
    found = Schema.of(schema).grammar_schema
    assert found["properties"] == {"y": STRING}


def nested(levels: int, leaf: Any = STRING) -> Any:
    for _ in range(levels):
        leaf = {"items": leaf}
    return leaf


def test_a_schema_may_be_nested_so_deeply_and_no_deeper() -> None:
    assert Schema.of(nested(64)).grammar.count("schema-item")
    with pytest.raises(SchemaError, match=r"schema\.items.*: is nested deeper than 64 levels"):
        Schema.of(nested(65))
    with pytest.raises(SchemaError, match="schema: is .*nested"):
        Schema.of(nested(100_000))


def test_a_schema_may_have_so_much_and_no_more() -> None:
    with pytest.raises(SchemaError, match="schema: has 401 properties, and may have 400"):
        Schema.of({"properties": {str(number): {} for number in range(401)}})
    with pytest.raises(SchemaError, match="schema: has more than 5000 parts"):
        Schema.of({"prefixItems": [{"properties": {str(number): {} for number in range(100)}} for _ in range(60)]})
    with pytest.raises(SchemaError, match="schema: has .* bytes as JSON, and may have 1000000"):
        Schema.of({"description": "x" * 1_000_000})
    with pytest.raises(SchemaError, match="schema: has a name of 501 characters"):
        Schema.of({"properties": {"_" * 501: {}}})


@pytest.mark.parametrize("value", [{"a": {1}}, {"a": float("nan")}, {"a": "\ud800"}, {"a": object()}],
                         ids=["set", "nan", "surrogate", "object"])
def test_what_is_not_json_is_no_schema(value: Any) -> None:
    with pytest.raises(SchemaError, match="schema: is not JSON"):
        Schema.of(value)
