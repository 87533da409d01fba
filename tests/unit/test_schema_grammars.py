"""The grammars of schemas: what they admit is JSON that is valid for the schema as it was given."""

from __future__ import annotations

import json
import re
import warnings
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gollama import Schema, SchemaError, _native
from gollama.chat.json_schema.patterns import PatternError, read
from gollama.chat.json_schema.spelling import spelled
from tests.support.gbnf import Grammar
from tests.support.schemas import schemas

SLOW = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def grammar(schema: Any) -> Grammar:
    return Grammar(Schema.of(schema).grammar)


def check_sound(schema: Any, texts: int = 20) -> None:
    """Random texts of the grammar are valid for the schema."""
    found = grammar(schema)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    validator = kind(schema, format_checker=kind.FORMAT_CHECKER)
    for number in range(texts):
        text = found.generate(Random(number))
        text.encode()
        validator.validate(json.loads(text))


@SLOW
@given(schemas())
def test_random_schemas_are_refused_or_hold(schema: Any) -> None:
    assume(isinstance(schema, dict))
    try:
        Schema.of(schema)
    except SchemaError as error:
        refusal = str(error)
    else:
        check_sound(schema)
        return
    assert re.match(r"schema[^:]*: ", refusal)


FAR = 10**15
EDGES = [None, -FAR, -1000, -101, -100, -99, -10, -9, -1, 0, 1, 5, 9, 10, 19, 99, 100, 101, 109, 123, 999, 1000, 1005, 98765, FAR]


@pytest.mark.parametrize("low", EDGES)
def test_bounds_of_integers_are_kept_to_the_last_number(low: int | None) -> None:
    for high in EDGES:
        if low is not None and high is not None and high < low:
            continue
        bounds = {name: bound for name, bound in (("minimum", low), ("maximum", high)) if bound is not None}
        found = grammar({"type": "integer", **bounds})
        near = {edge + step for edge in EDGES if edge is not None for step in (-1, 0, 1)} | {low or 0, high or 0}
        for number in near:
            inside = (low is None or number >= low) and (high is None or number <= high)
            assert found.accepts(str(number)) == inside, (low, high, number)
        for _ in range(5):
            number = int(found.generate(Random(low)))
            assert (low is None or number >= low) and (high is None or number <= high)
        assert not found.accepts("00") and not found.accepts("-05")


PATTERNS = [
    ("^[a-z]+$", ["a", "xyz"]), ("^(foo|bar)?$", ["", "foo"]), ("ab", ["ab", "xaby\n"]), ("^a", ["a", "abc"]), ("z$", ["z", "xyz"]),
    ("^a|b$", ["ax", "xb"]), ("^(a*|b*)*$", ["", "abba"]), ("^(a?b?){2,}c$", ["c", "abc"]), ("^\\d{3}-\\d{4}$", ["555-1234"]),
    ('^"[^"]*"$', ['""', '"x"']), ("^\\\\+$", ["\\", "\\\\"]), ("^[\\n\\t\\\\\"]$", ["\n", '"']), ("^.$", ["x", "é", "😀", '"']),
    ("^[^a-c]{2}$", ["xy", "\\\n"]), ("^\\u00e9\\x41$", ["éA"]), ("^[\\]\\-^]+$", ["]", "-^"]), ("^(?:a|(?<name>b))$", ["a", "b"]),
    ("^\\w+@\\w+\\.com$", ["a@b.com"]), ("^[\\w.-]{1,3}$", ["a.-"]), ("^\\s\\S$", [" x"]), ("^\\D\\W$", ["a!"]),
    ("^x{0}y{2}z{1,}$", ["yyz"]),
    ("^{{$".replace("{", "\\{"), ["{{"]), ("^(a|)$", ["", "a"]), ("^[a-z]{3,1500}$", ["abc", "x" * 1001]), ("^$", [""]), ("", ["", "x"]),
    ("^\\x00$", ["\0"]), ("^a.*?b$", ["ab", "axb"]), ("^(^a$)$".replace("^(^", "(^").replace("$)$", "$)"), ["a"]), ("^é+$", ["éé"]),
]


