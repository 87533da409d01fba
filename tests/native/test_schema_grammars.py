"""Grammars of schemas are such as llama.cpp's sampler takes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from gollama import Model, Sampler, SamplingParams, Schema, SchemaError
from tests.support.schemas import schemas
from tests.unit.test_schema_grammars import PATTERNS
from tests.unit.test_schema_rules import REWRITTEN, nested
from tests.unit.test_schemas import TYPES


def take(model: Model, schema: Schema) -> None:
    Sampler(model, SamplingParams(grammar=schema.grammar)).close()


@pytest.mark.parametrize("given", [*(schema for schema, _ in REWRITTEN), *TYPES,
                                   *({"type": "string", "pattern": pattern} for pattern, _ in PATTERNS)], ids=str)
def test_the_grammar_of_a_schema_is_taken(tiny_model: Model, given: object) -> None:
    take(tiny_model, Schema.of(given))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(given=schemas())
def test_the_grammar_of_a_random_schema_is_taken(tiny_model: Model, given: object) -> None:
    try:
        schema = Schema.of(given)
    except SchemaError:
        return
    take(tiny_model, schema)


LARGE = [
    nested(64), {"type": "string", "minLength": 100_000}, {"type": "string", "maxLength": 100_000},
    {"properties": {f"name_{number}": {"type": "string", "maxLength": 5000} for number in range(100)}},
    {"type": "array", "items": {"type": "array", "minItems": 1000, "maxItems": 1000}, "minItems": 1000},
    {"type": "array", "items": {"type": "array", "items": {"type": "array", "maxItems": 999}, "maxItems": 999}, "maxItems": 999},
    {"enum": list(range(20_000))}, {"properties": {str(number): {} for number in range(400)}, "additionalProperties": True},
]


@pytest.mark.parametrize("given", LARGE, ids=lambda given: str(given)[:60])
def test_the_grammar_of_a_large_schema_is_taken(tiny_model: Model, given: object) -> None:
    take(tiny_model, Schema.of(given))
