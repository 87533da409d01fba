"""Answers of a real model by schemas: what it comes to the end of is valid."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from gollama import LLM, Completion, Model, Schema, SchemaError, models
from gollama.chat.formatter import ChatFormatter
from gollama.chat.options import ChatOptions
from tests.support.gbnf import Grammar, Reference
from tests.support.schemas import schemas
from tests.unit.test_schemas import TYPES

PROMPT = "A JSON document about a small town, its people and its weather:\n\n"


OPEN = {"type": "object", "properties": {"a": {"type": "integer"}, "n": {"type": "number"}}, "additionalProperties": {"type": "string"}}


@pytest.mark.parametrize("asked", [{"schema": OPEN}, {"tools": [{"type": "function", "function": {"name": "t", "parameters": OPEN}}],
                                                      "tool_choice": "required"}], ids=["schema", "tool"])
def test_the_grammar_of_a_chat_admits_valid_json_only(asked: dict[str, Any]) -> None:
    with Model(models.fetch("smollm2")) as model:
        grammar = Grammar(ChatFormatter(model).format([{"role": "user", "content": "?"}], ChatOptions(**asked)).grammar)
    grammar.rules["root"] = Reference(next(name for name in grammar.rules if name.endswith("-schema")))
    for text, valid in ({'{"b":"x"}': True, '{"n":1e9}': True, r'{"\":"x"}': False, '{"n":1e999}': False, r'{"b":"\ud800"}': False,
                         r'{"\u0061":"x"}': False}).items():
        assert grammar.accepts(text) == valid
    for number in range(50):
        jsonschema.validate(json.loads(grammar.generate(Random(number))), OPEN)


def random_schemas(count: int) -> list[Any]:
    """The same ones each time, without those that are refused or say next to nothing."""
    found: dict[str, Any] = {}

    @seed(1)
    @settings(max_examples=15 * count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(schemas())
    def collect(schema: Any) -> None:
        try:
            text = json.dumps(Schema.of(schema).grammar_schema)
        except SchemaError:
            return
        if len(text) > 60:
            found.setdefault(text, schema)

    collect()
    return list(found.values())[:count]


def answers(llm: LLM, given: list[Schema]) -> list[Completion]:
    def answer(numbered: tuple[int, Schema]) -> Completion:
        number, schema = numbered
        return llm.generate(PROMPT, grammar=schema.grammar, temperature=1.0, seed=number, max_tokens=120)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(answer, enumerate(given)))


def check(llm: LLM, given: list[Any]) -> None:
    made = [Schema.of(schema) for schema in given]
    completions = answers(llm, made)
    finished = [(schema, completion.text) for schema, completion in zip(made, completions) if completion.finish_reason == "stop"]
    for schema, text in finished:
        schema.parse(text)
        jsonschema.validate(json.loads(text), schema.json_schema)
    assert len(finished) > 0.6 * len(given)


def test_answers_by_types_are_of_the_types(smollm2: LLM) -> None:
    check(smollm2, TYPES)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_answers_by_200_random_schemas_are_valid(smollm2: LLM) -> None:
    given = random_schemas(200)
    assert len(given) == 200
    check(smollm2, given)