@pytest.mark.parametrize(("pattern", "examples"), PATTERNS, ids=[pattern for pattern, _ in PATTERNS])
def test_a_pattern_is_kept_by_the_json_string(pattern: str, examples: list[str]) -> None:
    found = grammar({"type": "string", "pattern": pattern})
    for number in range(200):
        value = json.loads(found.generate(Random(number)))
        assert re.search(pattern.replace("(?<", "(?P<"), value), value
    for example in examples:
        assert found.accepts(json.dumps(example, ensure_ascii=example == "\0"))


@pytest.mark.parametrize("pattern", ["(?=a)", "(?!a)b", "(?<=a)", "(?i)a", r"\bword\b", r"(a)\1", r"\p{L}", r"\cA", "a**", "a++", "*a",
                                     "[z-a]", "[a", "(a", "a)", "a^b", "[[:alpha:]]", "[]a]", "a{2}{3}", "a{3,2}", "^*", "\\",
                                     r"\ud800", r"[^\s\S]",
                                     "(" * 50 + ")" * 50, "(" + "a?" * 900 + ")*"])
def test_a_pattern_with_no_grammar_is_refused(pattern: str) -> None:
    with pytest.raises(SchemaError, match=r"^schema\.pattern: "):
        Schema.of({"type": "string", "pattern": pattern})


@settings(max_examples=300, deadline=None)
@given(st.text("ab.*+?()[]|^$\\dwsDWS{}1,-\"n", max_size=12))
def test_random_patterns_are_refused_or_hold(pattern: str) -> None:
    try:
        spelled(read(pattern))
    except PatternError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = grammar({"type": "string", "pattern": pattern})
        for number in range(10):
            assert re.search(pattern, json.loads(found.generate(Random(number))))


@pytest.mark.parametrize("name", ["date", "time", "date-time", "duration", "uuid", "uuid1", "uuid4", "uuid7", "ipv4", "email"])
def test_a_format_is_read_by_pydantic(name: str) -> None:
    import datetime
    import ipaddress
    import uuid

    import pydantic

    kinds: dict[str, Any] = {"date": datetime.date, "time": datetime.time, "date-time": datetime.datetime, "duration": datetime.timedelta,
                             "uuid": uuid.UUID, "uuid1": pydantic.UUID1, "uuid4": pydantic.UUID4, "uuid7": pydantic.UUID7,
                             "ipv4": ipaddress.IPv4Address, "email": str}
    schema = {"format": name, "type": "string"}
    check_sound(schema, texts=500)
    read_back = pydantic.TypeAdapter(kinds[name]).validate_json
    for number in range(500):
        read_back(grammar(schema).generate(Random(number)))


@pytest.mark.parametrize(("least", "most"), [(0, 0), (0, 1), (1, 1), (3, 5), (2, None), (0, 201), (0, 250), (1, 333),
                                                (1500, 1500), (999, 4000), (5000, None)])
def test_lengths_of_strings_count_characters(least: int, most: int | None) -> None:
    found = grammar({"type": "string", "minLength": least, **({} if most is None else {"maxLength": most})})
    for length in {0, 1, least - 1, least, least + 1, *(() if most is None else (most - 51, most - 1, most, most + 1))}:
        if length >= 0:
            inside = least <= length and (most is None or length <= most)
            assert found.accepts('"' + "é" * length + '"') == inside, length
    assert least == 0 or not found.accepts('"' + r"\ud83d\ude00" * (least - 1) + '"')


OPEN = {"type": "object", "properties": {"a": {"type": "integer"}, "abc": {"type": "integer"}, "x-y": {}},
        "additionalProperties": {"type": "string"}}


