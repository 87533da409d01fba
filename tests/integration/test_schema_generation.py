"""Answers of a real model by schemas: what it comes to the end of is valid."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from gollama import LLM, Completion, Schema, SchemaError
from tests.support.schemas import schemas
from tests.unit.test_schemas import TYPES

PROMPT = "A JSON document about a small town, its people and its weather:\n\n"


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
