"""Structured output on real models."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any, Literal

import pydantic
import pytest
from typing_extensions import TypedDict

from gollama import LLM, GrammarError, OptionError, SchemaError

ASK = [{"role": "user", "content": "Describe a person called Ada, 36 years old, as JSON."}]
QUICK: dict[str, Any] = {"temperature": 0, "max_tokens": 120}


class Address(pydantic.BaseModel):
    city: Literal["Paris", "Rome"]
    zip: int = pydantic.Field(ge=1000, le=9999)


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    age: int = pydantic.Field(ge=0, le=120)
    address: Address


@dataclass
class Point:
    x: int
    y: int


class Pair(TypedDict):
    first: bool
    second: bool


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def test_a_pydantic_model_comes_back_as_one(llm: LLM) -> None:
    reply = llm.chat(ASK, schema=Person, **QUICK)
    assert isinstance(reply.parsed, Person) and reply.parsed == Person.model_validate_json(reply.text)


@pytest.mark.parametrize(("schema", "kind"), [
    (Point, Point), (Pair, dict), (Colour, Colour), (Literal["yes", "no"], str), (int, int), (bool, bool),
    ({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}, dict),
    ({"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2}, list),
], ids=str)
def test_types_come_back_as_they_are(smollm2: LLM, schema: Any, kind: type) -> None:
    reply = smollm2.chat(ASK, schema=schema, **QUICK)
    assert isinstance(reply.parsed, kind) and reply.finish_reason == "stop"


def test_openais_form_of_it(smollm2: LLM) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object", "properties": {
        "ok": {"type": "boolean"}}, "required": ["ok"]}}}
    assert isinstance(smollm2.chat(ASK, response_format=wanted, **QUICK).parsed["ok"], bool)
    assert smollm2.chat(ASK, response_format={"type": "text"}, temperature=0, max_tokens=3).parsed is None
    with pytest.raises(SchemaError, match=r"response_format\.type must be one of"):
        smollm2.chat(ASK, response_format={"type": "yaml"})


def test_the_stream_ends_with_the_object(smollm2: LLM) -> None:
    chunks = list(smollm2.stream_chat(ASK, schema=Person, **QUICK))
    completion = chunks[-1].completion
    assert completion is not None and isinstance(completion.parsed, Person)
    assert "".join(chunk.text for chunk in chunks) == completion.text


def test_an_answer_that_was_cut_has_no_object(smollm2: LLM) -> None:
    reply = smollm2.chat(ASK, schema=Person, temperature=0, max_tokens=4)
    assert reply.finish_reason == "length" and reply.parsed is None and reply.text


TOOL = {"type": "function", "function": {"name": "look_up", "description": "Look a person up", "parameters": {
    "type": "object", "properties": {"name": {"enum": ["Ada", "Bob"]}}, "required": ["name"]}}}


def test_with_tools_it_is_a_call_or_the_object(smollm2: LLM) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    prompt = smollm2.render_chat(ASK, schema=schema, tools=[TOOL])
    assert not prompt.grammar_lazy and "look_up" in prompt.grammar and '\\"ok\\"' in prompt.grammar
    seen = set()
    for seed in range(12):
        reply = smollm2.chat(ASK, schema=schema, tools=[TOOL], temperature=1.5, seed=seed, max_tokens=60)
        if reply.tool_calls:
            assert reply.tool_calls[0].name == "look_up" and reply.tool_calls[0].error is None and reply.parsed is None
        elif reply.finish_reason == "stop":
            assert isinstance(reply.parsed["ok"], bool) and json.loads(reply.text) == reply.parsed
        seen.add(bool(reply.tool_calls))
    assert seen
    forced = smollm2.chat(ASK, schema=schema, tools=[TOOL], tool_choice="required", **QUICK)
    assert forced.tool_calls


def test_what_a_grammar_cannot_enforce_is_named_first(smollm2: LLM) -> None:
    before = smollm2.stats().requests
    for schema, path in (({"type": "object", "patternProperties": {"^a": {}}}, "patternProperties"),
                         ({"$ref": "#/nowhere"}, "nowhere"), ({"type": "array", "uniqueItems": True}, "uniqueItems")):
        with pytest.raises(SchemaError, match=path):
            smollm2.chat(ASK, schema=schema)
    assert smollm2.stats().requests == before


def test_what_excludes_each_other_is_told(smollm2: LLM) -> None:
    with pytest.raises(OptionError, match="exclude each other"):
        smollm2.chat(ASK, schema=Person, choices=["a", "b"])
    with pytest.raises((OptionError, GrammarError), match="grammar"):
        smollm2.chat(ASK, schema=Person, grammar='root ::= "a"')
    with pytest.raises(OptionError, match="ignore_eos"):
        smollm2.chat(ASK, schema=Person, ignore_eos=True)


def test_a_validator_of_the_users_own_has_the_last_word(smollm2: LLM) -> None:
    class Picky(pydantic.BaseModel):
        name: Literal["Ada", "Bob"]

        @pydantic.field_validator("name")
        @classmethod
        def never(cls, value: str) -> str:
            raise ValueError("I do not like it")

    with pytest.raises(SchemaError, match="I do not like it"):
        smollm2.chat(ASK, schema=Picky, **QUICK)


@pytest.mark.parametrize("prompt", ["Describe a baker.", "Say hello, and nothing else.", "Count to three."])
@pytest.mark.parametrize("banned", [{}, {"{": float("-inf"), "1": float("-inf")}], ids=["all tokens", "some banned"])
def test_the_short_way_to_the_likeliest_allowed_token_is_llama_cpps_own(smollm2: LLM, prompt: str, banned: dict[str, float]) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "ages": {"type": "array", "items": {"type": "integer"}}},
              "required": ["name", "ages"]}
    bias = {smollm2.model.tokenize(text, add_special=False)[-1]: value for text, value in banned.items()}
    options: dict[str, Any] = {"schema": schema, "temperature": 0, "max_tokens": 40, "logit_bias": bias}
    messages = [{"role": "user", "content": prompt}]
    # a penalty too small to change a number keeps the sampler from the short way
    assert smollm2.chat(messages, **options).tokens == smollm2.chat(messages, **options, presence_penalty=1e-30).tokens