@pytest.mark.parametrize(("text", "valid"), [
    ('{"a":1}', True), ('{"b":"x"}', True), ('{"aaa":"y"}', True), ('{"abcd":"x"}', True), ('{}', True), ('{"é\\n":"x"}', True),
    ('{"a":"x"}', False), ('{"abc":"x"}', False), (r'{"\u0061":"x"}', False), (r'{"ab\u0063":"x"}', False),
    (r'{"\":"x"}', False), ('{"\n":"x"}', False), ('{"b":1}', False),
])
def test_other_names_are_none_of_the_listed_ones(text: str, valid: bool) -> None:
    assert grammar(OPEN).accepts(text) == valid


def test_upstreams_rules_that_admit_too_much_are_mended() -> None:
    """What llama.cpp's converter writes for the same schemas; where this fails, json_schema/grammar.py may do less."""
    def upstream(schema: Any) -> Grammar:
        return Grammar(_native.schema_grammar(json.dumps(schema)))

    for schema, text in ((OPEN, r'{"\":"x"}'), ({"type": "number"}, "1e9999"), ({"type": "string"}, r'"\ud800"')):
        assert upstream(schema).accepts(text) and not grammar(schema).accepts(text)
    assert upstream({"type": "integer", "minimum": 100}).accepts("10")
    assert upstream({"type": "integer", "maximum": -5}).accepts("-05")


def test_a_property_may_have_the_name_of_a_rule_of_the_converter() -> None:
    names = ["root", "space", "string", "decimal_part", "integral_part", "char", "date_time", "value", "schema", "dot", "additional_k",
             "item"]
    schema = {"type": "object", "properties": {name: {"type": "string", "maxLength": 1} for name in names} | {"n": {"type": "number"}},
              "required": [*names, "n"], "additionalProperties": {"type": "number"}}
    check_sound(schema, texts=100)


def test_the_converter_warns_of_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for pattern, _ in PATTERNS:
        assert Schema.of({"type": "string", "pattern": pattern}).grammar
    assert capfd.readouterr() == ("", "")


ADMITTED: list[tuple[Any, list[Any]]] = [
    ({"type": "string", "maxLength": 5}, ["", "\n\"\\\x01", "é😀中aa"]),
    ({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}, [[True], [True, False, False]]),
    ({"enum": ["a", {"b": [None, 1.5]}, "\n\"\\é"]}, ["a", {"b": [None, 1.5]}, "\n\"\\é"]),
    ({"type": "object", "additionalProperties": {"type": "null"}}, [{}, {"a": None, "": None, "é\"": None}]),
    ({"anyOf": [{"type": "null"}, {"type": "string"}]}, [None, "x"]),
    ({"properties": {"a": {"type": "null"}, "b": {"type": "string"}, "c": {}}, "required": ["b"]},
     [{"b": "x"}, {"b": "x", "a": None}, {"b": "", "a": None, "c": [1, {"x": "y"}]}, {"b": "x", "c": -1.5e3}]),
    ({"properties": {"next": {"$ref": "#"}, "all": {"items": {"$ref": "#"}}}}, [{}, {"next": {"next": {"all": [{}, {"next": {}}]}}}]),
    ({"type": "number"}, [0, -1, 1.5, 1e20, -2.5e-7, 123456]),
    ({}, [None, True, "x", 1.5, [], {}, {"a": [{"b": "c"}]}]),
]


@pytest.mark.parametrize(("schema", "values"), ADMITTED, ids=[str(schema) for schema, _ in ADMITTED])
def test_what_is_valid_is_admitted(schema: Any, values: list[Any]) -> None:
    found = grammar(schema)
    for value in values:
        assert found.accepts(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


@pytest.mark.parametrize(("text", "words"), [("{", "parse error"), ('{"$ref":"#/x"}', "not in"), ('{"type":"x"}', "Unrecognized schema"),
                                             ('{"type":"string","pattern":"^(a$"}', "unbalanced parentheses")])
def test_what_llama_cpp_refuses_is_told_in_its_words(text: str, words: str) -> None:
    with pytest.raises(SchemaError, match=f"llama.cpp cannot convert the schema: .*(?s:.*){words}"):
        _native.schema_grammar(text)
